#!/usr/bin/env python3
"""Whole runs of the program on a tiny model: resuming, stopping, accumulation, merging. Run by ctest (label e2e)."""
import array
import json
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


def losses(folder):
    lines = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]
    return [line["loss"] for line in lines if "loss" in line]


class Runs(tiny.Case):
    def train(self, name, **changes):
        out = self.work / name
        code, text = tiny.run(*tiny.train_arguments(self.model, self.data, out, **changes))
        self.assertEqual(code, 0, text)
        return out

    def adapter(self, out):
        return (out / "adapter_model.safetensors").read_bytes()

    def test_training_lowers_the_loss_and_repeats(self):
        once, again = self.train("once", max_steps=40), self.train("again", max_steps=40)
        self.assertEqual(self.adapter(once), self.adapter(again))
        seen = losses(once)
        self.assertLess(sum(seen[-6:]), sum(seen[:6]))

    def test_resumed_run_equals_the_uninterrupted_one(self):
        whole = self.train("whole", save_steps=5)
        out = self.work / "resumed"
        code, text = tiny.run(*tiny.train_arguments(
            self.model, self.data, out, save_steps=5, resume_from_checkpoint=whole / "checkpoint-5"))
        self.assertEqual(code, 0, text)
        self.assertEqual(self.adapter(whole), self.adapter(out))

    def test_stopped_by_a_signal_then_resumed(self):
        whole = self.train("whole", max_steps=3000, logging_steps=100)
        out = self.work / "stopped"
        arguments = tiny.train_arguments(self.model, self.data, out, max_steps=3000, logging_steps=100)
        process = subprocess.Popen([tiny.program, *map(str, arguments)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log = out / "trainer_log.jsonl"
        for _ in range(600):
            if log.exists() and log.read_text():
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 75)
        self.assertFalse((out / "adapter_model.safetensors").exists())
        code, text = tiny.run(*arguments)
        self.assertEqual(code, 0, text)
        self.assertEqual(self.adapter(whole), self.adapter(out))

    def test_accumulation_does_not_change_the_sum(self):
        results = []
        for size, windows in ((4, 1), (2, 2), (1, 4)):
            results.append(losses(self.train(f"b{size}", per_device_train_batch_size=size, gradient_accumulation_steps=windows)))
        for other in results[1:]:
            for a, b in zip(results[0], other):
                self.assertAlmostEqual(a, b, delta=1e-3 * abs(a))

    def test_number_of_threads_does_not_matter(self):
        import os
        before = os.environ.get("OMP_NUM_THREADS")
        found = []
        for threads in ("1", "2"):
            os.environ["OMP_NUM_THREADS"] = threads
            found.append(self.adapter(self.train("threads" + threads)))
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        self.assertEqual(found[0], found[1])

    def test_merged_model_gives_the_logits_of_base_and_adapter(self):
        out, merged = self.train("run"), self.work / "merged"
        code, text = tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--export_dir", merged, "--export_size", 1)
        self.assertEqual(code, 0, text)
        ids = [[5, 9, 20, 33, 7, 41, 12, 3]]
        flat = array.array("q", ids[0]).tobytes()
        ones = array.array("q", [1] * 8).tobytes()
        batch = {"input_ids": ("I64", [1, 8], flat), "labels": ("I64", [1, 8], flat), "attention_mask": ("I64", [1, 8], ones)}
        tiny.write_safetensors(self.work / "in.safetensors", batch)
        seen = {}
        for name, more in (("base", [self.model]), ("adapter", [self.model, "--adapter_name_or_path", out]), ("merged", [merged])):
            code, text = tiny.run("trace", "--model_name_or_path", *more, "--batch", self.work / "in.safetensors", "--output", self.work / f"{name}.out")
            self.assertEqual(code, 0, text)
            seen[name] = tiny.read_safetensors(self.work / f"{name}.out")["logits"][1]
        # once more over the same folder, as pytorch_model.bin: the same weights, and no file of the first export is left to mistake for them
        code, text = tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--export_dir", merged,
                              "--export_legacy_format", "true", "--overwrite_output_dir", "true")
        self.assertEqual(code, 0, text)
        self.assertEqual([p.name for p in merged.iterdir() if "model" in p.name], ["pytorch_model.bin"])
        code, text = tiny.run("trace", "--model_name_or_path", merged, "--batch", self.work / "in.safetensors", "--output", self.work / "legacy.out")
        self.assertEqual(code, 0, text)
        self.assertEqual(tiny.read_safetensors(self.work / "legacy.out")["logits"][1], seen["merged"])
        apart = lambda a, b: max(abs(x - y) for x, y in zip(a, b))
        self.assertLess(apart(seen["adapter"], seen["merged"]), 1e-4)
        self.assertGreater(apart(seen["adapter"], seen["base"]), 1e-3)


unittest.main()
