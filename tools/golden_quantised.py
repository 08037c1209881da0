"""Checkpoints in other quantisers' formats (tests/golden/make_quantised_cases.py): dequantised weights to the bit, as export writes them; the base's loss;
logits, loss and gradients with an adapter (all this of models that are quantised while they are loaded, too); what is merged, in float32; the losses of a run. Called by golden.py."""
import array
import hashlib
import json

from golden_files import apart, logits_apart, loraine, read_tensors, rows_of


def cases(top):
    return sorted(path.parent for path in top.rglob("case.json") if (path.parent / "model").is_dir() and (path.parent / "out.safetensors").exists())


def digest(tensor):
    return hashlib.sha256(array.array("f", [value + 0.0 for value in tensor[1]]).tobytes()).hexdigest()  # both zeros are one


def exported(model, folder, *more):
    loraine("export", "--model_name_or_path", model, "--export_dir", folder, "--infer_dtype", "float32", *more)
    return read_tensors(folder / "model.safetensors")


def write_rows(top, data):
    batches = read_tensors(top / "batches.safetensors")
    data.mkdir()
    with open(data / "rows.jsonl", "w") as file:
        for batch in range(3):
            for ids, labels, mask in zip(*(rows_of(batches[f"{key}{batch}"]) for key in ("input_ids", "labels", "attention_mask"))):
                file.write(json.dumps({"input_ids": ids[: sum(mask)], "labels": labels[: sum(mask)]}) + "\n")
    (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))


def run_case(case, work):
    """Yields (kind, figure)."""
    model, adapter, recorded, wanted = case / "model", case.parent / "lora", read_tensors(case / "out.safetensors"), json.loads((case / "case.json").read_text())
    load = [word for key, value in wanted.get("load", {}).items() for word in (f"--{key}", value)]
    if not load:  # what is quantised while it is loaded is not written
        weights = exported(model, work / "dequantised")
        yield "dequantised weights apart", sum(digest(weights[name]) != value for name, value in wanted["weights"].items())

    def trace(name, *arguments):
        loraine("trace", "--batch", case / "out.safetensors", "--output", work / name, *arguments)
        return read_tensors(work / name)

    mask = recorded["attention_mask"]
    yield "loss", abs(trace("base", "--model_name_or_path", model, *load)["loss"][1][0] - recorded["base_loss"][1][0])
    with_adapter = ["--model_name_or_path", model, "--adapter_name_or_path", adapter, *load]
    out = trace("lora", *with_adapter, "--gradients", "true")
    yield "logits", logits_apart(out["logits"], recorded["logits"], mask)
    yield "loss", abs(out["loss"][1][0] - recorded["loss"][1][0])
    ours = {name.replace(".default.", "."): tensor for name, tensor in out.items()}
    for name in recorded:
        if name.startswith("grad."):
            yield "gradients", apart(ours[name], recorded[name], True)

    if not load:
        exported(model, work / "merged", "--adapter_name_or_path", adapter)
        yield "logits", logits_apart(trace("merged_out", "--model_name_or_path", work / "merged")["logits"], recorded["logits"], mask)

    write_rows(case.parent, work / "data")
    loraine(
        "train", "--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", *with_adapter, "--dataset", "rows", "--dataset_dir", work / "data",
        "--output_dir", work / "out", "--per_device_train_batch_size", 2, "--gradient_accumulation_steps", 1, "--max_steps", len(wanted["losses"]),
        "--learning_rate", "2e-2", "--weight_decay", "0", "--lr_scheduler_type", "constant", "--logging_steps", 1, "--disable_shuffling", "true", "--lora_dropout", "0",
    )
    lines = [json.loads(line) for line in (work / "out/trainer_log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    if len(losses) != len(wanted["losses"]):
        raise RuntimeError(f"{len(losses)} losses logged, {len(wanted['losses'])} recorded")
    for loss, entry in zip(losses, wanted["losses"]):
        yield "run losses", abs(loss - entry) / entry
