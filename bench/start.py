#!/usr/bin/env python3
"""Seconds from the start of `loraine train` to its first step, with warm files: the best of several runs, by wall clock and by processor time.

usage: python3 bench/start.py [--rounds 10] MODEL_FOLDER DATA_FOLDER     DATA_FOLDER has LLaMA-Factory's identity.json and alpaca_en_demo.json

108 short rows: 54 of each file. The moment is that of the line `memory forecast`, printed when all is planned."""
import argparse
import json
import os
import pathlib
import subprocess
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))


def start(model, data, out):
    """(wall, processor) seconds until everything is planned, and until the run of one step is over"""
    words = ["train", "--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", "--model_name_or_path", model, "--dataset", "rows", "--dataset_dir", data,
             "--output_dir", out, "--lora_rank", "8", "--lora_target", "all", "--learning_rate", "1e-4", "--per_device_train_batch_size", "1",
             "--gradient_accumulation_steps", "1", "--max_steps", "1", "--save_strategy", "no", "--overwrite_output_dir", "true"]
    begin = time.perf_counter()
    process = subprocess.Popen([program, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, text=True)
    for line in process.stdout:
        if "memory forecast" in line:
            wall = time.perf_counter() - begin
            fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
            processor = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    if process.wait() != 0:
        raise SystemExit(f"loraine train ended with {process.returncode}")
    return wall, processor, time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("model", type=pathlib.Path)
    parser.add_argument("data", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as holder:
        work = pathlib.Path(holder)
        rows = [row for name in ("identity", "alpaca_en_demo") for row in json.loads((options.data / f"{name}.json").read_text())[:54]]
        (work / "rows.json").write_text(json.dumps(rows))
        (work / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.json"}}))
        runs = [start(options.model.resolve(), work, work / "out") for _ in range(options.rounds)]
    best = [min(column) for column in zip(*runs)]
    print(f"{len(rows)} rows, best of {len(runs)}: before step 1 {best[0]:.3f} s ({best[1]:.2f} s of processor time), the run of one step {best[2]:.3f} s")


main()
