#!/usr/bin/env python3
"""Whole runs of the program on a tiny model: resuming, stopping, accumulation, merging. Run by ctest (label e2e)."""
import array
import json
import os
import pathlib
import random
import re
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

    def test_micro_batches_by_their_tokens(self):
        for strategy in ("dynamic_batching", "dynamic_padding_free"):
            settings = dict(batching_strategy=strategy, cutoff_len=16, per_device_train_batch_size=3, save_steps=5, max_steps=-1, num_train_epochs=3)
            whole = self.train(strategy, **settings, include_num_input_tokens_seen="all")
            state = json.loads((whole / "trainer_state.json").read_text())
            passed = state["epoch"] * sum(len(json.loads(line)["input_ids"]) for line in (self.data / "rows.jsonl").read_text().splitlines())
            self.assertGreaterEqual(state["epoch"], 3)
            self.assertGreater(passed / state["global_step"] / 2, 0.6 * 16 * 3)  # two micro-batches that are mostly full
            out = self.work / f"resumed {strategy}"
            self.good(tiny.run(*self.arguments(out, **settings, resume_from_checkpoint=whole / "checkpoint-5")))
            self.assertEqual(self.adapter(whole), self.adapter(out))
        # Rows of one length: a budget of four of them is the same as four of them.
        for row in (lines := [json.loads(line) for line in (self.data / "rows.jsonl").read_text().splitlines()]):
            row["input_ids"], row["labels"] = ((row[key] * 3)[:12] for key in ("input_ids", "labels"))
        (self.data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in lines))
        counted = self.train("counted", per_device_train_batch_size=4, max_steps=3)
        for strategy in ("dynamic_batching", "dynamic_padding_free"):
            self.assertEqual(self.adapter(counted), self.adapter(self.train(f"{strategy} of four", batching_strategy=strategy, cutoff_len=12, per_device_train_batch_size=4, max_steps=3)))
        self.refused(tiny.run(*self.arguments(self.out, batching_strategy="dynamic_batching", stage="dpo")), 2, "batching_strategy: dynamic_batching goes with stages sft and pt")

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
        """Rows of uneven length: the loss is one mean over all trained tokens of a step, however the rows are spread over micro-batches."""
        results = []
        for size, windows in ((8, 1), (4, 2), (2, 4), (1, 8)):
            out = self.train(f"b{size}", per_device_train_batch_size=size, gradient_accumulation_steps=windows, max_steps=6, learning_rate="1e-3")
            results.append(json.loads((out / "all_results.json").read_text())["train_loss"])
        for other in results[1:]:
            self.assertAlmostEqual(other, results[0], delta=1e-6 * results[0])

    def test_number_of_threads_does_not_matter(self):
        before = os.environ.get("OMP_NUM_THREADS")
        found = []
        for threads in ("1", "2", "4"):
            os.environ["OMP_NUM_THREADS"] = threads
            found.append(self.adapter(self.train("threads" + threads)))
        if before is None:
            del os.environ["OMP_NUM_THREADS"]
        else:
            os.environ["OMP_NUM_THREADS"] = before
        self.assertEqual(found[0], found[1])
        self.assertEqual(found[0], found[2])

    def test_rows_of_a_batch_do_not_see_each_other(self):
        draw = random.Random(5)
        rows = [[draw.randrange(3, tiny.vocab) for _ in range(length)] for length in (17, 3, 1, 40, 9)]

        def logits(chosen):
            width = max(map(len, chosen))
            padded = [row + [0] * (width - len(row)) for row in chosen]
            mask = [[1] * len(row) + [0] * (width - len(row)) for row in chosen]
            flat = lambda table: array.array("q", [x for row in table for x in row]).tobytes()
            shape = [len(chosen), width]
            tiny.write_safetensors(self.work / "in.safetensors", {"input_ids": ("I64", shape, flat(padded)), "attention_mask": ("I64", shape, flat(mask))})
            code, text = tiny.run("trace", "--model_name_or_path", self.model, "--batch", self.work / "in.safetensors", "--output", self.work / "x.out")
            self.assertEqual(code, 0, text)
            values = tiny.read_safetensors(self.work / "x.out")["logits"][1]
            each = width * tiny.vocab
            return [list(values[i * each : i * each + len(row) * tiny.vocab]) for i, row in enumerate(chosen)]

        alone = [logits([row])[0] for row in rows]
        for order in ([0, 1, 2, 3, 4], [3, 0], [4, 2, 1], [1, 1, 3]):
            for index, values in zip(order, logits([rows[i] for i in order])):
                self.assertLess(max(abs(a - b) for a, b in zip(alone[index], values)), 1e-6 * max(map(abs, values)))

    def test_memory_does_not_grow(self):
        out = self.work / "soak"
        process = subprocess.Popen([tiny.program, *map(str, tiny.train_arguments(self.model, self.data, out, max_steps=6000, logging_steps=10, save_steps=400,
                                                                                 save_total_limit=2))], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log = out / "trainer_log.jsonl"
        seen = []  # (steps done, resident KiB)
        while process.poll() is None:
            lines = log.read_text().splitlines() if log.exists() else []
            try:
                status = pathlib.Path(f"/proc/{process.pid}/status").read_text()
                resident = int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
                if lines:
                    seen.append((json.loads(lines[-1])["current_steps"], resident))
            except (AttributeError, OSError, ValueError):
                pass  # it has just ended, or the line is being written
            time.sleep(0.02)
        self.assertEqual(process.returncode, 0)
        early = [r for steps, r in seen if steps <= 1500]
        late = [r for steps, r in seen if steps >= 4500]
        self.assertTrue(early and late, seen[:3])
        self.assertLess(max(late), max(early) + 1024, "resident memory in KiB grows with the steps")

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
