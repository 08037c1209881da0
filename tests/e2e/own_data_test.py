#!/usr/bin/env python3
"""Data of one's own by path, what is shown of it before training, and models by an id of a local cache. Run by ctest (label e2e)."""
import csv
import gzip
import json
import os
import pathlib
import pty
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

PAIRS = [(f"say {word}", word) for word in ("one", "two", "tree", "red", "fog", "sea")]


class OwnData(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        write = lambda name, text: (self.work / name).write_text(text)
        write("pairs.jsonl", "".join(json.dumps({"question": q, "answer": a}) + "\n" for q, a in PAIRS))
        write("alpaca.json", json.dumps([{"instruction": q, "input": "", "output": a} for q, a in PAIRS]))
        write("talk.json", json.dumps([{"conversations": [{"from": "human", "value": q}, {"from": "gpt", "value": a}]} for q, a in PAIRS]))
        write("messages.jsonl", "".join(json.dumps({"messages": [{"role": "user", "content": q}, {"role": "assistant", "content": a}]}) + "\n" for q, a in PAIRS))
        with open(self.work / "table.csv", "w", newline="", encoding="utf-8-sig") as file:
            csv.writer(file).writerows([("prompt", "response")] + PAIRS)
        with open(self.work / "talk.csv", "w", newline="") as file:
            csv.writer(file).writerows([("messages",)] + [(json.dumps([{"role": "user", "content": q}, {"role": "assistant", "content": a}]),) for q, a in PAIRS])
        (self.work / "packed.jsonl.gz").write_bytes(gzip.compress((self.work / "pairs.jsonl").read_bytes()))
        (self.work / "folder").mkdir()
        for i, part in enumerate((PAIRS[:4], PAIRS[4:])):
            (self.work / f"folder/{i}.jsonl").write_text("".join(json.dumps({"问题": q, "回答": a}) + "\n" for q, a in part))
        (self.work / "folder/README.md").write_text("what it is")

    def train(self, dataset, out=None, **changes):
        self.runs = getattr(self, "runs", 0) + 1
        return tiny.run(*self.arguments(out=out or self.work / f"run{self.runs}", **(dict(dataset=dataset, dataset_dir=self.work / "nowhere", max_steps=1, save_strategy="no", template="default") | changes)),
                        cwd=self.work)

    def tokens(self, text):
        return re.search(r"examples +([\d,]+)\n +tokens +([\d,]+)\n +trained tokens +([\d,]+)", text).groups()

    def test_every_layout_gives_the_same_examples(self):
        losses = set()
        for i, name in enumerate(("pairs.jsonl", "alpaca.json", "talk.json", "messages.jsonl", "table.csv", "talk.csv", "packed.jsonl.gz", "./folder", "folder/")):
            text = self.good(self.train(name, out=self.work / f"out{i}"))
            self.assertRegex(text, re.escape(name) + ": (questions and answers|conversations)")
            self.assertEqual(self.tokens(text)[0], "6")
            losses.add(json.loads((self.work / f"out{i}/all_results.json").read_text())["train_loss"])
        self.assertEqual(len(losses), 1, losses)

    def test_names_and_paths_in_one_list(self):
        (self.work / "data/chats.json").write_text(json.dumps([{"instruction": "hi", "output": "yes"}]))
        (self.work / "data/dataset_info.json").write_text(json.dumps({"chats": {"file_name": "chats.json"}}))
        text = self.good(self.train("chats, pairs.jsonl,talk.json", dataset_dir=self.data, eval_dataset="table.csv", eval_strategy="epoch"))
        self.assertRegex(text, r"examples +13\n")
        self.assertIn("table.csv: questions and answers: `prompt` → `response`", text)
        evaluated = self.good(tiny.run("eval", "--model_name_or_path", self.model, "--template", "default", "--eval_dataset", self.work / "pairs.jsonl", "--output_dir", self.work / "e",
                                       "--dataset_dir", self.data))
        self.assertIn("pairs.jsonl: questions and answers: `question` → `answer`", evaluated)
        compared = tiny.run("compare", "dataset=" + str(self.work / "pairs.jsonl"), f"model_name_or_path={self.model}", f"output_dir={self.work / 'c'}", "template=default",
                            "max_steps=1", "lora_rank=2,4", "val_size=2")
        self.good(compared)

    def test_texts(self):
        (self.work / "texts.txt").write_text("the sea is red\nand the fog is on the tree\n")
        self.refused(self.train("texts.txt"), 2, "plain texts in `text`", "stage: pt")
        text = self.good(self.train("texts.txt", stage="pt", packing="false", template="default"))
        self.assertIn("texts.txt: plain texts in `text`", text)
        self.refused(self.train("pairs.jsonl", stage="pt"), 2, "stage pt does not train on such rows", "stage: sft")

    def test_what_is_not_recognised_prints_an_entry_that_works(self):
        (self.work / "mine.json").write_text(json.dumps([{"frage": q, "antwort": a, "nr": 1} for q, a in PAIRS]))
        text = self.refused(self.train("mine.json"), 3, "`frage` (a text), `antwort` (a text), `nr` (a number)", "dataset_info.json")
        (self.work / "data/dataset_info.json").write_text(text.splitlines()[-1])
        self.good(self.train("mine", dataset_dir=self.data))
        self.refused(self.train("nowhere.json"), 2, "nowhere.json is neither a name in", "nor a file or folder")
        self.refused(self.train("a/b"), 2, "a/b is neither a name in")
        self.refused(self.train("./data"), 2, "is a folder of several data sets")

    def test_the_files_of_the_documents(self):
        model = tiny.write_model(self.work / "bytes", vocab=320)
        tiny.write_tokenizer(model)
        tokenizer = json.loads((model / "tokenizer.json").read_text())
        letters = [chr(b) if 33 <= b < 127 or 161 <= b < 173 or 174 <= b else None for b in range(256)]  # as GPT-2 spells bytes
        others = iter(range(256, 512))
        vocab = {token["content"]: token["id"] for token in tokenizer["added_tokens"]}
        tokenizer["model"]["vocab"] = vocab | {letter or chr(next(others)): 3 + b for b, letter in enumerate(letters)}
        (model / "tokenizer.json").write_text(json.dumps(tokenizer))
        for page in ("docs/data.md", "docs/zh/data.md"):
            files = re.findall(r"^`([\w.]+)`[:：]\n\n```\w+\n(.*?)```\n\n> ([^\n]*)$", (tiny.root / page).read_text(), re.M | re.S)
            self.assertGreaterEqual(len(files), 7, page)
            for name, content, said in files:
                (self.work / name).write_text(content)
                text = self.good(self.train(name, dry_run="true", model=model, **(dict(stage="pt", packing="false") if name.endswith(".txt") else {})))
                self.assertIn("\n" + said + "\n", "\n" + text, page)

    def test_what_is_shown_before_training(self):
        (self.work / "long.jsonl").write_text("".join(json.dumps({"question": "a" * n, "answer": "b" * n}) + "\n" for n in [20] * 39 + [40]) + json.dumps({"question": "q", "answer": ""}) + "\n")
        text = self.good(self.train("long.jsonl", cutoff_len=30))
        for line in (r"model +.*model \(llama\)", r"size +[\d,]+ parameters", r"type +F32; computed in f32", r"template +default", r"method +LoRA, rank 4, alpha 8, targets all",
                     r"machine +.*, \d+ threads?", r"first example: \d+ tokens, of which \d+ are trained, between ⟦ and ⟧\n  Human: a+⟦b+⟧\n"):
            self.assertRegex(text, line)
        cut = re.search(r"warning: 40 of 41 rows \(97.6 %\) of the training data are longer than cutoff_len 30 and are cut; cutoff_len: (\d+) cuts none, (\d+) leaves 95 % of them whole", text)
        self.assertTrue(cut, text)
        self.assertIn("warning: 1 of 41 rows of the training data have an empty answer, of which only the end token is trained", text)
        for at, words in ((1, None), (2, "warning: 1 of 41 rows (2.44 %)")):
            again = self.good(self.train("long.jsonl", out=self.work / f"again{at}", cutoff_len=cut[at]))
            self.assertEqual("are cut" in again, words is not None)
            self.assertIn(words or "", again)
        self.refused(self.train("long.jsonl", out=self.work / "strict", cutoff_len=30, strict="true"), 2, "are longer than cutoff_len")
        self.refused(self.train("pairs.jsonl", out=self.work / "none", cutoff_len=1), 2, "nothing would be learnt", "set cutoff_len: ")

    def test_colour_on_a_terminal(self):
        def shown(**environment):
            leader, follower = pty.openpty()
            words = self.arguments(dataset="pairs.jsonl", max_steps=1, template="default", dry_run="true")
            child = subprocess.Popen([tiny.program, *map(str, words)], stderr=follower, stdout=subprocess.DEVNULL, stdin=subprocess.DEVNULL, cwd=self.work,
                                     env=os.environ | {"TERM": "xterm"} | environment)
            os.close(follower)
            text = b""
            while True:
                try:
                    block = os.read(leader, 4096)
                except OSError:
                    break
                if not block:
                    break
                text += block
            os.close(leader)
            self.assertEqual(child.wait(), 0)
            return text.decode()
        self.assertIn("Assistant:\x1b[32mone", shown())
        self.assertIn("Assistant:⟦one", shown(NO_COLOR="1"))
        self.assertIn("Assistant:⟦one", shown(TERM="dumb"))


class CachedModels(tiny.Case):
    def run_with(self, *words, **environment):
        done = subprocess.run([tiny.program, *map(str, words)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL, cwd=self.work,
                              env=os.environ | {"HF_HUB_CACHE": str(self.work / "hub")} | environment)
        return done.returncode, done.stdout + done.stderr

    def cache(self, name, folder, revision="0a1b2c"):
        """A repository as huggingface_hub keeps it."""
        repository = self.work / "hub" / ("models--" + name.replace("/", "--"))
        (repository / "blobs").mkdir(parents=True, exist_ok=True)
        (repository / "refs").mkdir(exist_ok=True)
        (repository / "refs/main").write_text(revision)
        snapshot = repository / "snapshots" / revision
        snapshot.mkdir(parents=True)
        for file in folder.iterdir():
            if file.is_file():
                (repository / "blobs" / f"{revision}-{file.name}").write_bytes(file.read_bytes())
                (snapshot / file.name).symlink_to(f"../../blobs/{revision}-{file.name}")
        return snapshot

    def test_models_and_adapters_by_id(self):
        snapshot = self.cache("org/tiny", self.model)
        text = self.good(self.run_with(*self.arguments(model="org/tiny", max_steps=2)))
        self.assertIn(f"org/tiny: {snapshot} in the local cache, revision 0a1b2c", text)
        self.assertEqual(json.loads((self.out / "adapter_config.json").read_text())["base_model_name_or_path"], "org/tiny")
        adapter = self.cache("org/adapter", self.out)
        merged = [self.good(self.run_with("export", "--model_name_or_path", model, "--adapter_name_or_path", which, "--export_dir", self.work / out))
                  for model, which, out in ((self.model, self.out, "by_path"), ("org/tiny", "org/adapter", "by_id"))]
        self.assertIn(f"org/adapter: {adapter} in the local cache", merged[1])
        self.assertNotIn("made for the base model", merged[1])
        self.assertEqual((self.work / "by_path/model.safetensors").read_bytes(), (self.work / "by_id/model.safetensors").read_bytes())
        self.good(self.run_with(*self.arguments(out=self.work / "on", model="org/tiny", max_steps=2, adapter_name_or_path="org/adapter")))
        self.good(self.run_with("eval", "--model_name_or_path", "org/tiny", "--adapter_name_or_path", "org/adapter", "--eval_dataset", "rows", "--dataset_dir", self.data,
                                "--output_dir", self.work / "e"))

    def test_data_sets_by_id(self):
        folder = self.work / "hub/datasets--org--rows/snapshots/main/data"
        folder.mkdir(parents=True)
        rows = (self.data / "rows.jsonl").read_bytes()
        for name in ("train-0.jsonl", "train-1.jsonl", "test-0.jsonl"):
            (folder / name).write_bytes(rows)
        text = self.good(self.run_with(*self.arguments(dataset="org/rows", max_steps=1)))
        self.assertIn("org/rows: token ids", text)
        self.assertRegex(text, r"examples +48\n")
        self.refused(self.run_with(*self.arguments(dataset="org/none")), 2, "org/none is neither a name in", "hf download --repo-type dataset org/none")

    def test_what_is_missing_is_named(self):
        snapshot = self.cache("org/tiny", self.model)
        words = self.arguments(model="org/tiny", max_steps=2)
        (snapshot / "model.safetensors").resolve().unlink()
        self.refused(self.run_with(*words), 3, "is incomplete; missing: model.safetensors", "hf download org/tiny")
        self.refused(self.run_with(*words, "--model_revision", "v2"), 3, "has no revision v2", "it has 0a1b2c")
        self.refused(self.run_with(*self.arguments(model="org/other")), 3, "org/other: no such model folder or file", str(self.work / "hub"), "hf download org/other")
        self.refused(self.run_with(*self.arguments(adapter_name_or_path="org/other")), 3, "org/other: no such adapter folder")


if __name__ == "__main__":
    unittest.main()
