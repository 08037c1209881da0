#!/usr/bin/env python3
"""Ten thousand steps of a tiny model, with evaluations and checkpoints: memory at the end is that of the beginning. Run by ctest (label e2e)."""
import json
import os
import pathlib
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

STEPS, EARLY = 10000, 250  # by EARLY every length has been met, and one checkpoint and one evaluation are done
SLACK_KIB = 768            # records of the log (one per logging step), pieces of the heap


def memory(pid):
    """(VmHWM, VmRSS) in KiB"""
    fields = dict(line.split(":", 1) for line in pathlib.Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return tuple(int(fields[name].split()[0]) for name in ("VmHWM", "VmRSS"))


class Soak(tiny.Case):
    def steps_done(self):
        log = self.out / "trainer_log.jsonl"
        lines = log.read_text().splitlines() if log.exists() else []
        return json.loads(lines[-1])["current_steps"] if lines else 0

    def run_long(self, **changes):
        """(KiB early, KiB late) as (VmHWM, VmRSS) each; the late one is taken shortly before the end."""
        arguments = self.arguments(max_steps=STEPS, logging_steps=125, save_steps=EARLY, save_total_limit=1, eval_strategy="steps", eval_steps=EARLY,
                                   val_size=4, per_device_train_batch_size=1, gradient_accumulation_steps=1, learning_rate="1e-5", **changes)
        process = subprocess.Popen([tiny.program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
                                   env=os.environ | {"OMP_NUM_THREADS": "1"})
        early = late = None
        while process.poll() is None:
            done = self.steps_done()
            if done > EARLY:
                late = memory(process.pid) if done < STEPS else late
                early = early or late
            time.sleep(0.05)
        self.assertEqual(process.returncode, 0, process.stderr.read())
        process.stderr.close()
        self.assertEqual(self.steps_done(), STEPS)
        self.assertIsNotNone(early, "the run was over before it could be looked at")
        return early, late

    def check(self, **changes):
        (first_peak, first), (last_peak, last) = self.run_long(**changes)
        print(f"{changes}: peak {first_peak} and {last_peak} KiB, resident {first} and {last} KiB")
        self.assertLessEqual(last_peak, first_peak + SLACK_KIB)
        self.assertLessEqual(last, first + SLACK_KIB)

    def test_f32(self):
        self.check()

    def test_bf16_with_dropout_and_recomputing(self):
        self.check(bf16="true", lora_dropout="0.1", gradient_checkpointing="true")


if __name__ == "__main__":
    unittest.main()
