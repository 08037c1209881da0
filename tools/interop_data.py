#!/usr/bin/env python3
"""Encoded data sets between build/loraine and the real `datasets`, both ways (tokenized_path). Called by tools/interop.sh."""
import json
import os
import pathlib
import subprocess
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import datasets

root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tests/support"))
os.environ.setdefault("LORAINE_PROGRAM", str(root / "build/loraine"))
import tiny_model as tiny

import interop_checks
from interop_checks import check

datasets.disable_progress_bars()


def loraine(*words, cwd):
    code, text = tiny.run(*map(str, words), cwd=cwd)
    if code:
        sys.exit(f"loraine {words[0]} ended with {code}:\n{text}")


def examples(work, *words):
    loraine("data", "--model_name_or_path", work / "model", "--template", "default", "--dataset_dir", work, "--json", work / "rows.jsonl", *words, cwd=work)
    return [json.loads(line) for line in (work / "rows.jsonl").read_text().splitlines()]


with tempfile.TemporaryDirectory() as folder:
    work = pathlib.Path(folder)
    tiny.write_model(work / "model", 1)
    tiny.write_tokenizer(work / "model")
    words = ("one", "two", "tree", "red", "fog", "sea", "hill", "lake")
    (work / "pairs.jsonl").write_text("".join(json.dumps(dict(question=f"say {word}", answer=word)) + "\n" for word in words))
    for packing in ("false", "true"):
        kept = work / f"kept_{packing}"
        settings = ["--dataset", "pairs.jsonl", "--neat_packing", packing, "--cutoff_len", 64, "--val_size", 2]
        loraine("train", "--model_name_or_path", work / "model", "--template", "default", "--dataset_dir", work, *settings, "--tokenized_path", kept, "--max_steps", 1,
                "--save_strategy", "no", "--output_dir", work / f"out_{packing}", "--lora_rank", 2, cwd=work)
        theirs = datasets.load_from_disk(str(kept))
        ours = examples(work, *settings)
        for split, name in (("train", "train"), ("validation", "eval")):
            rows = [row for row in ours if row["set"] == name]
            check(f"neat_packing {packing}: {split} in datasets",
                  len(rows) == len(theirs[split]) and all(a["input_ids"] == b["input_ids"] and a["labels"] == b["labels"] for a, b in zip(rows, theirs[split])))
        theirs.save_to_disk(str(work / f"back_{packing}"))
        check(f"neat_packing {packing}: what datasets wrote of it", examples(work, "--dataset", "pairs.jsonl", "--tokenized_path", work / f"back_{packing}") == ours)
sys.exit(interop_checks.failures > 0)
