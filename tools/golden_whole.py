"""The recorded runs of PEFT that train dense tensors (variants/<method>): losses, gradient norms, the final file, logits and merged logits.
Called by golden.py. A case: init/ (not with full), final/, train.json, out.safetensors; its base is ../llama/model beside `variants`."""
import json

from golden import apart, loraine, logits_apart, read_tensors, rows_of, write_ids

# What differs from the common settings, per method.
methods = {"modules_to_save": {}, "bias": {}, "embedding": {}, "full": dict(finetuning_type="full", learning_rate="5e-4")}


def cases(top):
    found = sorted(path.parent for path in top.rglob("out.safetensors") if path.parent.name in methods and (path.parent / "final").is_dir())
    return [case for case in found if (case.parent.parent / "llama/model").is_dir()]


def logits(work, batches, *where):
    """Of batch 0"""
    write_ids(work / "batch.safetensors", {key: rows_of(batches[f"{key}0"]) for key in ("input_ids", "labels", "attention_mask")})
    loraine("trace", *where, "--batch", work / "batch.safetensors", "--output", work / "logits.safetensors")
    return read_tensors(work / "logits.safetensors")["logits"]


def train(case, work, model, batches, record):
    data = work / "data"
    data.mkdir()
    with open(data / "rows.jsonl", "w") as file:
        for batch in range(3):
            ids, labels, masks = (rows_of(batches[f"{key}{batch}"]) for key in ("input_ids", "labels", "attention_mask"))
            for i, l, m in zip(ids, labels, masks):
                file.write(json.dumps({"input_ids": i[: sum(m)], "labels": l[: sum(m)]}) + "\n")
    (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
    settings = dict(
        stage="sft", do_train="true", finetuning_type="lora", model_name_or_path=model, dataset="rows", dataset_dir=data,
        output_dir=work / "out", per_device_train_batch_size=len(ids), gradient_accumulation_steps=1, max_steps=len(record), learning_rate="2e-3",
        weight_decay="0.01", lr_scheduler_type="cosine", warmup_steps=4, logging_steps=1, disable_shuffling="true",
    ) | methods[case.name]
    if (case / "init").is_dir():
        settings["adapter_name_or_path"] = case / "init"
    loraine("train", *[word for key, value in settings.items() for word in (f"--{key}", value)])
    return json.loads((work / "out/trainer_state.json").read_text())["log_history"]


def run_case(case, work):
    """Yields (kind, figure)."""
    model, batches = case.parent.parent / "llama/model", read_tensors(case / "out.safetensors")
    record = json.loads((case / "train.json").read_text())
    record = record["log"] if isinstance(record, dict) else record
    mask = batches["attention_mask0"]
    whole = not (case / "init").is_dir()
    where = ["--model_name_or_path", case / "final"] if whole else ["--model_name_or_path", model, "--adapter_name_or_path", case / "final"]
    if "logits" in batches:
        yield "logits", logits_apart(logits(work, batches, *where), batches["logits"], mask)
    if "merged_logits" in batches:
        loraine("export", *where, "--export_dir", work / "merged")
        yield "logits", logits_apart(logits(work, batches, "--model_name_or_path", work / "merged"), batches["merged_logits"], mask)

    log = [line for line in train(case, work, model, batches, record) if "loss" in line]
    if len(log) != len(record):
        raise RuntimeError(f"{len(log)} losses logged, {len(record)} recorded")
    for line, entry in zip(log, record):
        yield "run losses", abs(line["loss"] - entry["loss"]) / entry["loss"]
        yield "gradient norms", abs(line["grad_norm"] - entry["grad_norm"]) / entry["grad_norm"]
    name = "model.safetensors" if whole else "adapter_model.safetensors"
    final, recorded = read_tensors(work / "out" / name), read_tensors(case / "final" / name)
    if final.keys() != recorded.keys():
        raise RuntimeError(f"tensors {sorted(final.keys() ^ recorded.keys())[:3]} are in one of the two final files only")
    for tensor in recorded:
        yield "final adapter", apart(final[tensor], recorded[tensor], False)
