"""Cases of transformers + PEFT: base logits and loss; logits, loss, gradients with lora/; greedy tokens; merged weights; a run of 30 steps and
its final adapter. Called by golden.py. Every folder that holds model/, lora/ and base.safetensors is a case."""
import array
import json

from golden_files import apart, logits_apart, loraine, read_tensors, rows_of, write_ids


def cases(top):
    return sorted(path.parent for path in top.rglob("base.safetensors") if (path.parent / "model").is_dir() and (path.parent / "lora").is_dir())


def merged_tensor(merged, name):
    """A tensor of ours by the name that the case has it under: the oldest cases have experts as transformers holds them in memory, [E, …]."""
    if name in merged:
        return merged[name]
    module, parameter = name.rsplit(".", 1)
    pieces = {"gate_up_proj": [("gate_proj", "up_proj"), ("w1", "w3")], "down_proj": [("down_proj",), ("w2",)]}[parameter]
    module = module if f"{module}.0.{pieces[0][0]}.weight" in merged else module.replace(".mlp.", ".block_sparse_moe.")
    names = next(own for own in pieces if f"{module}.0.{own[0]}.weight" in merged)
    shape, values, expert = [0, 0, 0], array.array("f"), 0
    while f"{module}.{expert}.{names[0]}.weight" in merged:
        parts = [merged[f"{module}.{expert}.{own}.weight"] for own in names]
        shape = [expert + 1, sum(part[0][0] for part in parts), parts[0][0][1]]
        for part in parts:
            values.extend(part[1])
        expert += 1
    return shape, values


def run_case(case, work):
    """Yields (kind, figure)."""
    model, adapter = case / "model", case / "lora"
    base = read_tensors(case / "base.safetensors")
    mask = base["attention_mask"]

    loraine("trace", "--model_name_or_path", model, "--batch", case / "base.safetensors", "--output", work / "base.safetensors")
    out = read_tensors(work / "base.safetensors")
    yield "logits", logits_apart(out["logits"], base["logits"], mask)
    yield "loss", abs(out["loss"][1][0] - base["loss"][1][0])

    with_adapter = ["--model_name_or_path", model, "--adapter_name_or_path", adapter]
    loraine("trace", *with_adapter, "--batch", case / "base.safetensors", "--output", work / "lora.safetensors", "--gradients", "true")
    out, recorded = read_tensors(work / "lora.safetensors"), read_tensors(case / "lora_out.safetensors")
    yield "logits", logits_apart(out["logits"], recorded["logits"], mask)
    yield "loss", abs(out["loss"][1][0] - recorded["loss"][1][0])
    short = lambda name: name.replace(".default.", ".")
    ours = {short(name): tensor for name, tensor in out.items() if name.startswith("grad.")}
    gradients = [name for name in recorded if name.startswith("grad.")]
    for name in gradients:
        yield "gradients", apart(ours[short(name)], recorded[name], True)

    if (case / "generate.json").exists():
        wanted = json.loads((case / "generate.json").read_text())
        prompt, expected = wanted["prompt"], wanted["output"][len(wanted["prompt"]) :]
        write_ids(work / "prompt.safetensors", {"input_ids": [prompt], "labels": [prompt], "attention_mask": [[1] * len(prompt)]})
        loraine("trace", *with_adapter, "--batch", work / "prompt.safetensors", "--output", work / "generated.safetensors", "--max_new_tokens", 24 if 2 in expected else len(expected))
        new = [i for i in read_tensors(work / "generated.safetensors")["generated_ids"][1] if i >= 0]
        new = new[: new.index(2) + 1] if 2 in new else new
        differ = [a != b for a, b in zip(new, expected)] + [True] * abs(len(new) - len(expected))
        if differ and len(differ) == abs(len(new) - len(expected)) == 1 and expected[-1] == 2:
            differ = []
        yield "greedy tokens", sum(differ)

    loraine("export", *with_adapter, "--export_dir", work / "merged", "--export_size", 5)
    merged, recorded = {}, read_tensors(case / "merged.safetensors")
    for file in (work / "merged").glob("*.safetensors"):
        merged.update(read_tensors(file))
    for name, tensor in recorded.items():
        yield "merged weights", apart(merged_tensor(merged, name), tensor, False)

    batches = read_tensors(case / "batches.safetensors")
    data = work / "data"
    data.mkdir()
    with open(data / "rows.jsonl", "w") as file:
        for batch in range(3):
            ids, labels, masks = (rows_of(batches[f"{key}{batch}"]) for key in ("input_ids", "labels", "attention_mask"))
            for row, (i, l, m) in enumerate(zip(ids, labels, masks)):
                file.write(json.dumps({"input_ids": i[: sum(m)], "labels": l[: sum(m)]}) + "\n")
        rows = len(ids)
    (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
    record = json.loads((case / "train.json").read_text())["log"]
    loraine(
        "train", "--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", "--model_name_or_path", model,
        "--adapter_name_or_path", case / "train_init", "--dataset", "rows", "--dataset_dir", data, "--output_dir", work / "out",
        "--per_device_train_batch_size", rows, "--gradient_accumulation_steps", 1, "--max_steps", len(record), "--learning_rate", "2e-3",
        "--weight_decay", "0.01", "--lr_scheduler_type", "cosine", "--warmup_steps", 4, "--logging_steps", 1,
        "--disable_shuffling", "true", "--lora_dropout", "0",
    )
    lines = [json.loads(line) for line in (work / "out/trainer_log.jsonl").read_text().splitlines()]
    losses = [line["loss"] for line in lines if "loss" in line]
    if len(losses) != len(record):
        raise RuntimeError(f"{len(losses)} losses logged, {len(record)} recorded")
    for loss, entry in zip(losses, record):
        yield "run losses", abs(loss - entry["loss"]) / entry["loss"]
    final = read_tensors(work / "out/adapter_model.safetensors")
    for name, tensor in read_tensors(case / "train_final/adapter_model.safetensors").items():
        yield "final adapter", apart(final[name], tensor, False)
