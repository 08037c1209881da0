#!/usr/bin/env python3
"""Every optimizer in whole runs of a tiny model: it trains, a resumed run equals an uninterrupted one bit for bit, the number of threads does not
matter, what does not go together is refused. Run by ctest (label e2e)."""
import json
import os
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

FULL = {"finetuning_type": "full", "learning_rate": "1e-3"}
GALORE = {**FULL, "optim": "adamw_torch", "use_galore": "true", "galore_rank": 2, "galore_update_interval": 2}
RUNS = {
    "sgd": {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": "5e-2"}, "plain_sgd": {"optim": "sgd", "learning_rate": "5e-2"}, "adagrad": {"optim": "adagrad"},
    "rmsprop": {"optim": "rmsprop", "optim_args": "centered=true,momentum=0.5", "learning_rate": "1e-3"}, "lion": {"optim": "lion_32bit", "learning_rate": "1e-3"},
    "ademamix": {"optim": "ademamix"}, "adafactor": {"optim": "adafactor"}, "schedule_free_adamw": {"optim": "schedule_free_adamw"},
    "schedule_free_sgd": {"optim": "schedule_free_sgd", "learning_rate": "5e-2"}, "schedule_free_radam": {"optim": "schedule_free_radam", "adam_beta2": 0.6},
    "stable_adamw": {"optim": "stable_adamw"}, "grokadamw": {"optim": "grokadamw"}, "lomo": {"optim": "lomo", "learning_rate": "5e-2", "gradient_accumulation_steps": 1},
    "adalomo": {"optim": "adalomo", "gradient_accumulation_steps": 1}, "loraplus": {"optim": "lion_32bit", "loraplus_lr_ratio": 4, "learning_rate": "5e-4"},
    "adamw_8bit": {**FULL, "optim": "adamw_8bit"}, "galore": GALORE, "galore_adamw": {"optim": "galore_adamw", "optim_target_modules": "q_proj", "optim_args": "rank=2,update_proj_gap=2"},
    "apollo": {**FULL, "use_apollo": "true", "apollo_rank": 2, "apollo_update_interval": 2}, "badam": {**FULL, "use_badam": "true", "badam_switch_interval": 2},
    "badam_ratio": {**FULL, "use_badam": "true", "badam_mode": "ratio", "badam_mask_mode": "scatter", "badam_update_ratio": 0.5},
    "adam_mini": {**FULL, "use_adam_mini": "true"}, "muon": {"use_muon": "true"},
}


class Optimizers(tiny.Case):
    def arguments(self, out, changes):
        return tiny.train_arguments(self.model, self.data, out, max_steps=6, logging_steps=1, save_steps=3, **changes)

    def result(self, out):
        return next(out.glob("*model.safetensors")).read_bytes()

    def test_resumed_runs_equal_uninterrupted_ones(self):
        results = {}
        for name, changes in RUNS.items():
            with self.subTest(name):
                whole, half = self.work / name, self.work / f"{name}_half"
                code, text = tiny.run(*self.arguments(whole, changes))
                self.assertEqual(code, 0, text)
                lines = [json.loads(line) for line in (whole / "trainer_log.jsonl").read_text().splitlines()]
                seen = [line["loss"] for line in lines if "loss" in line]
                self.assertEqual(len(seen), 6)
                code, text = tiny.run(*self.arguments(half, {**changes, "resume_from_checkpoint": whole / "checkpoint-3"}))
                self.assertEqual(code, 0, text)
                self.assertEqual(self.result(whole), self.result(half), name)
                self.assertNotIn(self.result(whole), results, name)  # each rule ends elsewhere
                results[self.result(whole)] = name
                self.assertEqual((whole / "checkpoint-6/optimizer.safetensors").read_bytes(), (half / "checkpoint-6/optimizer.safetensors").read_bytes(), name)

    def test_number_of_threads_does_not_matter(self):
        for name in ("adafactor", "galore", "apollo", "stable_adamw", "muon", "badam_ratio"):
            with self.subTest(name):
                results = []
                for threads in ("1", "3"):
                    out = self.work / f"{name}_{threads}"
                    done = subprocess.run([tiny.program, *map(str, self.arguments(out, RUNS[name]))], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": threads})
                    self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
                    results.append(self.result(out))
                self.assertEqual(*results)

    def test_another_optimizer_does_not_go_on(self):
        out = self.work / "lion_first"
        code, text = tiny.run(*self.arguments(out, RUNS["lion"]))
        self.assertEqual(code, 0, text)
        code, text = tiny.run(*self.arguments(self.work / "then_sgd", {**RUNS["sgd"], "learning_rate": "1e-3", "resume_from_checkpoint": out / "checkpoint-3"}))
        self.assertEqual(code, 2, text)
        self.assertIn("optim", text)

    def test_evaluated_and_saved_are_the_averages(self):
        """The last checkpoint of a schedule-free run, its final adapter and its evaluations are all of the averages."""
        out = self.work / "averaged"
        code, text = tiny.run(*self.arguments(out, {**RUNS["schedule_free_adamw"], "val_size": 4, "eval_strategy": "steps", "eval_steps": 3}))
        self.assertEqual(code, 0, text)
        state = json.loads((out / "trainer_state.json").read_text())["log_history"]
        losses = {entry["step"]: entry["eval_loss"] for entry in state if "eval_loss" in entry}
        saved = tiny.read_safetensors(out / "checkpoint-6/adapter_model.safetensors")
        final = tiny.read_safetensors(out / "adapter_model.safetensors")
        self.assertEqual(saved.keys(), final.keys())
        for name in saved:  # the way to the training values and back rounds
            for one, other in zip(saved[name][1], final[name][1]):
                self.assertAlmostEqual(one, other, delta=1e-6)
        self.assertAlmostEqual(json.loads((out / "eval_results.json").read_text())["eval_loss"], losses[6], delta=1e-6)

    def test_what_does_not_go_together_is_refused(self):
        for changes, word in (({"optim": "sgd", "optim_args": "momentm=0.9"}, "momentm"), ({"optim": "sgd", "optim_args": "momentum"}, "key=value"),
                              ({"optim": "sgd", "optim_args": "momentum=fast"}, "momentum"), ({"optim": "lion_32bit", "optim_args": "alpha=1"}, "alpha"),
                              ({"use_galore": "true"}, "finetuning_type"), ({**FULL, "use_galore": "true", "use_muon": "true"}, "exclude"),
                              ({"use_muon": "true", "optim": "sgd"}, "optim"), ({"use_muon": "true", "loraplus_lr_ratio": 2}, "loraplus_lr_ratio"),
                              ({**GALORE, "galore_layerwise": "true", "gradient_accumulation_steps": 2}, "gradient_accumulation_steps"),
                              ({"optim": "lomo", "gradient_accumulation_steps": 2}, "gradient_accumulation_steps"), ({"optim": "galore_adamw"}, "optim_target_modules"),
                              ({"optim": "galore_adamw", "optim_target_modules": "nothing"}, "optim_target_modules"), ({"optim": "adamw_torch_4bit"}, "adamw_torch_4bit"),
                              ({**FULL, "use_badam": "true", "badam_switch_mode": "fixed"}, "badam_start_block"), ({**FULL, "use_badam": "true", "badam_start_block": 99}, "badam_start_block"),
                              ({"use_badam": "true", "finetuning_type": "freeze"}, "finetuning_type")):
            with self.subTest(str(changes)):
                code, text = tiny.run(*self.arguments(self.work / "refused", changes))
                self.assertEqual(code, 2, text)
                self.assertIn(word, text)


if __name__ == "__main__":
    unittest.main()
