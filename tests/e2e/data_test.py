#!/usr/bin/env python3
"""`loraine data`: what training would see, of every recorded run of LLaMA-Factory and of small sets; encoded data that are kept (tokenized_path). Run by ctest (label e2e)."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest
import unittest.mock

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

RUNS = pathlib.Path(__file__).resolve().parent.parent.parent.parent / "shared/golden/llamafactory/runs"
# Settings of a run that say what its data are.
DATA_KEYS = {"model_name_or_path", "stage", "template", "dataset", "eval_dataset", "dataset_dir", "cutoff_len", "val_size", "seed", "packing", "neat_packing", "mask_history",
             "train_on_prompt", "preprocessing_batch_size"}


def on_disk():
    """Ids of examples go to a file from the first on."""
    return unittest.mock.patch.dict(os.environ, LORAINE_IDS_IN_MEMORY="0")


def rows_of(file):
    return [json.loads(line) for line in pathlib.Path(file).read_text().splitlines()]


class Data(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        rows = [dict(question=f"say {word}", answer=word) for word in ("one", "two", "tree", "red", "two")] + [dict(question="say a very long word " * 4, answer="fog " * 9)]
        rows[4] = rows[1]
        (self.work / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (self.model / "model.safetensors").unlink()  # no weights are needed

    def shown(self, *words, **settings):
        settings = dict(model_name_or_path=self.model, dataset="pairs.jsonl", template="default", dataset_dir=self.work) | settings
        return tiny.run("data", *words, *(word for key, value in settings.items() for word in (f"--{key}", str(value))), cwd=self.work)

    def test_every_recorded_run_with_ids_on_disk(self):
        with on_disk():
            self.test_every_recorded_run()

    def test_every_recorded_run(self):
        if not RUNS.exists():
            self.skipTest("shared golden cases are absent")
        checked = 0
        for run in sorted(RUNS.iterdir()):
            lines = [line for line in (run / "train.yaml").read_text().splitlines() if line.split(":")[0] in DATA_KEYS]
            (self.work / "run.yaml").write_text("\n".join(lines) + "\n")
            out = self.work / "encoded.jsonl"
            self.good(tiny.run("data", str(self.work / "run.yaml"), "--json", str(out), cwd=run))
            got, wanted = rows_of(out), rows_of(run / "encoded.jsonl")
            self.assertEqual(len(got), len(wanted), run.name)
            for mine, theirs in zip(got, wanted):
                if "kto_tags" in theirs:
                    theirs["kto_tag"] = theirs.pop("kto_tags")
                if "labels" not in theirs and "input_ids" in theirs:  # pretraining: the collator makes them
                    theirs["labels"] = mine["labels"]
                    self.assertTrue(all(label in (-100, i) for i, label in zip(mine["input_ids"], mine["labels"])))
                if "position_ids" in theirs:
                    packed = len(theirs["position_ids"]) - next(i for i, x in enumerate(reversed(theirs["labels"])) if x != -100)
                    self.assertEqual([i for i in range(packed) if theirs["position_ids"][i] == 0], mine.pop("starts"), run.name)
                self.assertEqual(mine, {key: value for key, value in theirs.items() if key not in ("attention_mask", "position_ids")}, run.name)
            checked += 1
        self.assertGreaterEqual(checked, 37)

    def test_the_report(self):
        text = self.good(self.shown("--examples", "6", cutoff_len=60))
        for part in (r"examples +6\n", r"cut by cutoff_len 60: 1 of 6", r"the same as one before: 1 of 6", r"the end of the last answer is trained: \d of 6", r"example 6: 60 tokens", "tokens  █",
                     r"⟦one", "✂"):
            self.assertRegex(text, part)
        self.assertNotIn("ids:", text)
        self.assertRegex(self.good(self.shown("--examples", "1", "--ids")), r"ids: [\d ]+\n +labels: [-\d ]+\n")
        self.assertNotIn("example 1", self.good(self.shown("--examples", "0")))

    def test_the_page_stands_alone(self):
        self.good(self.shown("--html", "page.html", "--examples", "6", cutoff_len=60))
        page = (self.work / "page.html").read_text()
        self.assertTrue(page.startswith("<!DOCTYPE html>") and page.rstrip().endswith("</html>"))
        self.assertNotRegex(page, r"src=|href=|url\(|@import")
        for part in ('class="t"', 'class="c"', "Example 6", "the same as one before"):
            self.assertIn(part, page)
        (self.work / "pairs.jsonl").write_text(json.dumps(dict(question="<script>", answer="a & b")) + "\n")
        tiny.write_byte_tokenizer(self.model)
        (self.model / "config.json").unlink()  # which would say that the model has fewer tokens
        self.good(self.shown("--html", "page.html"))
        self.assertNotIn("<script>", (self.work / "page.html").read_text())

    def test_preferences_and_streams(self):
        (self.work / "prefer.jsonl").write_text('{"question": "say", "chosen": "one", "rejected": "two"}\n' * 3)
        text = self.good(self.shown(dataset="prefer.jsonl", stage="dpo"))
        self.assertRegex(text, "pair 1, chosen: [\\s\\S]*⟦one[\\s\\S]*pair 1, rejected: [\\s\\S]*⟦two")
        (self.work / "judged.jsonl").write_text('{"question": "say", "answer": "one", "good": true}\n{"question": "say", "answer": "two", "good": false}\n')
        self.assertRegex(self.good(self.shown(dataset="judged.jsonl", stage="kto")), "example 2, undesirable")
        self.good(self.shown("--json", "rows.jsonl", streaming="true", max_steps=3, buffer_size=2))
        self.assertEqual(len(rows_of(self.work / "rows.jsonl")), 6)
        self.refused(self.shown(streaming="true"), 2, "streaming needs max_steps")
        self.refused(self.shown(stage="ppo"), 2, "ppo")

    def test_arrow_files(self):
        shutil.copy(pathlib.Path(__file__).resolve().parent.parent / "golden/arrow/pairs.arrow", self.work)
        text = self.good(self.shown(dataset="pairs.arrow"))
        self.assertRegex(text, r"pairs.arrow: questions and answers: `question` → `answer`; not read: n")
        self.assertRegex(text, "⟦two")

    def test_what_is_missing_is_said(self):
        self.refused(tiny.run("data", "--model_name_or_path", str(self.model)), 2, "dataset is not given")
        (self.model / "tokenizer.json").unlink()
        self.refused(self.shown(), 3, "tokenizer.json")

    def test_ids_on_disk_are_those_in_memory(self):
        """Whole runs: the adapter, the log, the hash of the data in a checkpoint, and a resumed half."""
        tiny.write_model(self.work / "whole", seed=1)
        tiny.write_tokenizer(self.work / "whole")
        (self.work / "texts.jsonl").write_text("".join(json.dumps(dict(text=f"a text of {word} and more " * n)) + "\n" for n, word in enumerate(("one", "two", "fog", "sea", "red"), 3)))
        own = dict(dataset="pairs.jsonl", template="default", dataset_dir=self.work)
        cases = {"rows": dict(val_size=0.2, eval_strategy="steps", eval_steps=3, group_by_length="true"), "packed": dict(own, packing="true", cutoff_len=64, val_size=2, eval_strategy="epoch"),
                 "neat": dict(own, neat_packing="true", cutoff_len=64), "texts": dict(stage="pt", dataset="texts.jsonl", dataset_dir=self.work, cutoff_len=16),
                 "apart": dict(stage="pt", dataset="texts.jsonl", dataset_dir=self.work, packing="false", cutoff_len=40), "kept": dict(own, tokenized_path=self.work / "kept")}
        without_times = lambda line: {key: value for key, value in line.items() if "time" not in key and "per_second" not in key and key != "remaining_time"}
        for name, settings in cases.items():
            outs = [self.work / f"{name}_{place}" for place in ("memory", "disk")]
            train = lambda out, **more: self.good(tiny.run(*self.arguments(out=out, model=self.work / "whole", **(dict(max_steps=6, save_steps=3) | settings | more)), cwd=self.work))
            train(outs[0])
            shutil.rmtree(self.work / "kept", ignore_errors=True)
            with on_disk():
                train(outs[1])
                if name == "kept":
                    train(self.work / "again")
                    self.assertEqual((self.work / "again/adapter_model.safetensors").read_bytes(), (outs[0] / "adapter_model.safetensors").read_bytes())
            for file in ("adapter_model.safetensors", "checkpoint-3/adapter_model.safetensors"):
                self.assertEqual(*((out / file).read_bytes() for out in outs), (name, file))
            logs = [[without_times(line) for line in rows_of(out / "trainer_log.jsonl")] for out in outs]
            self.assertEqual(*logs, name)
            # Half in memory, the other half on disk: the data are the same.
            shutil.rmtree(outs[1] / "checkpoint-6")
            with on_disk():
                train(outs[1], resume_from_checkpoint=outs[1] / "checkpoint-3")
            self.assertEqual(*((out / "adapter_model.safetensors").read_bytes() for out in outs), name)
            self.assertEqual([path.name for path in self.work.rglob(".loraine-ids*")], [])

    def peak(self, *words):
        """MiB. Through a small process: the peak counts from the one that forked."""
        code = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
                "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        done = subprocess.run([sys.executable, "-c", code, tiny.program, *map(str, words)], capture_output=True, text=True, timeout=300, cwd=self.work)
        self.assertEqual(done.stdout.split()[:1], ["0"], done.stderr)
        return int(done.stdout.split()[1]) / 1024

    def test_memory_does_not_grow_with_the_data(self):
        """Ids and labels of 280 MB more, in every stage: what grows is what is kept of a row."""
        for stage, settings in (("sft", {}), ("sft", dict(packing="true")), ("pt", {})):
            peaks = []
            for rows in (2000, 30000):
                with open(self.work / "many.jsonl", "w") as file:
                    for i in range(rows):
                        words = f"number {i} " + "a tree on a hill " * 75
                        file.write(json.dumps(dict(text=words) if stage == "pt" else dict(question=words[:600], answer=words[600:])) + "\n")
                with unittest.mock.patch.dict(os.environ, LORAINE_IDS_IN_MEMORY="1000000"):
                    peaks.append(self.peak("data", "--examples", 0, "--model_name_or_path", self.model, "--dataset", "many.jsonl", "--template", "default", "--dataset_dir", self.work,
                                           "--stage", stage, *(word for key, value in settings.items() for word in (f"--{key}", value))))
            print(f"peak of {stage} {settings}: {peaks[0]:.0f} and {peaks[1]:.0f} MiB")
            self.assertLess(peaks[1] - peaks[0], 60, (stage, settings))


class Kept(tiny.Case):
    """tokenized_path: written by the first run, read by the next one, which then needs no data."""
    def test_encoded_data_are_kept(self):
        tiny.write_tokenizer(self.model)
        (self.work / "pairs.jsonl").write_text("".join(json.dumps(dict(question=f"say {word}", answer=word)) + "\n" for word in ("one", "two", "tree", "red", "fog", "sea")))
        losses = []
        for packing in ("false", "true"):
            kept = self.work / f"kept_{packing}"
            for i in range(2):
                out = self.work / f"out_{packing}{i}"
                text = self.good(tiny.run(*self.arguments(out=out, dataset="pairs.jsonl", dataset_dir=self.work, template="default", max_steps=2, val_size=2, do_eval="true",
                                                          save_strategy="no", neat_packing=packing, cutoff_len=64, tokenized_path=kept), cwd=self.work))
                self.assertIn("are kept in" if i == 0 else "encoded data, as they are", text)
                losses.append(json.loads((out / "all_results.json").read_text())["train_loss"])
            self.assertEqual(losses[-1], losses[-2])
            self.assertEqual(json.loads((kept / "dataset_dict.json").read_text()), {"splits": ["train", "validation"]})
        (self.work / "kept_false/train/data-00000-of-00001.arrow").write_bytes(b"ARROW")
        self.refused(tiny.run(*self.arguments(out=self.work / "bad", dataset="pairs.jsonl", dataset_dir=self.work, template="default", tokenized_path=self.work / "kept_false"), cwd=self.work), 3,
                     "not sound Arrow data")


if __name__ == "__main__":
    unittest.main()
