#!/usr/bin/env python3
"""Runs recorded cases of transformers + PEFT through build/loraine and prints the worst figure of each kind. Called by ./dev golden.

usage: golden.py DIR [NAME...]     every folder under DIR that holds model/ and base.safetensors is a case; golden_variants.py and
                                   golden_runs.py have the others. Without DIR it ends with 77, which ctest counts as skipped.
A case: base logits and loss; logits, loss, gradients with lora/; greedy tokens; merged weights; a run of 30 steps and its final adapter.
"""
import array
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))
codes = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}
limits = {"logits": 1e-4, "loss": 1e-5, "gradients": 1e-4, "run losses": 1e-3, "final adapter": 1e-3, "merged weights": 1e-6, "greedy tokens": 0, "ranks": 0,
          "gradient norms": 1e-3, "learning rates": 1e-9, "results": 1e-3}


def read_tensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            values = array.array(codes[entry["dtype"]])
            values.frombytes(data[8 + size + first : 8 + size + last])
            tensors[name] = (entry["shape"], values)
    return tensors


def write_ids(path, tensors):
    header, body = {}, b""
    for name, rows in tensors.items():
        values = array.array("q", [value for row in rows for value in row])
        header[name] = {"dtype": "I64", "shape": [len(rows), len(rows[0])], "data_offsets": [len(body), len(body) + 8 * len(values)]}
        body += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def rows_of(tensor):
    (count, width), values = tensor
    return [list(values[i * width : (i + 1) * width]) for i in range(count)]


def loraine(*arguments, cwd=None):
    done = subprocess.run([program.resolve(), *map(str, arguments)], capture_output=True, text=True, cwd=cwd)
    if done.returncode:
        raise RuntimeError(f"loraine {arguments[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")


def apart(ours, theirs, relative):
    """The largest difference; relative to the tensor's largest value where asked. Shapes and finiteness count too."""
    if ours[0] != theirs[0]:
        raise RuntimeError(f"shape {ours[0]}, recorded {theirs[0]}")
    worst = max((abs(a - b) for a, b in zip(ours[1], theirs[1])), default=0.0)
    if any(a != a for a in ours[1]):
        raise RuntimeError("NaN")
    return worst / max(max(abs(b) for b in theirs[1]), 1e-30) if relative else worst


def logits_apart(ours, theirs, mask):
    (_, _, width), a = ours
    if ours[0] != theirs[0]:
        raise RuntimeError(f"logits {ours[0]}, recorded {theirs[0]}")
    worst = 0.0
    for row, seen in enumerate(mask[1]):
        if seen:  # what stands in padded rows is nobody's result
            worst = max(worst, max(abs(x - y) for x, y in zip(a[row * width : (row + 1) * width], theirs[1][row * width : (row + 1) * width])))
    return worst


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
        prompt = wanted["prompt"]
        write_ids(work / "prompt.safetensors", {"input_ids": [prompt], "labels": [prompt], "attention_mask": [[1] * len(prompt)]})
        loraine("trace", *with_adapter, "--batch", work / "prompt.safetensors", "--output", work / "generated.safetensors", "--max_new_tokens", 24)
        new = [i for i in read_tensors(work / "generated.safetensors")["generated_ids"][1] if i >= 0]
        new = new[: new.index(2) + 1] if 2 in new else new
        expected = wanted["output"][len(prompt) :]
        differ = [a != b for a, b in zip(new, expected)] + [True] * abs(len(new) - len(expected))
        if differ and len(differ) == abs(len(new) - len(expected)) == 1 and expected[-1] == 2:
            differ = []
        yield "greedy tokens", sum(differ)

    loraine("export", *with_adapter, "--export_dir", work / "merged", "--export_size", 5)
    merged, recorded = {}, read_tensors(case / "merged.safetensors")
    for file in (work / "merged").glob("*.safetensors"):
        merged.update(read_tensors(file))
    for name, tensor in recorded.items():
        yield "merged weights", apart(merged[name], tensor, False)

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


def main():
    import golden_runs
    import golden_variants

    top, names = pathlib.Path(sys.argv[1]).absolute(), sys.argv[2:]
    if not top.is_dir():
        print(f"golden: {top} is not there, so its recorded cases are not run")
        return 77
    cases = sorted(path.parent for path in top.rglob("base.safetensors") if (path.parent / "model").is_dir() and (path.parent / "lora").is_dir())
    runners = {case: run_case for case in cases} | {case: more.run_case for more in (golden_variants, golden_runs) for case in more.cases(top)}
    cases = [case for case in runners if not names or case.name in names]
    if not cases:
        print(f"golden: no case (a folder with model/, lora/ and base.safetensors) under {top}", file=sys.stderr)
        return 2
    worst, failed = {}, 0
    for case in cases:
        here, trouble = {}, None
        with tempfile.TemporaryDirectory() as work:
            try:
                for kind, figure in runners[case](case, pathlib.Path(work)):
                    here[kind] = max(here.get(kind, 0), figure)
            except (RuntimeError, OSError, KeyError) as error:
                trouble = f"{type(error).__name__}: {error}"
        over = [kind for kind, figure in here.items() if figure > limits[kind]]
        failed += bool(trouble or over)
        figures = "  ".join(f"{kind} {figure:.2g}" for kind, figure in here.items())
        print(f"{'FAIL' if trouble or over else 'ok':4} {case.relative_to(top)}: {figures}" + (f"  | {trouble}" if trouble else ""), flush=True)
        for kind, figure in here.items():
            worst[kind] = max(worst.get(kind, (0, "")), (figure, case.name))
    print("\nworst of each kind")
    for kind, (figure, name) in worst.items():
        print(f"  {kind:15} {figure:.3g} (limit {limits[kind]:g}) {name}")
    print(f"golden: {len(cases) - failed} cases equal, {failed} not")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
