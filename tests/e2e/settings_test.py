#!/usr/bin/env python3
"""What settings and data are taken for, and what is refused: evaluations, resuming, ranges, empty files, words without effect. Run by ctest (label e2e)."""
import json
import pathlib
import re
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Settings(tiny.Case):
    def train(self, out=None, **changes):
        return tiny.run(*self.arguments(out, **changes))

    def log(self, key, out=None):
        lines = [json.loads(line) for line in ((out or self.out) / "trainer_log.jsonl").read_text().splitlines()]
        return [line["current_steps"] for line in lines if key in line]

    def adapter(self, out):
        return (out / "adapter_model.safetensors").read_bytes()

    def test_the_last_update_is_evaluated(self):
        """24 rows, a quarter kept: 5 updates an epoch. The updates at which transformers 5 evaluates."""
        for label, settings, expected in [
            ("beyond", dict(eval_strategy="steps", eval_steps=500), [12]),
            ("no_multiple", dict(eval_strategy="steps", eval_steps=5), [5, 10, 12]),
            ("multiple", dict(eval_strategy="steps", eval_steps=4), [4, 8, 12]),
            ("by_logging_steps", dict(eval_strategy="steps", logging_steps=7), [7, 12]),
            ("epoch", dict(eval_strategy="epoch"), [5, 10, 12]),
            ("whole_epochs", dict(eval_strategy="epoch", max_steps=-1, num_train_epochs=2), [5, 10]),
            ("at_the_start", dict(eval_strategy="epoch", eval_on_start="true", max_steps=3), [0, 3]),
        ]:
            with self.subTest(label):
                out = self.work / label
                self.good(self.train(out, val_size="0.25", **settings))
                self.assertEqual(self.log("eval_loss", out), expected)

    def test_the_last_evaluation_may_be_the_best(self):
        self.good(self.train(val_size="0.25", eval_strategy="steps", eval_steps=8, save_steps=8, load_best_model_at_end="true", plot_loss="true"))
        state = json.loads((self.out / "trainer_state.json").read_text())
        losses = {entry["step"]: entry["eval_loss"] for entry in state["log_history"] if "eval_loss" in entry}
        self.assertEqual(list(losses), [8, 12])
        best = min(losses, key=losses.get)
        self.assertTrue(state["best_model_checkpoint"].endswith(f"checkpoint-{best}"))
        self.assertTrue((self.out / "training_eval_loss.png").exists())

    def test_the_rate_falls_where_the_loss_does_not(self):
        settings = dict(val_size="0.25", learning_rate=0, lr_scheduler_type="reduce_lr_on_plateau", lr_scheduler_kwargs='{"patience": 0, "factor": 0.5, "eps": 0}')
        self.refused(self.train(**settings), 2, "reduce_lr_on_plateau", "eval_strategy")
        self.good(self.train(eval_strategy="steps", eval_steps=4, eval_on_start="true", **settings | dict(learning_rate="1e-12")))
        lines = [json.loads(line) for line in (self.out / "trainer_log.jsonl").read_text().splitlines()]
        rates = [line["lr"] for line in lines if "lr" in line]
        self.assertEqual(rates, [1e-12] * 8 + [5e-13] * 4)  # the evaluation before the first update has no say

    def test_a_set_without_rows_is_named(self):
        (self.data / "none.jsonl").write_text("")
        (self.data / "list.json").write_text("[]")
        info = json.loads((self.data / "dataset_info.json").read_text())
        info |= {"none": {"file_name": "none.jsonl", "formatting": "tokenized"}, "list": {"file_name": "list.json"}}
        (self.data / "dataset_info.json").write_text(json.dumps(info))
        for words, file in [(dict(eval_dataset="none"), "none.jsonl"), (dict(dataset="rows,none"), "none.jsonl"), (dict(dataset="list,rows"), "list.json"),
                            (dict(eval_dataset="none", load_best_model_at_end="true", eval_strategy="steps", save_steps=1), "none.jsonl")]:
            self.refused(self.train(**words), 3, file, "no rows")
        self.refused(tiny.run("eval", "--model_name_or_path", self.model, "--dataset_dir", self.data, "--eval_dataset", "none", "--output_dir", self.out),
                     3, "none.jsonl", "no rows")
        (self.data / "none.jsonl").write_text('{"input_ids": "no"}\n')
        self.refused(self.train(eval_dataset="none", skip_bad_rows=1), 3, "none.jsonl", "none of 1 rows can be evaluated on")

    def test_rows_that_teach_nothing_are_told(self):
        with open(self.data / "rows.jsonl", "a") as file:
            file.write(json.dumps({"input_ids": [5, 6, 7], "labels": [-100] * 3}) + "\n")
            file.write(json.dumps({"input_ids": [5, 6, 7], "labels": [5, -100, -100]}) + "\n")  # the first token is not predicted
        text = self.good(self.train())
        self.assertIn("2 of 26 rows of the training data hold no trained token", text)
        self.assertEqual(json.loads((self.out / "all_results.json").read_text())["num_untrained"], 2)
        self.refused(self.train(self.work / "strict", strict="true"), 2, "hold no trained token")

    def test_a_set_counts_once(self):
        text = self.good(self.train(dataset="rows,rows"))
        self.assertIn("rows more than once", text)
        once = self.work / "once"
        self.assertNotIn("more than once", self.good(self.train(once)))
        self.assertEqual(self.adapter(self.out), self.adapter(once))

    def test_the_ratio_of_warm_up_counts(self):
        text = self.good(self.train(warmup_steps=5, warmup_ratio="0.25"))
        self.assertIn("the ratio counts", text)
        once = self.work / "once"
        self.assertNotIn("the ratio counts", self.good(self.train(once, warmup_steps=0, warmup_ratio="0.25")))
        self.assertEqual(self.adapter(self.out), self.adapter(once))

    def test_words_without_effect_are_told(self):
        text = self.good(self.train(lora_target="q_proj,v_prj,lm_head", rank_pattern='{"q_prj": 2, "q_proj": 2}', exclude_modules="o_poj,k_proj"))
        for word in ("lora_target: no module of the model answers to 'v_prj'", "did you mean 'v_proj'", "rank_pattern: no module of the model answers to 'q_prj'",
                     "exclude_modules: no module of the model answers to 'o_poj'"):
            self.assertIn(word, text)
        self.assertEqual(len(re.findall("answers to", text)), 3)
        self.assertIn("answers to '2'", self.good(self.train(self.work / "layers", layers_to_transform="1,2")))
        self.assertNotIn("answers to", self.good(self.train(self.work / "all", lora_target="all")))
        self.refused(self.train(self.work / "strict", lora_target="q_proj,v_prj", strict="true"), 2, "v_prj")
        self.refused(self.train(self.work / "wrong", lora_target="v_prj"), 2, "v_prj", "matches no linear layer")

    def test_resuming_by_yes_and_no(self):
        whole = self.work / "whole"
        self.good(self.train(whole, save_steps=4, lr_scheduler_type="constant"))
        self.refused(self.train(resume_from_checkpoint="true"), 2, "resume_from_checkpoint is true", "no checkpoint")
        common = dict(save_steps=4, lr_scheduler_type="constant")
        self.good(self.train(max_steps=4, **common))
        self.refused(self.train(resume_from_checkpoint="False", **common), 2, "resume_from_checkpoint is false", "overwrite_output_dir")
        text = self.good(self.train(resume_from_checkpoint=1, overwrite_output_dir="true", **common))
        self.assertIn("resuming from", text)
        self.assertEqual(self.adapter(whole), self.adapter(self.out))
        self.good(self.train(resume_from_checkpoint=0, overwrite_output_dir="true", **common))
        self.assertEqual(self.log("loss"), list(range(1, 13)))

    def test_a_finished_run_has_nothing_left_to_do(self):
        self.good(self.train(save_steps=6))
        before = {path.name: path.read_bytes() for path in self.out.iterdir() if path.is_file() and path.name not in ("README.md", "all_results.json", ".loraine.lock")}
        results = json.loads((self.out / "all_results.json").read_text())
        (self.out / "adapter_model.safetensors").unlink()
        text = self.good(self.train(save_steps=6))
        self.assertIn("nothing left to do", text)
        for name, content in before.items():
            self.assertEqual((self.out / name).read_bytes(), content, name)
        again = json.loads((self.out / "all_results.json").read_text())
        self.assertEqual({key: value for key, value in again.items() if key != "peak_memory_bytes"},
                         {key: value for key, value in results.items() if key != "peak_memory_bytes"})
        self.assertNotIn("nothing left to do", self.good(self.train(save_steps=6, max_steps=14)))

    def test_numbers_out_of_range_name_their_key(self):
        for key, value in [("num_train_epochs", ".inf"), ("num_train_epochs", "1e30"), ("num_train_epochs", ".nan"), ("warmup_ratio", "1.5"), ("adam_beta1", "1.0"),
                           ("adam_beta2", "1"), ("adam_beta1", "-0.1"), ("learning_rate", ".inf"), ("max_grad_norm", ".inf"), ("val_size", "1.0"), ("val_size", "1.5"),
                           ("max_steps", "1e18"), ("per_device_train_batch_size", "9223372036854775807"), ("seed", "4294967296"), ("lora_dropout", "1"),
                           ("logging_steps", "2.5"), ("logging_steps", "0"), ("freeze_trainable_layers", "-9223372036854775808"), ("cutoff_len", "1e10"),
                           ("weight_decay", ".nan"), ("temperature", ".inf"), ("quantization_bit", "3")]:
            for words in (["--" + key, value.lstrip(".")], [f"{key}={value}"]):
                self.refused(tiny.run(*self.arguments(max_steps=-1), *words), 2, key + " is", "expected")
        settings = self.work / "run.json"
        settings.write_text('{"learning_rate": 1e999}')
        self.refused(tiny.run("train", settings, *self.arguments()[1:]), 2, "run.json", "1.8e308")
        (self.data / "dataset_info.json").write_text('{"rows": {"file_name": "rows.jsonl", "num_samples": 1e999}}')
        self.refused(self.train(self.work / "samples"), 3, "dataset_info.json", "1.8e308")
        self.assertFalse(self.out.exists())
        for command, words in [("chat", ["top_p=1.5"]), ("chat", ["max_new_tokens=1e300"]), ("export", ["export_size=.inf", "export_dir=x"]), ("eval", ["n_shot=-1"]),
                               ("eval", ["ppl_stride=1e19"]), ("eval", ["quantization_bit=5", "eval_dataset=rows"]), ("bench", ["repeats=1e9"]),
                               ("compare", ["learning_rate=[.nan,1e-4]", "dataset=rows", f"output_dir={self.out}"]), ("trace", ["temperature=-1"])]:
            key = words[0].split("=")[0]
            self.refused(tiny.run(command, *words, f"model_name_or_path={self.model}"), 2, key + " is", "expected")

    def test_one_row_or_all(self):
        self.good(self.train(val_size=1, eval_strategy="epoch", max_steps=2))
        self.assertRegex(self.refused(self.train(self.work / "unclear", val_size="1.0", eval_strategy="epoch"), 2, "val_size is '1.0'"), "1 for one, or a share")

    def test_yes_and_no_in_every_spelling(self):
        file = self.work / "run.yaml"
        for label, text in [("yaml", "include_num_input_tokens_seen: true\ndisable_shuffling: 1\nstreaming: 0\npush_to_hub: no\ngradient_checkpointing: yes\n"),
                            ("off", "include_num_input_tokens_seen: 0\ndisable_shuffling: 'False'\n"), ("words", "include_num_input_tokens_seen: non_padding\n")]:
            file.write_text(text)
            self.good(tiny.run("train", file, *self.arguments(self.work / label)[1:]))
            counted = "num_input_tokens_seen" in json.loads((self.work / label / "train_results.json").read_text())
            self.assertEqual(counted, label != "off")
        self.good(tiny.run(*self.arguments(self.work / "flags"), "--include_num_input_tokens_seen", "True", "--disable_shuffling", "1", "--streaming", "0",
                           "--no_gradient_checkpointing", "--plot_loss", "f"))
        self.assertIn("num_input_tokens_seen", json.loads((self.work / "flags" / "train_results.json").read_text()))


unittest.main()
