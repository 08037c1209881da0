#!/usr/bin/env python3
"""Records whole runs of LLaMA-Factory 0.9.5 with other optimizers than AdamW: losses and gradient norms, in tests/golden/optimizer_runs.json.

    python3 tests/golden/make_optimizer_runs.py RUNS    # a folder of runs as LLaMA-Factory's recorded ones: RUNS/sft_lora, RUNS/sft_full, RUNS/../tiny_llama

Needs what make_optimizer_cases.py needs. `apart` is what a loss may differ by, relative: Muon's bf16 rounds by the order of its sums, and bitsandbytes' code for
CPUs takes other codes than its exact one.
"""
import json
import os
import pathlib
import shutil
import sys
import tempfile

import torch
import yaml

HERE = pathlib.Path(__file__).resolve().parent
RUNS = [
    ("sgd", "sft_lora", {"optim": "sgd", "optim_args": "momentum=0.9", "learning_rate": 0.1}, 2e-6),
    ("adafactor", "sft_full", {"optim": "adafactor", "weight_decay": 0.01}, 2e-6),
    ("lion", "sft_lora", {"optim": "lion_32bit", "learning_rate": 1e-3}, 2e-6),
    ("muon", "sft_full", {"use_muon": True, "weight_decay": 0.01}, 1e-4),
    ("schedule_free_adamw", "sft_lora", {"optim": "schedule_free_adamw"}, 2e-6),
    ("badam", "sft_full", {"use_badam": True, "badam_switch_interval": 3}, 2e-6),
    ("adamw_8bit", "sft_full", {"optim": "adamw_8bit"}, 1e-4),
    ("galore", "sft_full", {"use_galore": True, "optim": "adamw_torch", "galore_rank": 4, "galore_update_interval": 100, "weight_decay": 0.01}, 2e-6),
    ("adam_mini", "sft_full", {"use_adam_mini": True}, 2e-6),
]


def main(runs):
    from llamafactory.train.tuner import run_exp

    torch.set_num_threads(1)
    entries = []
    with tempfile.TemporaryDirectory() as folder:
        work = pathlib.Path(folder)
        shutil.copytree(runs.parent / "tiny_llama", work / "tiny_llama")
        for name, base, changes, apart in RUNS:
            shutil.copytree(runs / base, work / "runs" / name, ignore=shutil.ignore_patterns("output"))
            os.chdir(work / "runs" / name)
            run_exp(yaml.safe_load(pathlib.Path("train.yaml").read_text()) | changes)
            log = [entry for entry in json.loads(pathlib.Path("output/trainer_state.json").read_text())["log_history"] if "loss" in entry]
            entries.append({"name": name, "base": base, "changes": changes, "apart": apart, "losses": [entry["loss"] for entry in log],
                            "grad_norms": [entry["grad_norm"] for entry in log]})
    (HERE / "optimizer_runs.json").write_text("[\n" + ",\n".join(map(json.dumps, entries)) + "\n]\n")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]).resolve())
