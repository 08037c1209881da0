#!/usr/bin/env python3
"""Records full training of models with experts by transformers, for tools/golden_variants.py. Run by hand: needs torch, transformers and the
recorded cases of make_cases.py.

usage: make_whole_cases.py tests/golden/peft        float32, CPU, one thread
A case (variants/full_<base>): final/model.safetensors, train.json (losses and gradient norms of 8 steps), out.safetensors (the batches, logits of batch 0
after them).
"""
import json
import os
import pathlib
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import torch
import transformers
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
STEPS = 8


def record(top, base):
    case = top / "variants" / f"full_{base}"
    shutil.rmtree(case, ignore_errors=True)
    model = transformers.AutoModelForCausalLM.from_pretrained(top / base / "model", attn_implementation="eager", experts_implementation="eager", dtype=torch.float32).train()
    batches = load_file(top / base / "batches.safetensors")
    plain = lambda name: name.endswith("bias") or "norm" in name  # as transformers' Trainer: these do not decay
    groups = [[p for n, p in model.named_parameters() if plain(n) == is_plain] for is_plain in (False, True)]
    optimizer = torch.optim.AdamW([dict(params=groups[0], weight_decay=0.01), dict(params=groups[1], weight_decay=0.0)], lr=5e-4)
    schedule = transformers.get_cosine_schedule_with_warmup(optimizer, 4, STEPS)
    log = []
    for step in range(STEPS):
        loss = model(**{key: batches[f"{key}{step % 3}"] for key in ("input_ids", "labels", "attention_mask")}).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        log.append({"step": step + 1, "loss": loss.item(), "grad_norm": norm.item()})
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(case / "final")
    with torch.no_grad():
        logits = model(input_ids=batches["input_ids0"], attention_mask=batches["attention_mask0"]).logits
    save_file({**batches, "logits": logits.contiguous()}, case / "out.safetensors")
    (case / "train.json").write_text(json.dumps({"log": log}, indent=0))
    print(case.name)


def main():
    torch.set_num_threads(1)
    for base in ("qwen3_moe", "gpt_oss"):
        record(pathlib.Path(sys.argv[1]), base)


main()
