#!/usr/bin/env python3
"""loraine compare: all combinations, the table and its plot, going on after a stop. Run by ctest (label e2e)."""
import json
import pathlib
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Compare(tiny.Case):
    def words(self, *more, **changes):
        settings = dict(eval_dataset="rows", logging_steps=2, eval_strategy="steps", eval_steps=4, max_steps=8) | changes
        return ["compare"] + tiny.train_arguments(self.model, self.data, self.out, **settings)[1:] + list(more)

    def rows(self):
        return json.loads((self.out / "table.json").read_text())["runs"]

    def test_every_combination_once(self):
        text = self.good(tiny.run(*self.words("--finetuning_type", "full,lora", "--lora_rank", "2,4")))
        rows = self.rows()
        self.assertEqual([row["name"] for row in rows], ["full", "lora, lora_rank 2", "lora, lora_rank 4"])  # full reads no rank
        for row in rows:
            self.assertIn(row["name"], text)
            self.assertEqual(row["eval_steps"], [4, 8])
            for key in ("trainable_parameters", "peak_memory_bytes", "train_tokens_per_second", "file_bytes", "eval_loss"):
                self.assertGreater(row[key], 0, key)
        self.assertLess(rows[1]["trainable_parameters"], rows[2]["trainable_parameters"])
        self.assertEqual(rows[2]["trainable_parameters"], 2 * rows[1]["trainable_parameters"])
        self.assertGreater(rows[0]["file_bytes"], rows[2]["file_bytes"])
        self.assertEqual((self.out / "eval_loss.png").read_bytes()[:4], b"\x89PNG")
        # the same settings in a run alone give the same result
        alone = self.work / "alone"
        self.good(tiny.run(*tiny.train_arguments(self.model, self.data, alone, lora_rank=2, eval_dataset="rows", do_eval="true", logging_steps=2,
                                                 eval_strategy="steps", eval_steps=4, max_steps=8)))
        self.assertEqual(json.loads((alone / "all_results.json").read_text())["eval_loss"], rows[1]["eval_loss"])
        # a second call computes nothing again, one more value only what is new
        before = (self.out / "lora_lora_rank_2" / "adapter_model.safetensors").stat().st_mtime_ns
        text = self.good(tiny.run(*self.words("--finetuning_type", "full,lora", "--lora_rank", "2,4,8")))
        self.assertEqual(text.count("kept: "), 3)
        self.assertEqual(len(self.rows()), 4)
        self.assertEqual((self.out / "lora_lora_rank_2" / "adapter_model.safetensors").stat().st_mtime_ns, before)

    def test_how_far_a_run_is_is_shown(self):
        words = self.words(eval_strategy="no")
        words = [word for i, word in enumerate(words) if "--lora_rank" not in (word, words[i - 1])]
        text = self.good(tiny.run(*words, "--lora_r", "2,4"))
        self.assertRegex(text, r"(?m)^run 2 of 2 100%  8/8  loss \d+\.\d+  lr ")
        self.assertIn("`lora_r` is taken as `lora_rank`", text)
        self.assertEqual([row["name"] for row in self.rows()], ["lora_r 2", "lora_r 4"])

    def test_kinds_of_lora_are_runs_of_their_own(self):
        self.good(tiny.run(*self.words("--finetuning_type", "lora,qlora", max_steps=2, eval_strategy="no")))
        rows = self.rows()
        self.assertEqual([row["name"] for row in rows], ["lora", "qlora"])
        self.assertIn("with `quantization_bit: 4`", (self.out / "settings" / "qlora.log").read_text())
        self.assertNotEqual(rows[0]["eval_loss"], rows[1]["eval_loss"])

    def test_keys_whose_value_is_a_list(self):
        self.good(tiny.run(*self.words("additional_target=[null,[norm],[norm,lm_head]]", "lora_target=q_proj,v_proj", max_steps=2, eval_strategy="no")))
        rows = self.rows()
        self.assertEqual([row["name"] for row in rows], ["additional_target null", "additional_target norm", "additional_target norm,lm_head"])
        none, norm, both = (row["trainable_parameters"] for row in rows)
        self.assertLess(none, norm)
        self.assertLess(norm, both)
        self.assertEqual(len(list(self.out.glob("additional_target_norm_lm_head/adapter_model.safetensors"))), 1)

    def test_goes_on_after_a_stop(self):
        words = self.words("--lora_rank", "2,4", max_steps=3000, logging_steps=50, eval_strategy="no")
        process = subprocess.Popen([tiny.program, *map(str, words)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        log = self.out / "lora_rank_4" / "trainer_log.jsonl"
        for _ in range(3000):
            if log.exists() and log.read_text():
                break
            time.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 75)
        self.assertEqual([row["name"] for row in self.rows()], ["lora_rank 2"])
        text = self.good(tiny.run(*words))
        self.assertIn("kept: lora_rank 2", text)
        self.assertEqual(len(self.rows()), 2)
        self.assertIn("resuming from", (self.out / "settings" / "lora_rank_4.log").read_text())

    def test_mistakes_show_before_anything_runs(self):
        self.refused(tiny.run(*self.words()), 2, "one combination")
        self.refused(tiny.run(*self.words("--lora_rank", "2,none")), 2, "lora_rank")
        self.refused(tiny.run(*self.words("--lora_rank", "2,4", "--finetuning_type", "full,sparse")), 2, "finetuning_type")
        self.assertFalse(self.out.exists())

    def test_a_failing_run_leaves_the_others(self):
        (self.out / "lora_rank_2").mkdir(parents=True)
        (self.out / "lora_rank_2" / "mine.txt").write_text("not of a run")
        code, text = tiny.run(*self.words("--lora_rank", "2,4", eval_strategy="no"))
        self.assertEqual(code, 2, text)
        self.assertIn("lora_rank 2 ended with 2", text)
        self.assertIn("mine.txt", text)
        self.assertEqual([row["name"] for row in self.rows()], ["lora_rank 4"])


unittest.main()
