#!/usr/bin/env python3
"""The same YAML through `llamafactory-cli train` and `loraine train`: seconds from process start to saved adapter, peak memory, eval loss.

usage: python3 bench/whole_job.py --llamafactory PATH_OF_CLI [--rounds 1] FILE.yaml [key=value ...]

The two take turns, each in a process of its own and with an output_dir of its own; the best round of each counts. Without an evaluation in
the YAML (do_eval and val_size) the losses are nan."""
import argparse
import json
import math
import os
import pathlib
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent


def job(command, folder):
    log = folder / "log.txt"
    begin = time.monotonic()
    with open(log, "w") as out:
        process = subprocess.Popen([*command, f"output_dir={folder / 'out'}", "overwrite_output_dir=true"], stdout=out, stderr=out)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.monotonic() - begin
    if status:
        sys.exit(f"{command[0]} ended with {os.waitstatus_to_exitcode(status)}:\n{log.read_text()[-2000:]}")
    results = json.loads((folder / "out/all_results.json").read_text())
    return {"seconds": seconds, "peak": usage.ru_maxrss << 10, "eval_loss": results.get("eval_loss", math.nan), "rows": results["train_samples_per_second"],
            "training": results["train_runtime"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llamafactory", required=True, help="the llamafactory-cli to compare with")
    parser.add_argument("--loraine", default=os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine")))
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("settings", nargs="+")
    options = parser.parse_args()
    sides = {"LLaMA-Factory": options.llamafactory, "loraine": options.loraine}
    best = {}
    for _ in range(options.rounds):
        for name, program in sides.items():
            with tempfile.TemporaryDirectory() as folder:
                result = job([program, "train", *options.settings], pathlib.Path(folder))
            if name not in best or result["seconds"] < best[name]["seconds"]:
                best[name] = result
    print("| | whole job, s | training, s | rows/s | peak MiB | eval loss |\n|---|---|---|---|---|---|")
    for name, r in best.items():
        print(f"| {name} | {r['seconds']:.1f} | {r['training']:.1f} | {r['rows']:.3f} | {r['peak'] >> 20} | {r['eval_loss']:.4f} |")
    a, b = best["LLaMA-Factory"], best["loraine"]
    print(f"| ratio | {a['seconds'] / b['seconds']:.2f} | {a['training'] / b['training']:.2f} | {b['rows'] / a['rows']:.2f} | "
          f"{b['peak'] / a['peak']:.2f} | {b['eval_loss'] / a['eval_loss']:.4f} |")


main()
