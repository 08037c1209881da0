#!/usr/bin/env python3
"""A training step of loraine beside the same step of transformers + PEFT: tokens/s, peak memory and their ratio.

usage: PYTHON bench/training_step.py [--tokens 512,1024] [--dtype f32] [--rounds 2] [SETTINGS of loraine bench, like --gradient_checkpointing mlp]
PYTHON has torch, transformers and peft; PEFT runs as it is whatever the settings.

Both train LoRA of rank 8 on all linear layers of a model of SmolLM2-135M's shape with random weights: one sequence per step, every token
trained, AdamW, clipping at 1. The two take turns, each in a process of its own, so that what else runs on the machine meets both; the best
round of each counts."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))


def peft_step(tokens, dtype, steps=3):
    import resource
    import time

    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    config = transformers.LlamaConfig(
        vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3,
        max_position_embeddings=8192, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True,
    )
    model = transformers.LlamaForCausalLM(config).to(torch.float32 if dtype == "f32" else torch.bfloat16)
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(0, 49152, (1, tokens))
    model.train()
    best = float("inf")
    for _ in range(steps + 1):
        begin = time.perf_counter()
        model(input_ids=ids, labels=ids).loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        best = min(best, time.perf_counter() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"tokens_per_second": tokens / best, "peak_bytes": peak, "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"}))


def loraine_step(tokens, dtype, settings):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        subprocess.run([program, "bench", "--tokens", str(tokens), "--dtype", dtype, "--new_tokens", "0", "--repeats", "2", "--json", out, *settings],
                       check=True, stdout=subprocess.DEVNULL)
        report = json.loads(out.read_text())
        training = report["training"][0]
        return {"tokens_per_second": training["tokens_per_second"], "peak_bytes": training["peak_bytes"], "machine": report["instruction_set"]}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokens", default="512,1024")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peft", nargs=2, metavar=("TOKENS", "DTYPE"), help=argparse.SUPPRESS)
    options, settings = parser.parse_known_args()
    if options.peft:
        return peft_step(int(options.peft[0]), options.peft[1])
    print("| step | loraine tokens/s | PEFT tokens/s | ratio | loraine peak MiB | PEFT peak MiB | ratio |\n|---|---|---|---|---|---|---|")
    for dtype in options.dtype.split(","):
        for tokens in options.tokens.split(","):
            ours, theirs = [], []
            for _ in range(options.rounds):
                ours.append(loraine_step(tokens, dtype, settings))
                done = subprocess.run([sys.executable, __file__, "--peft", tokens, dtype], check=True, capture_output=True, text=True)
                theirs.append(json.loads(done.stdout.splitlines()[-1]))
            a, b = (max(x["tokens_per_second"] for x in side) for side in (ours, theirs))
            p, q = (max(x["peak_bytes"] for x in side) for side in (ours, theirs))
            print(f"| {dtype}, {tokens} tokens | {a:.1f} | {b:.1f} | {a / b:.2f} | {p >> 20} | {q >> 20} | {p / q:.2f} |", flush=True)
    print(f"\n{ours[0]['machine']}, {os.cpu_count()} cores; {theirs[0]['versions']}")


main()
