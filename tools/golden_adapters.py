"""Adapters whose files are not the usual ones, and a tied model with a head of its own (adapters/<name>), as tests/golden/make_adapter_cases.py
recorded them: logits, and logits of the merged model. Called by golden.py."""
from golden_files import logits_apart, loraine, read_tensors, rows_of, write_ids


def cases(top):
    return sorted(path.parent for path in top.rglob("out.safetensors") if path.parent.parent.name == "adapters")


def run_case(case, work):
    """Yields (kind, figure)."""
    recorded = read_tensors(case / "out.safetensors")
    mask = (recorded["input_ids"][0], [1] * len(recorded["input_ids"][1]))
    if (case / "model").is_dir():
        where = ["--model_name_or_path", case / "model"]
    else:
        base = case.parent.parent / (case / "base.txt").read_text().strip()
        where = ["--model_name_or_path", base / "model", "--adapter_name_or_path", case / "adapter"]
    loraine("export", *where, "--export_dir", work / "merged")
    for model in (where, ["--model_name_or_path", work / "merged"]):
        write_ids(work / "batch.safetensors", {"input_ids": rows_of(recorded["input_ids"])})
        loraine("trace", *model, "--batch", work / "batch.safetensors", "--output", work / "logits.safetensors")
        yield "logits", logits_apart(read_tensors(work / "logits.safetensors")["logits"], recorded["logits"], mask)
