#!/usr/bin/env python3
"""Training from preferences end to end: stages dpo, kto and rm with every loss; resumed runs are the same runs; what the reference is; scores of a
reward model; what is logged, drawn and refused. Run by ctest (label e2e)."""
import json
import math
import os
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import tiny_model as tiny
from preference_rows import write_preferences, write_set
from serve_test import Server

stages = {
    "sigmoid": dict(stage="dpo"), "smooth_ftx": dict(stage="dpo", dpo_label_smoothing=0.1, pref_ftx=0.5), "hinge": dict(stage="dpo", pref_loss="hinge"), "ipo": dict(stage="dpo", pref_loss="ipo"),
    "orpo": dict(stage="dpo", pref_loss="orpo"), "simpo": dict(stage="dpo", pref_loss="simpo", pref_beta=2), "ld_bco": dict(stage="dpo", ld_alpha=0.5, pref_bco_weight=0.4),
    "kto": dict(stage="kto", dataset="judged", kto_rejected_weight=1.4, pref_ftx=0.3), "rm": dict(stage="rm"),
}
pair_figures = {f"{part}/{side}" for part in ("rewards", "logps", "logits") for side in ("chosen", "rejected")} | {"rewards/margins"}


class Preferences(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        write_preferences(self.data, 24, 8)

    def arguments(self, out, **settings):
        shown = dict(dataset="prefer", template="default", lr_scheduler_type="constant", learning_rate="1e-2", warmup_steps=0) | settings
        return tiny.train_arguments(self.model, self.data, self.work / out, **shown)

    def train(self, out, **settings):
        return self.good(tiny.run(*self.arguments(out, **settings)))

    def log(self, out, key="loss"):
        return [entry for entry in json.loads((self.work / out / "trainer_state.json").read_text())["log_history"] if key in entry]

    def values(self, out, name="adapter_model.safetensors"):
        return tiny.read_safetensors(self.work / out / name)

    def test_every_loss_learns(self):
        for name, settings in stages.items():
            with self.subTest(name):
                self.train(name, num_train_epochs=6, max_steps=-1, **settings)
                log = self.log(name)
                first, last = (sum(entry["loss"] for entry in part) / 6 for part in (log[:6], log[-6:]))
                self.assertLess(last, first)
                if settings["stage"] == "dpo":
                    self.assertLessEqual(pair_figures | {"rewards/accuracies"}, set(log[0]))
                    self.assertEqual("odds_ratio_loss" in log[0], name == "orpo")
                    self.assertGreater(log[-1]["rewards/margins"], log[0]["rewards/margins"])
                if settings["stage"] == "kto":
                    self.assertLessEqual(pair_figures | {"kl"}, set(log[0]))
                if settings["stage"] == "rm":
                    self.assertEqual({key.split("/")[0] for key in log[0]}, {"loss", "grad_norm", "learning_rate", "epoch", "step"})

    def test_a_reference_starts_where_the_policy_does(self):
        self.train("start", max_steps=1, dpo_label_smoothing=0, stage="dpo")
        first = self.log("start")[0]
        self.assertAlmostEqual(first["loss"], math.log(2), delta=1e-6)
        self.assertEqual((first["rewards/accuracies"], round(first["rewards/margins"], 6)), (0, 0))

    def test_resumed_run_is_the_same_run(self):
        for name, settings in stages.items():
            with self.subTest(name):
                settings = settings | dict(save_steps=5, logging_steps=3, plot_loss="true")  # a line is begun before the checkpoint and ended behind it
                part = self.resumed(self.train, name, **settings)
                for file in ("adapter_model.safetensors", "value_head.safetensors") if name == "rm" else ("adapter_model.safetensors",):
                    self.assertEqual(self.values(f"{name}_whole", file), self.values(f"{name}_part", file))
                self.assertEqual(self.log(f"{name}_whole"), self.log(f"{name}_part"))
                curve = {"dpo": "rewards_accuracies", "kto": "rewards_chosen", "rm": "loss"}[settings["stage"]]
                self.assertTrue((part / f"training_{curve}.png").exists())

    def test_accumulation_is_a_larger_batch(self):
        for name in ("sigmoid", "hinge", "ipo", "orpo", "simpo", "rm"):
            with self.subTest(name):
                settings = stages[name] | dict(max_steps=4, disable_shuffling="true")
                if name == "rm":
                    self.without_dropout()
                self.train(f"{name}_4x1", per_device_train_batch_size=4, gradient_accumulation_steps=1, **settings)
                self.train(f"{name}_1x4", per_device_train_batch_size=1, gradient_accumulation_steps=4, **settings)
                for one, other in zip(self.log(f"{name}_4x1"), self.log(f"{name}_1x4")):
                    self.assertAlmostEqual(one["loss"], other["loss"], delta=1e-4 * abs(one["loss"]))

    def without_dropout(self):
        config = json.loads((self.model / "config.json").read_text())
        (self.model / "config.json").write_text(json.dumps(config | dict(summary_dropout_prob=0.0)))

    def test_shared_prompts_change_nothing(self):
        for name, settings in stages.items():
            with self.subTest(name):
                settings = settings | dict(max_steps=6, per_device_train_batch_size=4, val_size=4, eval_strategy="steps", eval_steps=6)
                self.train(f"{name}_apart", share_prefixes="false", **settings)
                said = self.train(f"{name}_shared", **settings)
                results = json.loads((self.work / f"{name}_shared/all_results.json").read_text())
                self.assertIn(f"{results['train_tokens_computed']} of {results['train_tokens']} tokens were computed", said)
                self.assertLess(results["train_tokens_computed"], 0.8 * results["train_tokens"])
                self.assertNotIn("train_tokens", json.loads((self.work / f"{name}_apart/all_results.json").read_text()))
                first, other = (self.log(f"{name}_{kind}")[0] for kind in ("shared", "apart"))  # from the same weights
                for key in ("loss", "grad_norm"):
                    self.assertAlmostEqual(first[key], other[key], delta=1e-6 * abs(other[key]))
                for one, other in zip(self.log(f"{name}_shared") + self.log(f"{name}_shared", "eval_loss"), self.log(f"{name}_apart") + self.log(f"{name}_apart", "eval_loss")):
                    self.assertEqual(set(one), set(other))
                    for key in {"loss", "eval_loss"} & set(one):
                        self.assertAlmostEqual(one[key], other[key], delta=1e-5 * abs(other[key]))

    def test_shared_prompts_on_any_number_of_threads(self):
        threads = os.environ.get("OMP_NUM_THREADS")
        try:
            for n in ("1", "2", "3"):
                os.environ["OMP_NUM_THREADS"] = n
                for name in ("sigmoid", "kto"):
                    self.train(f"{name}_{n}", max_steps=4, **stages[name])
                    self.assertEqual(self.values(f"{name}_{n}"), self.values(f"{name}_1"))
        finally:
            os.environ.pop("OMP_NUM_THREADS") if threads is None else os.environ.update(OMP_NUM_THREADS=threads)

    def test_shared_system_texts(self):
        system = "you are one who says no more than is asked"
        rows = [dict(instruction=f"say {word}", output=word, system=system) for word in ("abc", "bcd", "cde", "def", "efg", "fgh", "gha", "hab")]
        write_set(self.data, "ruled", rows, columns=dict(prompt="instruction", response="output", system="system"))
        settings = dict(stage="sft", dataset="ruled", max_steps=4, per_device_train_batch_size=4, gradient_accumulation_steps=1)
        self.assertNotIn("tokens were computed", self.train("plain", **settings))  # not by default
        for name, more in (("shared", {}), ("packed", dict(neat_packing="true", cutoff_len=256)), ("prompts", dict(train_on_prompt="true"))):
            with self.subTest(name):
                self.train(f"{name}_apart", **settings | more)
                self.train(name, share_prefixes="true", **settings | more)
                results = json.loads((self.work / f"{name}/all_results.json").read_text())
                share = results["train_tokens_computed"] / results["train_tokens"]
                self.assertEqual(share, 1) if name == "prompts" else self.assertLess(share, 0.6)
                for one, other in zip(self.log(name), self.log(f"{name}_apart")):
                    self.assertAlmostEqual(one["loss"], other["loss"], delta=1e-5 * other["loss"])
        for more, word in ((dict(lora_dropout=0.1), "lora_dropout"), (dict(neftune_noise_alpha=5), "neftune_noise_alpha")):
            self.refused(tiny.run(*self.arguments("refused", share_prefixes="true", **settings | more)), 2, "share_prefixes", word)

    def test_over_other_bases_and_with_other_methods(self):
        kinds = {"qlora": dict(quantization_bit=4), "int8": dict(quantization_bit=8), "dora": dict(use_dora="true"), "qdora": dict(quantization_bit=4, use_dora="true"),
                 "whole": dict(additional_target="lm_head,norm"), "head": dict(lora_target="q_proj,lm_head"), "bf16": dict(bf16="true"), "full": dict(finetuning_type="full", learning_rate="2e-3"),
                 "freeze": dict(finetuning_type="freeze", freeze_trainable_layers=1), "recomputed": dict(gradient_checkpointing="true"), "dropout": dict(lora_dropout=0.3)}
        for name in ("sigmoid", "orpo", "kto", "rm"):
            for kind, settings in kinds.items():
                with self.subTest(f"{name}, {kind}"):
                    out = f"{name}_{kind}"
                    self.train(out, **stages[name] | settings | dict(max_steps=8, val_size=4, eval_strategy="steps", eval_steps=8))
                    log = self.log(out)
                    self.assertTrue(all(math.isfinite(entry["loss"]) for entry in log))
                    evaluated = self.log(out, "eval_loss")[-1]
                    if name == "rm":
                        self.assertIn(evaluated["eval_accuracy"], (0, 0.25, 0.5, 0.75, 1))
                    else:
                        self.assertLessEqual({f"eval_{figure}" for figure in pair_figures if name != "kto"}, set(evaluated))
                    if name == "sigmoid":  # whatever trains, the base is the reference
                        self.assertAlmostEqual(log[0]["loss"], math.log(2), delta=1e-3 if kind == "bf16" else 1e-6)
        for name in ("sigmoid", "orpo", "kto"):  # which switch dropout off
            self.train(f"{name}_plain", **stages[name] | dict(max_steps=8, val_size=4, eval_strategy="steps", eval_steps=8))
            self.assertEqual(self.log(f"{name}_plain"), self.log(f"{name}_dropout"))
            self.assertEqual(json.loads((self.work / f"{name}_dropout/adapter_config.json").read_text())["lora_dropout"], 0.3)

    def test_another_reference(self):
        self.train("sft", stage="sft", dataset="rows", learning_rate="5e-2")
        self.train("plain", stage="dpo", max_steps=3)
        self.train("same", stage="dpo", max_steps=3, ref_model=self.model)
        self.assertEqual(self.log("plain"), self.log("same"))
        self.train("other", stage="dpo", max_steps=3, ref_model=self.model, ref_model_adapters=self.work / "sft")
        self.assertNotAlmostEqual(self.log("other")[0]["rewards/chosen"], 0, delta=1e-3)
        # a run that goes on from the adapter, against that adapter: it starts even
        self.train("on", stage="dpo", max_steps=3, adapter_name_or_path=self.work / "sft", ref_model=self.model, ref_model_adapters=self.work / "sft")
        self.assertAlmostEqual(self.log("on")[0]["loss"], math.log(2), delta=1e-5)
        self.train("coarse", stage="kto", dataset="judged", max_steps=3, ref_model=self.model, ref_model_quantization_bit=4)
        other = tiny.write_model(self.work / "larger", vocab=80)
        self.refused(tiny.run(*self.arguments("no", stage="dpo", ref_model=other)), 3, "vocabulary of 80", "ref_model")

    def test_reward_model(self):
        write_set(self.data, "held", json.loads((self.data / "prefer.json").read_text())[:6], ranking=True, columns=dict(prompt="instruction", chosen="chosen", rejected="rejected"))
        self.train("reward", stage="rm", num_train_epochs=6, max_steps=-1, eval_dataset="held", do_eval="true", do_predict="true")
        out = self.work / "reward"
        head = self.values("reward", "value_head.safetensors")
        self.assertEqual({name: shape for name, (shape, _) in head.items()}, {"v_head.summary.weight": [1, tiny.channels], "v_head.summary.bias": [1]})
        results = {name: json.loads((out / f"{name}_results.json").read_text()) for name in ("eval", "predict", "all")}
        lines = [json.loads(line) for line in (out / "generated_predictions.jsonl").read_text().splitlines()]
        self.assertEqual((len(lines), set(lines[0])), (6, {"chosen", "rejected"}))
        self.assertEqual(results["predict"]["predict_accuracy"], results["eval"]["eval_accuracy"])
        self.assertEqual(results["all"]["predict_accuracy"], sum(line["chosen"] > line["rejected"] for line in lines) / 6)
        self.assertGreater(results["all"]["predict_accuracy"], 0.6)
        # the same from its folder, and from the merged model
        asked = ["--dataset_dir", self.data, "--eval_dataset", "held", "--stage", "rm", "--template", "default", "--do_predict", "true"]
        self.good(tiny.run("eval", "--model_name_or_path", self.model, "--adapter_name_or_path", out, *asked, "--output_dir", self.work / "again"))
        self.assertEqual((self.work / "again/generated_predictions.jsonl").read_text(), (out / "generated_predictions.jsonl").read_text())
        again = json.loads((self.work / "again/eval_results.json").read_text())
        self.assertAlmostEqual(again["eval_loss"], results["eval"]["eval_loss"], delta=1e-6)
        self.assertIn("eval_accuracy", again["intervals"])
        self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--template", "default", "--export_dir", self.work / "merged"))
        self.good(tiny.run("eval", "--model_name_or_path", self.work / "merged", *asked, "--output_dir", self.work / "third"))
        third = [json.loads(line) for line in (self.work / "third/generated_predictions.jsonl").read_text().splitlines()]
        for one, other in zip(lines, third):
            self.assertAlmostEqual(one["chosen"], other["chosen"], delta=0.02)
        # training goes on with the head that is there
        self.train("on", stage="rm", max_steps=1, adapter_name_or_path=out, lr_scheduler_type="constant_with_warmup", warmup_steps=1)  # at rate 0
        self.assertEqual(self.values("on", "value_head.safetensors"), head)
        self.refused(tiny.run("eval", "--model_name_or_path", self.model, *asked, "--output_dir", self.work / "none"), 3, "value_head.safetensors", "stage: rm")
        (out / "value_head.safetensors").write_bytes((self.work / "merged/value_head.safetensors").read_bytes()[:40])
        self.refused(tiny.run("eval", "--model_name_or_path", self.model, "--adapter_name_or_path", out, *asked, "--output_dir", self.work / "none"), 3, "value_head.safetensors")

    def test_scores_over_http(self):
        self.train("reward", stage="rm", max_steps=8, eval_dataset="prefer", do_predict="true")
        server = Server(self.work, "--model_name_or_path", self.model, "--adapter_name_or_path", f"reward={self.work / 'reward'}", "--template", "default")
        try:
            lines = [json.loads(line) for line in (self.work / "reward/generated_predictions.jsonl").read_text().splitlines()]
            rows = json.loads((self.data / "prefer.json").read_text())[:6]
            texts = []
            for row in rows:
                _, _, reply = server.ask("POST", "/apply-template", {"model": "reward", "messages": [{"role": "user", "content": row["instruction"]}]})
                texts += [reply["prompt"] + row[side] + "</s>" for side in ("chosen", "rejected")]
            status, _, reply = server.ask("POST", "/v1/score/evaluation", {"model": "reward", "messages": texts})
            self.assertEqual((status, reply["object"], reply["model"], reply["id"][:10]), (200, "score.evaluation", "reward", "scoreval-" + reply["id"][9]), reply)
            for i, line in enumerate(lines[:6]):
                for side, score in zip(("chosen", "rejected"), reply["scores"][2 * i:]):
                    self.assertAlmostEqual(score, line[side], delta=0.00501)
            ask = lambda **body: server.ask("POST", "/v1/score/evaluation", {"model": "reward"} | body)
            whole, cut, short = (ask(messages=["abcabc"], **more)[2]["scores"] for more in ({}, {"max_length": 3}, {"max_length": 90}))
            self.assertEqual((whole, cut), (short, ask(messages=["abc"])[2]["scores"]))
            for body in (dict(messages=[]), dict(messages="abc"), dict(messages=[1]), dict(messages=[""]), dict(messages=["a"], max_length=0)):
                self.assertEqual(ask(**body)[0], 400, body)
            self.assertEqual(server.ask("POST", "/v1/score/evaluation", {"model": "base", "messages": ["a"]})[0], 405)
        finally:
            server.stop()

    def test_evaluation_by_itself(self):
        for name in ("sigmoid", "kto"):
            with self.subTest(name):
                data = stages[name].get("dataset", "prefer")
                self.train(name, **stages[name] | dict(max_steps=4, eval_dataset=data, eval_strategy="steps", eval_steps=4, per_device_eval_batch_size=8))
                last = self.log(name, "eval_loss")[-1]
                said = {key: value for key, value in stages[name].items() if key != "dataset"}
                self.good(tiny.run("eval", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / name, "--dataset_dir", self.data, "--eval_dataset", data, "--template", "default",
                                   *[word for key, value in said.items() for word in (f"--{key}", value)], "--output_dir", self.work / f"{name}_eval"))
                found = json.loads((self.work / f"{name}_eval/eval_results.json").read_text())
                for key in ("eval_loss", "eval_rewards/chosen", "eval_rewards/margins"):
                    self.assertAlmostEqual(found[key], last[key], delta=1e-5)

    def test_dry_run_plans_the_passes_beside(self):
        self.model = tiny.write_model(self.work / "wide", vocab=2000, channels=192, inner=512, layers=4, heads=4, kv_heads=2)  # so that it shows
        tiny.write_tokenizer(self.model)
        wide = self.forecast("dpo", pref_loss="orpo"), self.forecast("dpo"), self.forecast("dpo", ref_model=self.model)
        self.assertLess(wide[0], wide[1])
        self.assertLess(wide[1], wide[2])
        self.assertGreater(self.forecast("kto", dataset="judged"), 0)
        self.assertFalse((self.work / "dry").exists())

    def forecast(self, stage, **settings):
        text = self.train("dry", stage=stage, dry_run="true", per_device_train_batch_size=8, **settings)
        number, unit = text[text.rindex("memory forecast: ") + 17:].split()[:2]
        return float(number) * {"KiB": 1, "MiB": 1024, "GiB": 1024 ** 2}[unit]

    def test_llama_factorys_examples(self):
        """Its qwen3_lora_dpo, _kto and _reward, key for key, on the model here."""
        for stage, dataset, own in (("dpo", "prefer", "pref_beta: 0.1\npref_loss: sigmoid\n"), ("kto", "judged", "pref_beta: 0.1\n"), ("rm", "prefer", "")):
            with self.subTest(stage):
                (self.work / "run.yaml").write_text(
                    f"### model\nmodel_name_or_path: {self.model}\ntrust_remote_code: true\n\n### method\nstage: {stage}\ndo_train: true\nfinetuning_type: lora\nlora_rank: 8\nlora_target: all\n{own}\n"
                    f"### dataset\ndataset: {dataset}\ndataset_dir: {self.data}\ntemplate: default\ncutoff_len: 2048\nmax_samples: 1000\npreprocessing_num_workers: 16\ndataloader_num_workers: 4\n\n"
                    f"### output\noutput_dir: {self.work}/{stage}\nlogging_steps: 1\nsave_steps: 500\nplot_loss: true\noverwrite_output_dir: true\nsave_only_model: false\nreport_to: none\n\n"
                    "### train\nper_device_train_batch_size: 1\ngradient_accumulation_steps: 8\nlearning_rate: 5.0e-6\nnum_train_epochs: 3.0\nlr_scheduler_type: cosine\nwarmup_ratio: 0.1\nbf16: true\n"
                    "ddp_timeout: 180000000\nresume_from_checkpoint: null\n\n### eval\n# eval_dataset: dpo_en_demo\n# val_size: 0.1\n")
                self.good(tiny.run("train", self.work / "run.yaml"))
                self.assertEqual(len(self.log(stage)), 9)

    def test_what_is_refused(self):
        for settings, words in ((dict(stage="ppo"), ("stage: dpo", "reward model")), (dict(stage="dpo", pref_loss="kto_pair"), ("stage: kto",)), (dict(stage="dpo", dataset="rows"), ("ranking",)),
                                (dict(stage="sft"), ("ranking set",)), (dict(stage="dpo", pissa_init="true"), ("ref_model",)), (dict(stage="dpo", packing="true"), ("packing",)),
                                (dict(stage="dpo", streaming="true", max_steps=3), ("streaming",)), (dict(stage="rm", do_predict="true"), ("eval_dataset",)),
                                (dict(stage="dpo", do_predict="true"), ("stages sft and rm",)), (dict(stage="dpo", pref_loss="orpo", ref_model="m"), ("ref_model",))):
            with self.subTest(settings):
                code, text = tiny.run(*self.arguments("refused", **settings))
                self.assertIn(code, (2, 3), text)
                for word in words:
                    self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
