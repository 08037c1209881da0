#!/usr/bin/env python3
"""loraine eval on a tiny model: the loss of training's own evaluation, the other figures, comparison, repetition. Run by ctest (label e2e)."""
import array
import json
import math
import os
import pathlib
import re
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Eval(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        info = json.loads((self.data / "dataset_info.json").read_text())
        info["held"] = {"file_name": "held.jsonl", "formatting": "tokenized"}
        info["talk"] = {"file_name": "talk.json"}
        (self.data / "dataset_info.json").write_text(json.dumps(info))
        (self.data / "held.jsonl").write_text("".join((self.data / "rows.jsonl").read_text().splitlines(True)[:7]))
        (self.data / "talk.json").write_text(json.dumps([{"instruction": f"say {w}", "input": "", "output": f"{w} {w}"} for w in ("one", "two", "tree", "red", "fog")]))

    def evaluate(self, out, **changes):
        words = [word for key, value in changes.items() for word in (f"--{key}", value)]
        return tiny.run("eval", "--model_name_or_path", self.model, "--dataset_dir", self.data, "--output_dir", out, *words)

    def results(self, out):
        return json.loads((out / "eval_results.json").read_text())

    def test_loss_is_that_of_the_evaluation_in_training(self):
        self.good(tiny.run(*self.arguments(eval_dataset="held", do_eval="true", per_device_eval_batch_size=3, compute_accuracy="true")))
        trained = json.loads((self.out / "eval_results.json").read_text())
        self.good(self.evaluate(self.work / "e", adapter_name_or_path=self.out, eval_dataset="held", per_device_eval_batch_size=3, compute_accuracy="true"))
        found = self.results(self.work / "e")
        self.assertAlmostEqual(found["eval_loss"], trained["eval_loss"], delta=1e-6 * trained["eval_loss"])
        self.assertEqual(found["eval_accuracy"], trained["eval_accuracy"])
        low, high = found["intervals"]["eval_loss"]
        self.assertTrue(low < found["eval_loss"] < high)

    def test_smoothed_loss_is_that_of_its_formula_and_of_the_evaluation_in_training(self):
        smooth = 0.3
        ids = [5, 9, 33, 7, 21, 60, 4, 18]
        (self.data / "held.jsonl").write_text(json.dumps({"input_ids": ids, "labels": [-100, -100] + ids[2:]}) + "\n")
        batch = self.work / "batch.safetensors"
        tiny.write_safetensors(batch, {"input_ids": ("I64", [1, len(ids)], array.array("q", ids).tobytes())})
        self.good(tiny.run("trace", "--model_name_or_path", self.model, "--batch", batch, "--output", self.work / "trace.safetensors"))
        shape, logits = tiny.read_safetensors(self.work / "trace.safetensors")["logits"]
        vocab, plain, shared = shape[-1], [], []
        for t in range(1, len(ids) - 1):  # what stands before a label
            row = logits[t * vocab : (t + 1) * vocab]
            log_sum = math.log(math.fsum(math.exp(x) for x in row))
            plain.append(log_sum - row[ids[t + 1]])
            shared.append(log_sum - math.fsum(row) / vocab)
        nll, uniform = sum(plain) / len(plain), sum(shared) / len(shared)
        self.good(self.evaluate(self.work / "e", eval_dataset="held", label_smoothing_factor=smooth))
        found = self.results(self.work / "e")
        self.assertAlmostEqual(found["eval_loss"], (1 - smooth) * nll + smooth * uniform, delta=1e-5)
        self.assertAlmostEqual(found["eval_perplexity"], math.exp(nll), delta=1e-5 * math.exp(nll))
        self.good(tiny.run(*self.arguments(eval_dataset="held", do_eval="true", label_smoothing_factor=smooth)))
        trained = json.loads((self.out / "eval_results.json").read_text())
        self.good(self.evaluate(self.work / "t", adapter_name_or_path=self.out, eval_dataset="held", label_smoothing_factor=smooth))
        self.assertAlmostEqual(self.results(self.work / "t")["eval_loss"], trained["eval_loss"], delta=1e-6 * trained["eval_loss"])

    def test_two_runs_write_the_same_bytes(self):
        (self.work / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 12)
        (self.work / "choice.jsonl").write_text('{"question": "pick", "choices": ["one", "two", "six"], "answer": "B"}\n{"question": "take", "choices": ["a b", "c"], "answer": 0}\n')
        (self.work / "match.jsonl").write_text('{"question": "say red", "answer": ["red", "Red"]}\n')
        files = []
        for name in ("one", "two"):
            self.good(self.evaluate(self.work / name, eval_dataset="talk", predict_with_generate="true", max_new_tokens=6, ppl_file=self.work / "text.txt", ppl_window=32,
                                    choice_file=self.work / "choice.jsonl", match_file=self.work / "match.jsonl"))
            files.append({p.name: p.read_bytes() for p in sorted((self.work / name).iterdir())})
        self.assertEqual(files[0], files[1])
        self.assertEqual(set(files[0]), {"eval_results.json", "generated_predictions.jsonl", "match_predictions.jsonl"})
        found = self.results(self.work / "one")
        for key in ("eval_loss", "eval_perplexity", "predict_bleu-4", "predict_rouge-1", "predict_rouge-2", "predict_rouge-l", "ppl_perplexity", "choice_accuracy",
                    "choice_accuracy_norm", "exact_match", "exact_match_loose"):
            self.assertIn(key, found)
        self.assertAlmostEqual(found["ppl_perplexity"], math.exp(found["ppl_loss"]), delta=1e-9 * found["ppl_perplexity"])
        self.assertEqual(found["ppl_tokens"], 12 * 44 - 1)  # letters and blanks are tokens, the first is not predicted
        rows = [json.loads(line) for line in files[0]["generated_predictions.jsonl"].decode().splitlines()]
        self.assertEqual([row["label"] for row in rows], [f"{w} {w}" for w in ("one", "two", "tree", "red", "fog")])
        self.assertTrue(all(set(row) == {"prompt", "predict", "label"} for row in rows))

    def test_answers_do_not_depend_on_how_many_run_at_once(self):
        words = ["one", "two and two", "a rather long question of many letters", "red", "fog", "x"]
        (self.work / "match.jsonl").write_text("".join(json.dumps({"question": w, "answer": w}) + "\n" for w in words))
        (self.data / "talk.json").write_text(json.dumps([{"instruction": w, "input": "", "output": w} for w in words]))
        files = {}
        for batch in (1, 2, 4, 9):
            for sample in ("false", "true"):
                out = self.work / f"{batch}{sample}"
                self.good(self.evaluate(out, match_file=self.work / "match.jsonl", eval_dataset="talk", predict_with_generate="true", do_sample=sample, max_new_tokens=20,
                                        per_device_eval_batch_size=batch))
                files[batch, sample] = [(out / name).read_bytes() for name in ("match_predictions.jsonl", "generated_predictions.jsonl")]
        for batch in (2, 4, 9):
            for sample in ("false", "true"):
                self.assertEqual(files[batch, sample], files[1, sample], f"{batch} at once, do_sample {sample}")
        self.assertNotEqual(files[1, "false"][1], files[1, "true"][1])
        answers = [json.loads(line)["predict"] for line in files[1, "false"][0].decode().splitlines()]
        self.assertEqual(len(answers), len(words))
        self.assertGreater(len(set(answers)), 2)

    def test_memory_limit(self):
        """Fewer prompts at once where memory does not allow more, with the same answers; a refusal that says what is needed when not even one fits."""
        tiny.write_tokenizer(tiny.write_model(self.work / "large", **tiny.large))
        self.model = self.work / "large"
        (self.work / "match.jsonl").write_text("".join(json.dumps({"question": w, "answer": w}) + "\n" for w in ("one", "two", "tree", "red", "fog", "x")))
        settings = dict(match_file=self.work / "match.jsonl", max_new_tokens=250, per_device_eval_batch_size=6)
        text = self.refused(self.evaluate(self.out, memory_limit="10MiB", **settings), 4, "memory_limit is 10 MiB", "per_device_eval_batch_size")
        least = int(re.search(r"this run needs (\d+) MiB", text)[1])
        self.refused(self.evaluate(self.out, memory_limit=f"{least - 4}MiB", **settings), 4, "this run needs")
        self.refused(self.evaluate(self.out, memory_limit="much", **settings), 2, "memory_limit is 'much'")
        self.assertFalse(self.out.exists())
        found = {}
        for name, limit in (("free", "8GiB"), ("tight", f"{least + 2}MiB")):
            words = [f"--{key}={value}" for key, value in dict(settings, model_name_or_path=self.model, output_dir=self.work / name, memory_limit=limit).items()]
            child = subprocess.Popen([tiny.program, "eval", *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            peak = 0
            while child.poll() is None:
                high = re.search(r"VmHWM:\s+(\d+) kB", pathlib.Path(f"/proc/{child.pid}/status").read_text())
                peak = int(high[1]) / 1024 if high else peak  # starts anew with exec
                time.sleep(0.01)
            self.assertEqual(child.returncode, 0)
            found[name] = (self.work / name / "match_predictions.jsonl").read_bytes(), peak
        self.assertEqual(found["free"][0], found["tight"][0])
        self.assertLess(found["tight"][1], least + 2)
        self.assertLess(found["tight"][1] + 5, found["free"][1])
        (self.data / "held.jsonl").write_text(json.dumps({"input_ids": [5] * 1000, "labels": [5] * 1000}) + "\n")
        self.refused(self.evaluate(self.out, memory_limit=f"{least}MiB", eval_dataset="held"), 4, "memory_limit", "cutoff_len")

    def test_one_window_over_a_short_text_has_the_loss_of_its_tokens(self):
        """A text that fits one window: its loss is that of a data set with the same ids, whose mean counts the first label too."""
        text = "abc def ghi"
        (self.work / "t.txt").write_text(text)
        self.good(self.evaluate(self.work / "a", ppl_file=self.work / "t.txt"))
        ids = [json.loads((self.model / "tokenizer.json").read_text())["model"]["vocab"][c.replace(" ", "Ġ")] for c in text]
        (self.data / "held.jsonl").write_text(json.dumps({"input_ids": ids, "labels": ids}) + "\n")
        self.good(self.evaluate(self.work / "b", eval_dataset="held"))
        predicted = (len(ids) - 1) / len(ids)
        self.assertAlmostEqual(self.results(self.work / "a")["ppl_loss"] * predicted, self.results(self.work / "b")["eval_loss"], delta=1e-9)

    def test_comparison_of_base_adapter_and_merged(self):
        self.good(tiny.run(*self.arguments(max_steps=30)))
        self.good(self.evaluate(self.work / "c", adapter_name_or_path=f"tuned={self.out}", eval_dataset="held", compare="true", per_device_eval_batch_size=2))
        table = json.loads((self.work / "c/eval_comparison.json").read_text())
        models = {one["name"]: one for one in table["models"]}
        self.assertEqual(list(models), ["base", "tuned", "merged"])
        base, tuned, merged = (models[name]["metrics"]["eval_loss"] for name in ("base", "tuned", "merged"))
        self.assertLess(tuned, base)
        self.assertAlmostEqual(tuned, merged, delta=1e-5 * base)
        gain = models["tuned"]["difference_to_base"]["eval_loss"]
        self.assertAlmostEqual(gain["difference"], tuned - base, delta=1e-12)
        self.assertTrue(gain["interval"][0] <= gain["difference"] <= gain["interval"][1])
        self.good(self.evaluate(self.work / "d", eval_dataset="held", per_device_eval_batch_size=2))
        self.assertEqual(self.results(self.work / "d")["eval_loss"], base)
        self.assertEqual((self.work / "c/eval_comparison.md").read_text().count("| tuned |"), 2)

    def test_prediction_of_llama_factory(self):
        """Its predict.yaml, run as it runs it (`train`), gives the answers and the figures that it recorded."""
        recorded, runs = tiny.root / "tests/golden/eval/predict", tiny.root.parent / "shared/golden/llamafactory/runs/sft_lora"
        if not runs.exists():
            self.skipTest("the model of the recorded case is absent")
        self.good(tiny.run("train", recorded / "predict.yaml", f"output_dir={self.out}", cwd=runs))
        self.assertEqual((self.out / "generated_predictions.jsonl").read_bytes(), (recorded / "generated_predictions.jsonl").read_bytes())
        found = self.results(self.out)
        for key, value in json.loads((recorded / "predict_results.json").read_text()).items():
            self.assertAlmostEqual(found[key], value, delta=1e-12)

    def test_chinese_answers_without_a_dictionary_are_said_to_be_counted_by_characters(self):
        """With jieba's dictionary in the program there is nothing to say."""
        tokenizer = json.loads((self.model / "tokenizer.json").read_text())
        vocabulary = tokenizer["model"]["vocab"]
        for old, byte in zip("ABC", "\u00e4\u00b8\u00ba"):  # the bytes of two Chinese characters
            vocabulary[byte] = vocabulary.pop(old)
        (self.model / "tokenizer.json").write_text(json.dumps(tokenizer))
        (self.data / "talk.json").write_text(json.dumps([{"instruction": "say", "input": "", "output": "\u4e3a\u4eba"}] * 2))
        settings = dict(eval_dataset="talk", predict_with_generate="true", max_new_tokens=4)
        text = self.good(self.evaluate(self.out, **settings))
        rows = [json.loads(line) for line in (self.out / "generated_predictions.jsonl").read_text().splitlines()]
        self.assertEqual(rows[0]["label"], "\u4e3a\u4eba")
        without = os.environ.get("LORAINE_CHINESE_WORDS") == "OFF"
        self.assertEqual(text.count("warning: ROUGE of Chinese text counts single characters"), int(without), text)
        self.assertEqual(self.results(self.out).get("predict_chinese_words"), "single characters" if without else None)
        (self.data / "talk.json").write_text(json.dumps([{"instruction": "say", "input": "", "output": "one"}]))
        self.assertNotIn("ROUGE of Chinese", self.good(self.evaluate(self.work / "plain", **settings, max_samples=1)))

    def test_refusals_name_what_is_wrong(self):
        self.refused(self.evaluate(self.out), 2, "nothing to evaluate")
        self.refused(self.evaluate(self.out, eval_dataset="held", compare="true"), 2, "adapter_name_or_path is not given")
        self.good(tiny.run(*self.arguments(out=self.work / "loftq", max_steps=1, init_lora_weights="loftq")))
        self.good(self.evaluate(self.work / "l", eval_dataset="held", adapter_name_or_path=self.work / "loftq"))
        self.refused(self.evaluate(self.out, eval_dataset="held", adapter_name_or_path=self.work / "loftq", compare="true"), 2, "LoftQ", "two runs")
        self.refused(self.evaluate(self.out, eval_dataset="held", predict_with_generate="true"), 2, "generation needs conversations")
        self.refused(self.evaluate(self.out, ppl_file=self.model / "config.json", ppl_window=8, ppl_stride=8), 2, "ppl_stride")
        self.refused(self.evaluate(self.out, task="mmlu_test", task_dir=self.work), 3, "mapping.json", "LLaMA-Factory's repository, folder evaluation/mmlu",
                     f"{self.work}/mmlu/test/SUBJECT_test.csv")
        (self.work / "bad.jsonl").write_text('{"question": "q", "choices": ["a", "b"], "answer": 2}\n')
        self.refused(self.evaluate(self.out, choice_file=self.work / "bad.jsonl"), 3, "bad.jsonl, line 1", "none of the 2 choices")
        (self.work / "bad.jsonl").write_text('{"question": "q"\n')
        self.refused(self.evaluate(self.out, match_file=self.work / "bad.jsonl"), 3, "line 1", "not valid JSON")
        self.assertFalse(self.out.exists())


if __name__ == "__main__":
    unittest.main()
