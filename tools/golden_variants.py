"""The recorded runs of LoRA's kin and of tensors that are trained whole (variants/<method>): each from its recorded start, losses, gradient norms,
the final file, logits and merged logits. Called by golden.py. A case: init/ (not with full, nor of a start out of the data), final/, train.json,
out.safetensors; its base is ../llama/model beside the folder `variants`, or that of `bases`, that of full_<case> the model of that case."""
import json

from golden_files import apart, loraine, logits_apart, read_tensors, rows_of, write_ids

# What differs from the common settings, per method; a folder that is not named here is not run.
methods = {
    "rslora": {}, "gaussian": {}, "patterns": {}, "layers": {}, "regex": {},
    "loraplus": dict(learning_rate="2e-4", loraplus_lr_ratio=16), "dora": {}, "pissa": {}, "olora": {}, "adalora": dict(learning_rate="5e-3"),
    "modules_to_save": {}, "bias": {}, "embedding": {}, "full": dict(finetuning_type="full", learning_rate="5e-4"),
    "qlora": dict(quantization_bit=4), "loftq": {}, "loftq_twice": {}, "loftq_8bit": {},
    "full_qwen3_moe": dict(finetuning_type="full", learning_rate="5e-4"), "full_gpt_oss": dict(finetuning_type="full", learning_rate="5e-4"),
    "lora_bias": {}, "tokens": {}, "tokens_both_tied": {}, "lorafa": dict(use_lorafa="true"),
    "eva": dict(init_lora_weights="eva"),
    "eva_whitened": dict(lora_target="q_proj,o_proj,gate_proj,down_proj", init_lora_weights="eva", eva_rho=1.5, eva_tau=0.95, eva_use_label_mask="false", eva_whiten="true", eva_adjust_scaling_factors="false"),
    "corda": dict(init_lora_weights="corda"), "corda_kpm": dict(init_lora_weights="corda", corda_method="kpm"),
    "lora_ga": dict(init_lora_weights="lora_ga"), "lora_ga_svd": dict(init_lora_weights="lora_ga", lora_ga_direction="ArBr", lora_ga_scale="weight_svd"),
    "lora_ga_gd": dict(init_lora_weights="lora_ga", lora_ga_direction="A2rBr", lora_ga_scale="gd_scale"),
    "alora": {},
}
bases = {"lora_bias": "qwen2", "tokens_both_tied": "llama3"}  # llama where none is named
from_data = ("eva", "corda", "lora_ga")  # starts: the run makes its own, whose singular vectors may have other signs
in_codes = {"loftq": 4, "loftq_twice": 4, "loftq_8bit": 8}  # whose base may be held in codes too, with the same numbers


def cases(top):
    found = sorted(path.parent for path in top.rglob("out.safetensors") if path.parent.name in methods and (path.parent / "final").is_dir())
    return [case for case in found if (case.parent.parent / "llama/model").is_dir()]


def product(tensors, config, module):
    """s B A, row by row. The patterns of such files name whole modules."""
    (r, width), a = tensors[f"{module}.lora_A.weight"]
    (rows, _), b = tensors[f"{module}.lora_B.weight"]
    path = module.removeprefix("base_model.model.")
    scale = config["alpha_pattern"].get(path, config["lora_alpha"]) / (r**0.5 if config["use_rslora"] else r)
    return (rows, width), [scale * sum(b[o * r + k] * a[k * width + i] for k in range(r)) for o in range(rows) for i in range(width)]


def products_apart(ours, theirs):
    """Of two adapter folders, which have to adapt the same modules."""
    tensors = [read_tensors(folder / "adapter_model.safetensors") for folder in (ours, theirs)]
    configs = [json.loads((folder / "adapter_config.json").read_text()) for folder in (ours, theirs)]
    if tensors[0].keys() != tensors[1].keys():
        raise RuntimeError(f"tensors {sorted(tensors[0].keys() ^ tensors[1].keys())[:3]} are in one of the two final files only")
    for name in tensors[1]:
        if name.endswith(".lora_A.weight"):
            module = name.removesuffix(".lora_A.weight")
            if tensors[0][name][0] != tensors[1][name][0]:
                raise RuntimeError(f"{module} has rank {tensors[0][name][0][0]}, recorded {tensors[1][name][0][0]}")
            yield apart(*(product(one, config, module) for one, config in zip(tensors, configs)), False)


def logits(work, batches, *where):
    """Of batch 0"""
    write_ids(work / "batch.safetensors", {key: rows_of(batches[f"{key}0"]) for key in ("input_ids", "labels", "attention_mask")})
    loraine("trace", *where, "--batch", work / "batch.safetensors", "--output", work / "logits.safetensors")
    return read_tensors(work / "logits.safetensors")["logits"]


def train(case, work, model, batches, record, settings):
    data = work / "data"
    data.mkdir()
    with open(data / "rows.jsonl", "w") as file:
        for batch in range(3):
            ids, labels, masks = (rows_of(batches[f"{key}{batch}"]) for key in ("input_ids", "labels", "attention_mask"))
            for i, l, m in zip(ids, labels, masks):
                file.write(json.dumps({"input_ids": i[: sum(m)], "labels": l[: sum(m)]}) + "\n")
    (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
    common = dict(
        stage="sft", do_train="true", finetuning_type="lora", model_name_or_path=model, dataset="rows",
        dataset_dir=data, output_dir=work / "out", per_device_train_batch_size=len(ids), gradient_accumulation_steps=1, max_steps=len(record),
        learning_rate="2e-3", weight_decay="0.01", lr_scheduler_type="cosine", warmup_steps=4, logging_steps=1, disable_shuffling="true", lora_dropout=0,
    )
    if (case / "init").is_dir():
        common["adapter_name_or_path"] = case / "init"
    if case.name.startswith(from_data):
        common |= dict(lora_rank=2, lora_alpha=4, per_device_train_batch_size=3)
    loraine("train", *[word for key, value in (common | settings).items() for word in (f"--{key}", value)])
    return json.loads((work / "out/trainer_state.json").read_text())["log_history"]


def run_case(case, work):
    """Yields (kind, figure)."""
    base = case.name.removeprefix("full_") if case.name.startswith("full_") else bases.get(case.name, "llama")
    model, batches = case.parent.parent / base / "model", read_tensors(case / "out.safetensors")
    record = json.loads((case / "train.json").read_text())
    record = record["log"] if isinstance(record, dict) else record
    started, whole = case.name.startswith(from_data), case.name.startswith("full")
    base_bits = methods[case.name].get("quantization_bit")
    where = ["--model_name_or_path", case / "final"] if whole else ["--model_name_or_path", model, "--adapter_name_or_path", case / "final"]
    if base_bits:
        where += ["--quantization_bit", base_bits]
    mask = batches["attention_mask0"]

    if "logits" in batches:
        yield "logits", logits_apart(logits(work, batches, *where), batches["logits"], mask)
    if case.name in in_codes:
        yield "logits", logits_apart(logits(work, batches, *where, "--quantization_bit", in_codes[case.name]), batches["logits"], mask)
    if "merged_logits" in batches:
        loraine("export", *where, "--export_dir", work / "merged")
        yield "logits", logits_apart(logits(work, batches, "--model_name_or_path", work / "merged"), batches["merged_logits"], mask)

    log = train(case, work, model, batches, record, methods[case.name])
    log = [line for line in log if "loss" in line]
    if len(log) != len(record):
        raise RuntimeError(f"{len(log)} losses logged, {len(record)} recorded")
    for line, entry in zip(log, record):
        yield "run losses", abs(line["loss"] - entry["loss"]) / entry["loss"]
        if "grad_norm" in entry:
            yield "gradient norms", abs(line["grad_norm"] - entry["grad_norm"]) / entry["grad_norm"]
    if started:
        for figure in products_apart(work / "out", case / "final"):
            yield "final adapter", figure
        return
    name = "model.safetensors" if whole else "adapter_model.safetensors"
    final, recorded = read_tensors(work / "out" / name), read_tensors(case / "final" / name)
    if final.keys() != recorded.keys():
        raise RuntimeError(f"tensors {sorted(final.keys() ^ recorded.keys())[:3]} are in one of the two final files only")
    for name, tensor in recorded.items():
        yield "final adapter", apart(final[name], tensor, False)
    if (work / "out/ranks.json").exists():
        ranks = json.loads((work / "out/ranks.json").read_text())
        totals = {step: sum(module[i] for module in ranks["ranks"].values()) for i, step in enumerate(ranks["steps"])}
        totals.pop(0)
        recorded = {entry["step"]: entry["total_rank"] for entry in json.loads((case / "train.json").read_text())["ranks"]}
        yield "ranks", sum(total != recorded[step] for step, total in totals.items())
