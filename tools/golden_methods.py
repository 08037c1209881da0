"""PEFT's methods beside LoRA (methods/<name>), as tests/golden/make_method_cases.py recorded them: logits, loss and gradients with adapter/, merged weights, a run
from init/ and its final adapter. base.txt says over which case's model and batches, and in how many bits that is held. Called by golden.py."""
import json

from golden_files import apart, logits_apart, loraine, read_tensors
from golden_variants import train


def cases(top):
    return sorted(path.parent for path in top.rglob("base.txt") if path.parent.parent.name == "methods")


def run_case(case, work):
    """Yields (kind, figure)."""
    base, bits = (case / "base.txt").read_text().split()
    model, method = case.parent.parent / base / "model", json.loads((case / "adapter/adapter_config.json").read_text())["peft_type"].lower()
    quantised = {"quantization_bit": bits} if bits != "0" else {}
    where = ["--model_name_or_path", model, "--adapter_name_or_path", case / "adapter", *(word for key, value in quantised.items() for word in (f"--{key}", value))]
    recorded = read_tensors(case / "out.safetensors")
    loraine("trace", *where, "--batch", case / "out.safetensors", "--output", work / "out.safetensors", "--gradients", "true")
    out = read_tensors(work / "out.safetensors")
    yield "logits", logits_apart(out["logits"], recorded["logits"], recorded["attention_mask"])
    yield "loss", abs(out["loss"][1][0] - recorded["loss"][1][0])
    short = lambda name: name.replace(".default.", ".").removesuffix(".default")
    ours = {short(name): tensor for name, tensor in out.items()}
    for name in (name for name in recorded if name.startswith("grad.")):
        yield "gradients", apart(ours[short(name)], recorded[name], True)

    if (case / "merged.safetensors").exists():
        loraine("export", *where, "--export_dir", work / "merged")
        merged = read_tensors(work / "merged/model.safetensors")
        for name, tensor in read_tensors(case / "merged.safetensors").items():
            yield "merged weights", apart(merged[name], tensor, False)

    record = json.loads((case / "train.json").read_text())["log"]
    batches = read_tensors(model.parent / "batches.safetensors")
    log = train(case, work, model, batches, record, {"finetuning_type": method, **quantised})
    losses = [entry for entry in log if "loss" in entry]
    if len(losses) != len(record):
        raise RuntimeError(f"{len(losses)} losses logged, {len(record)} recorded")
    for ours, theirs in zip(losses, record):
        yield "run losses", abs(ours["loss"] - theirs["loss"]) / theirs["loss"]
        yield "gradient norms", abs(ours["grad_norm"] - theirs["grad_norm"]) / theirs["grad_norm"]
    final = read_tensors(work / "out/adapter_model.safetensors")
    recorded = read_tensors(case / "final/adapter_model.safetensors")
    if final.keys() != recorded.keys():
        raise RuntimeError(f"tensors of the final adapter differ: {sorted(final.keys() ^ recorded.keys())[:3]}")
    for name, tensor in recorded.items():
        yield "final adapter", apart(final[name], tensor, False)
