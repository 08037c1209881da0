#!/usr/bin/env python3
"""A command once more in the folder of its run: what may change and what may not, how a run says its end, what a failed start leaves. Run by ctest (label e2e)."""
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

EVALUATED = dict(val_size="0.25", eval_strategy="steps", eval_steps=1, save_steps=1)
DIVERGING = dict(learning_rate=1, warmup_steps=0, lr_scheduler_type="constant")


class Again(tiny.Case):
    def train(self, out=None, **changes):
        return tiny.run(*self.arguments(out, **changes))

    def adapter(self, out=None):
        return ((out or self.out) / "adapter_model.safetensors").read_bytes()

    def test_the_oldest_checkpoint_goes_although_its_run_was_killed_before(self):
        """Between the last checkpoint and the removal of the oldest: the run is whole, and one checkpoint is too many."""
        arguments = tiny.train_arguments(self.model, self.data, self.work / "limited", max_steps=6, save_steps=2)
        self.good(tiny.run(*arguments))
        self.good(tiny.run(*arguments, "--save_total_limit", 2))
        self.assertEqual(sorted(path.name for path in (self.work / "limited").glob("checkpoint-*")), ["checkpoint-4", "checkpoint-6"])

    def test_a_finished_run_with_other_settings_is_refused(self):
        self.good(self.train())
        before = self.adapter()
        for key, was, now in [("learning_rate", "0.005", "0.001"), ("lora_rank", "4", "8"), ("seed", "42", "7"), ("weight_decay", "0.0", "0.1"),
                              ("lora_alpha", "8", "32"), ("lora_dropout", "0.0", "0.1"), ("lora_target", "all", "q_proj"), ("warmup_steps", "2.0", "3.0"),
                              ("lr_scheduler_type", "cosine", "linear"), ("per_device_train_batch_size", "2", "4"), ("gradient_accumulation_steps", "2", "1"),
                              ("bf16", "false", "true"), ("max_grad_norm", "1.0", "0.5"), ("use_dora", "false", "true"), ("bias", "none", "all"),
                              ("disable_shuffling", "false", "true"), ("finetuning_type", "lora", "freeze"), ("quantization_bit", "not set", "8"),
                              ("init_lora_weights", "true", "gaussian"), ("neftune_noise_alpha", "not set", "5.0"), ("rank_pattern", "not set", '{"q_proj": 2}')]:
            text = self.refused(self.train(**{key: now}), 2, f"output_dir {self.out}: its run is finished", f"{key} differs (was {was}, now {now})",
                                "overwrite_output_dir: true", "another output_dir")
            self.assertNotIn("damaged", text)
            self.assertNotIn("saved the", text)
        self.assertEqual(self.adapter(), before)
        self.assertIn("nothing left to do", self.good(self.train()))
        self.assertIn("saved the adapter", self.good(self.train(learning_rate="0.001", overwrite_output_dir="true")))
        self.assertNotEqual(self.adapter(), before)
        self.refused(self.train(), 2, "learning_rate differs (was 0.001, now 0.005)")

    def test_the_same_in_other_words_has_nothing_left_to_do(self):
        self.good(self.train(lora_target="q_proj,v_proj", warmup_steps="0.25"))
        same = dict(lora_target="q_proj, v_proj", warmup_steps=0, warmup_ratio="0.25", lora_alpha=8, data_seed=42, optim="adamw_torch", num_train_epochs=9, tinit=3,
                    logging_steps=3, plot_loss="true", memory_limit="4GB")
        text = self.good(self.train(**same))
        self.assertIn("nothing left to do", text)
        self.assertIn("logging_steps differs (was 1.0, now 3.0)", text)
        self.assertTrue((self.out / "training_loss.png").exists())

    def test_other_data_and_another_base(self):
        self.good(self.train())
        info = json.loads((self.data / "dataset_info.json").read_text())
        shutil.copy(self.data / "rows.jsonl", self.data / "same.jsonl")
        (self.data / "less.jsonl").write_text("".join((self.data / "rows.jsonl").read_text().splitlines(True)[:20]))
        info |= {name: info["rows"] | {"file_name": name + ".jsonl"} for name in ("same", "less")}
        (self.data / "dataset_info.json").write_text(json.dumps(info))
        self.assertIn("nothing left to do", self.good(self.train(dataset="same")))  # the rows are the same
        self.refused(self.train(dataset="less"), 2, "other data: dataset differs (was rows, now less)", "output_dir")
        moved = self.work / "moved"
        shutil.copytree(self.model, moved)
        self.assertIn("nothing left to do", self.good(self.train(model_name_or_path=moved)))
        other = tiny.write_model(self.work / "other", seed=2)
        self.refused(self.train(model_name_or_path=other), 2, "another base than", str(other), "overwrite_output_dir")

    def test_a_longer_run_goes_on_and_a_shorter_one_is_refused(self):
        self.good(self.train())
        self.refused(self.train(max_steps=8), 2, "is at update 12", "max_steps asks for 8", "overwrite_output_dir")
        text = self.good(self.train(max_steps=14, save_steps=7))
        for words in ("resuming from", "max_steps differs (was 12, now 14)", "save_steps differs (was 500.0, now 7.0)"):
            self.assertIn(words, text)
        self.assertEqual(json.loads((self.out / "trainer_state.json").read_text())["global_step"], 14)

    def test_an_unfinished_run_goes_on_with_what_it_began_with(self):
        settings = dict(max_steps=4000, logging_steps=50)
        process = subprocess.Popen([tiny.program, *map(str, self.arguments(**settings))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log = self.out / "trainer_log.jsonl"
        for _ in range(1000):
            if log.exists() and log.read_text():
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 75)
        text = self.refused(self.train(learning_rate="1e-3", **settings), 2, "its run is at update ", " of 4000, and learning_rate differs", "adapter_name_or_path: ")
        checkpoint = str(next(self.out.glob("checkpoint-*")))
        self.assertIn(checkpoint, text)
        self.refused(self.train(self.work / "elsewhere", resume_from_checkpoint=checkpoint, learning_rate="1e-3", **settings), 2,
                     f"resume_from_checkpoint {checkpoint}", "learning_rate differs")
        self.assertFalse((self.work / "elsewhere").exists())
        self.assertIn("resuming from", self.good(self.train(**settings)))

    def test_a_finished_run_without_checkpoints(self):
        self.good(self.train(save_strategy="no"))
        self.refused(self.train(save_strategy="no"), 2, "is finished and kept no checkpoint", "overwrite_output_dir")
        self.refused(self.train(save_strategy="no", lora_rank=2), 2, "is finished and kept no checkpoint", "lora_rank differs (was 4, now 2)")
        self.good(self.train(save_strategy="no", lora_rank=2, overwrite_output_dir="true"))

    def test_early_stopping_says_why_and_where_the_best_is(self):
        settings = EVALUATED | DIVERGING | dict(early_stopping_steps=2)
        text = self.good(self.train(**settings))
        state = json.loads((self.out / "trainer_state.json").read_text())
        best, end = state["best_global_step"], state["global_step"]
        self.assertLess(end, 12)
        self.assertIn(f"early stopping: 2 evaluations without a gain (early_stopping_steps: 2); the best eval_loss was {state['best_metric']:.4f}, at step {best}, "
                      f"and the run ends at step {end} of 12", text)
        self.assertIn(f"the adapter of step {end} is saved", text)
        self.assertIn(f"the best was that of step {best} ({state['best_metric']:.4f}): it is in {self.out}/checkpoint-{best}", text)
        before = self.adapter()
        again = self.good(self.train(**settings))
        self.assertIn("nothing left to do", again)
        self.assertEqual(self.adapter(), before)
        kept = self.good(self.train(**settings, load_best_model_at_end="true"))  # of the same run, without another update
        self.assertIn(f"the adapter of step {best} is saved, the best by eval_loss", kept)
        self.assertEqual(self.adapter(), (self.out / f"checkpoint-{best}/adapter_model.safetensors").read_bytes())
        more = self.good(self.train(**settings | dict(early_stopping_steps=5)))
        self.assertGreater(json.loads((self.out / "trainer_state.json").read_text())["global_step"], end)
        self.assertIn("early_stopping_steps differs (was 2, now 5)", more)

    def test_without_checkpoints_the_end_says_how_to_get_the_best(self):
        text = self.good(self.train(**EVALUATED | DIVERGING | dict(save_strategy="no")))
        self.assertIn("the best was that of step", text)
        self.assertIn("set load_best_model_at_end: true", text)
        self.assertNotIn("early stopping", text)

    def test_a_run_that_diverges_says_so_once(self):
        (self.data / "rows.jsonl").write_text(json.dumps({"input_ids": [5, 6, 7, 8, 9, 10], "labels": [5, 6, 7, 8, 9, 10]}) + "\n")
        base = self.work / "base"  # it knows the one row
        self.good(self.train(base, finetuning_type="full", max_steps=80))
        text = self.good(self.train(model_name_or_path=base, max_steps=30, **DIVERGING))
        self.assertEqual(text.count("the run diverges; lower learning_rate (now 1.00e+00)"), 1, text)
        calm = self.good(self.train(self.work / "calm", model_name_or_path=base, max_steps=30))
        self.assertNotIn("diverges", calm)
        self.assertNotIn("the loss begins at", calm)

    def test_a_warm_up_that_cannot_end(self):
        self.assertIn("warning: the warm-up (warmup_steps 50) is as long as the run of 12 updates or longer", self.good(self.train(warmup_steps=50)))
        text = self.good(self.train(self.work / "constant", lr_scheduler_type="constant"))
        self.assertIn("lr_scheduler_type constant has no warm-up, so warmup_steps 2 has no effect; constant_with_warmup has one", text)
        self.assertIn("leave one of the two out", self.good(self.train(self.work / "both", warmup_ratio="0.1")))
        self.refused(self.train(self.work / "strict", warmup_steps=50, strict="true"), 2, "the warm-up")

    def test_a_start_that_fails_leaves_no_folder(self):
        (self.data / "bad.jsonl").write_text("{\n")
        info = json.loads((self.data / "dataset_info.json").read_text())
        (self.data / "dataset_info.json").write_text(json.dumps(info | {"bad": info["rows"] | {"file_name": "bad.jsonl"}}))
        out = self.work / "new" / "folder"
        for code, changes in [(3, dict(model_name_or_path=self.work / "nowhere")), (3, dict(dataset="bad")), (2, dict(lora_target="nothing")),
                              (4, dict(memory_limit="1MiB")), (2, dict(dataset="rows,unknown")), (2, dict(learning_rat=1))]:
            with self.subTest(**changes):
                self.refused(self.train(out, **changes), code)
                self.assertFalse((self.work / "new").exists())
        self.out.mkdir()
        self.refused(self.train(lora_target="nothing"), 2)
        self.assertTrue(self.out.exists())  # it was there before
        self.good(self.train())
        changes = dict(memory_limit="1MiB", overwrite_output_dir="true")
        self.refused(self.train(**changes), 4)
        self.assertTrue((self.out / "adapter_model.safetensors").exists())

    def test_a_run_that_fails_at_its_first_step_leaves_no_folder(self):
        self.refused(self.train(learning_rate="1e6", lr_scheduler_type="constant", warmup_steps=0, adam_epsilon=0), 5, "not finite")
        self.assertFalse(self.out.exists())

    def test_the_memory_of_a_run_in_two_words_and_one_unit(self):
        text = self.good(self.train())
        self.assertRegex(text, r"(?m)^memory forecast: \d+ MiB$")
        self.assertRegex(text, r"(?m)^peak memory: \d+ MiB \(measured, the saving included; the forecast was \d+ MiB\)$")
        self.assertNotRegex(text, r"\d [KG]iB")
        peak = json.loads((self.out / "all_results.json").read_text())["peak_memory_bytes"] / 2**20
        shown = int(text.split("peak memory: ")[1].split()[0])
        self.assertLess(abs(shown - peak), 4)


unittest.main()
