#!/usr/bin/env python3
"""Training with share_prefixes on and off: tokens computed, processor time and loss, in turns over the same rows.

usage: bench/shared_prefixes.py --model MODEL --data FOLDER --dataset NAME [--stage dpo] [--rounds 2] [--json FILE] [KEY=VALUE ...]

MODEL has a tokenizer; KEY=VALUE are further settings of the runs. What both runs do alike outside their steps (start, reading of data and model) is taken off by a
run of one update: the ratio is that of the updates behind the first. Tokens are those of the steps, too."""
import argparse
import json
import os
import pathlib
import resource
import statistics
import subprocess
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))


def run(options, share, steps, out):
    """Processor seconds (user) of a run, its losses and its results."""
    settings = dict(model_name_or_path=options.model, stage=options.stage, do_train="true", finetuning_type="lora", dataset_dir=options.data, dataset=options.dataset, output_dir=out,
                    overwrite_output_dir="true", save_strategy="no", logging_steps=1, learning_rate="1e-4", lr_scheduler_type="constant", max_steps=steps)
    settings.update(word.split("=", 1) for word in options.settings)
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime
    subprocess.run([program, "train", *[f"{key}={value}" for key, value in settings.items()], f"share_prefixes={share}"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    seconds = resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime - before
    log = [entry["loss"] for entry in json.loads((out / "trainer_state.json").read_text())["log_history"] if "loss" in entry]
    return seconds, log, json.loads((out / "all_results.json").read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--data", required=True)
    parser.add_argument("--dataset", required=True)
    parser.add_argument("--stage", default="dpo")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--json", type=pathlib.Path)
    parser.add_argument("settings", nargs="*", metavar="KEY=VALUE")
    options = parser.parse_args()
    times, losses, results = {"true": [], "false": []}, {}, {}
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "out"
        for _ in range(options.rounds):
            for share in times:
                start, _, first = run(options, share, 1, out)
                seconds, losses[share], results[share] = run(options, share, options.steps, out)
                times[share].append(seconds - start)
                if share == "true":
                    counts = [results[share][key] - first[key] for key in ("train_tokens_computed", "train_tokens")]
    apart = max(abs(one - other) / abs(other) for one, other in zip(losses["true"], losses["false"]))
    ratios = [one / other for one, other in zip(times["true"], times["false"])]
    report = dict(stage=options.stage, dataset=options.dataset, settings=options.settings, steps=options.steps, tokens=counts[1], computed=counts[0], token_share=round(counts[0] / counts[1], 4),
                  time_share=round(statistics.median(ratios), 4), time_shares=[round(one, 4) for one in ratios], seconds={share: [round(one, 2) for one in all] for share, all in times.items()},
                  losses_apart=apart, peak_mib={share: results[share]["peak_memory_bytes"] >> 20 for share in times})
    print(json.dumps(report, indent=1))
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


main()
