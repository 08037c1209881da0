"""Whole runs of LLaMA-Factory (runs/<name>): the same train.yaml, losses, gradient norms, learning rates and the final adapter. Called by golden.py.
A case: train.yaml, data/, output/trainer_state.json, output/adapter_model.safetensors; paths in train.yaml are relative to the case."""
import json
import os
import pathlib

from golden import apart, loraine, read_tensors

names = ["sft_lora", "sft_rslora", "sft_loraplus", "sft_dora", "sft_pissa"]
free_signs = ["sft_pissa"]  # of singular vectors: the factors cannot be compared


def cases(top):
    return sorted(path.parent for path in top.rglob("train.yaml") if path.parent.name in names and (path.parent / "output/trainer_state.json").is_file())


def run_case(case, work):
    """Yields (kind, figure)."""
    here = os.getcwd()
    os.chdir(case)
    try:
        loraine("train", "train.yaml", f"output_dir={work / 'out'}")
    finally:
        os.chdir(here)
    steps = lambda file: [line for line in json.loads(pathlib.Path(file).read_text())["log_history"] if "loss" in line]
    ours, theirs = steps(work / "out/trainer_state.json"), steps(case / "output/trainer_state.json")
    if len(ours) != len(theirs):
        raise RuntimeError(f"{len(ours)} losses logged, {len(theirs)} recorded")
    for a, b in zip(ours, theirs):
        yield "run losses", abs(a["loss"] - b["loss"]) / b["loss"]
        yield "gradient norms", abs(a["grad_norm"] - b["grad_norm"]) / b["grad_norm"]
        yield "rates", abs(a["learning_rate"] - b["learning_rate"]) / max(b["learning_rate"], 1e-30)
    if case.name not in free_signs:
        final = read_tensors(work / "out/adapter_model.safetensors")
        for name, tensor in read_tensors(case / "output/adapter_model.safetensors").items():
            yield "final adapter", apart(final[name], tensor, False)
