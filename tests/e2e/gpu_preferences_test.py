#!/usr/bin/env python3
"""Stages dpo, kto and rm with `device: cuda` on the emulated GPU: figures and files are the CPU's within rounding, of training, evaluations while it runs, and
`loraine eval`; resumed runs have the same bits. Run by ctest (label e2e)."""
import json
import math
import os
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import tiny_model as tiny
from gpu_test import apart
from preference_rows import write_preferences

stages = {
    "sigmoid": dict(stage="dpo", dpo_label_smoothing=0.1, pref_ftx=0.5), "ipo": dict(stage="dpo", pref_loss="ipo"), "orpo": dict(stage="dpo", pref_loss="orpo"),
    "simpo": dict(stage="dpo", pref_loss="simpo", pref_beta=2), "ld_bco": dict(stage="dpo", pref_loss="hinge", ld_alpha=0.5, pref_bco_weight=0.4),
    "qlora": dict(stage="dpo", quantization_bit=4), "kto": dict(stage="kto", dataset="judged", kto_rejected_weight=1.4, pref_ftx=0.3), "rm": dict(stage="rm"),
    "coarse_reference": dict(stage="dpo", ref_model_quantization_bit=4),
}
times = {"eval_runtime", "eval_samples_per_second", "eval_steps_per_second", "train_runtime", "train_samples_per_second", "train_steps_per_second"}


class GpuPreferences(tiny.Case):
    def setUp(self):
        super().setUp()
        if "this build has no CUDA code" not in tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "no", device="cuda"))[1]:
            self.skipTest("a build with CUDA code has no emulated GPU")
        os.environ["LORAINE_GPU"] = "emulated"
        self.addCleanup(os.environ.pop, "LORAINE_GPU", None)
        tiny.write_tokenizer(self.model)
        write_preferences(self.data, 8, 6)

    def train(self, out, **settings):
        shown = dict(dataset="prefer", template="default", lr_scheduler_type="constant", learning_rate="1e-2", warmup_steps=0, max_steps=3) | settings
        if "ref_model_quantization_bit" in settings:
            shown["ref_model"] = self.model
        text = self.good(tiny.run(*tiny.train_arguments(self.model, self.data, self.work / out, **shown)))
        self.assertNotIn("emulated GPU: ", text.replace("device: emulated GPU", ""))
        self.assertEqual("device: emulated GPU" in text, settings["device"] == "cuda", text)
        return self.work / out

    def near(self, ours, theirs, limit=1e-4):
        self.assertEqual(ours.keys(), theirs.keys())
        for key in ours.keys() - times:
            if isinstance(theirs[key], float):
                self.assertTrue(math.isclose(ours[key], theirs[key], rel_tol=limit, abs_tol=1e-6), (key, ours[key], theirs[key]))

    def log(self, out):
        return [entry for entry in json.loads((out / "trainer_state.json").read_text())["log_history"] if "loss" in entry or "eval_loss" in entry]

    def test_every_stage_is_that_of_the_cpu(self):
        for name, settings in stages.items():
            with self.subTest(name):
                settings = settings | dict(val_size=3, eval_strategy="steps", eval_steps=2, share_prefixes="auto")
                cpu, gpu = (self.train(f"{name}_{device}", device=device, **settings) for device in ("cpu", "cuda"))
                ours, theirs = self.log(gpu), self.log(cpu)
                self.assertEqual(len(ours), len(theirs))
                for entry, wanted in zip(ours, theirs):
                    self.near(entry, wanted)
                self.assertLess(apart(gpu / "adapter_model.safetensors", cpu / "adapter_model.safetensors"), 1e-3)
                if name == "rm":
                    self.assertLess(apart(gpu / "value_head.safetensors", cpu / "value_head.safetensors"), 1e-3)

    def test_bf16(self):
        for name in ("sigmoid", "rm"):
            cpu, gpu = (self.train(f"{name}_{device}", device=device, bf16="true", **stages[name]) for device in ("cpu", "cuda"))
            for entry, wanted in zip(self.log(gpu), self.log(cpu)):
                self.assertTrue(math.isclose(entry["loss"], wanted["loss"], rel_tol=0.03), (entry, wanted))

    def test_resumed_runs_have_the_same_bits(self):
        for name in ("ld_bco", "rm"):
            whole = self.train(f"{name}_whole", device="cuda", save_steps=2, **stages[name])
            part = self.train(f"{name}_part", device="cuda", save_steps=2, resume_from_checkpoint=whole / "checkpoint-2", **stages[name])
            for file in ("adapter_model.safetensors", "checkpoint-3/optimizer.safetensors") + (("value_head.safetensors",) if name == "rm" else ()):
                self.assertEqual((part / file).read_bytes(), (whole / file).read_bytes(), file)

    def test_evaluations(self):
        reward = self.train("reward", device="cpu", **stages["rm"])
        policy = self.train("policy", device="cpu", **stages["sigmoid"])
        for name, adapter, asked in (("rm", reward, ["--do_predict", "true"]), ("dpo", policy, []), ("kto", policy, []), ("dpo", policy, ["--ref_model", self.model])):
            results = []
            for device in ("cpu", "cuda"):
                out = self.work / f"{name}_{device}_{len(asked)}"
                said = self.good(tiny.run("eval", "--model_name_or_path", self.model, "--adapter_name_or_path", adapter, "--stage", name, "--template", "default", "--dataset_dir",
                                          self.data, "--eval_dataset", "judged" if name == "kto" else "prefer", "--output_dir", out, "--device", device, *asked))
                self.assertEqual("device: emulated GPU" in said, device == "cuda", said)
                results.append(json.loads((out / "eval_results.json").read_text()))
            self.near(results[1], results[0])


if __name__ == "__main__":
    unittest.main()
