#!/usr/bin/env python3
"""A training step of loraine beside the same step of transformers + PEFT: tokens/s, peak memory and their ratio.

usage: PYTHON bench/training_step.py [--shape smollm2-135m,gemma3-1b,…] [--tokens 512,1024] [--dtype f32] [--rounds 2]
                                     [SETTINGS of loraine bench, like --gradient_checkpointing mlp]
PYTHON has torch, transformers and peft; PEFT runs as it is whatever the settings.

Both train LoRA of rank 8 on all linear layers (routed experts left out) of a model with random weights of one of the shapes below: one
sequence per step, every token trained, AdamW, clipping at 1. The two take turns, each in a process of its own, so that what else runs on the
machine meets both; the best round of each counts."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))


# Shapes of published models, and two of a mixture of experts and of the dense model that does as much work for a token.
small = dict(vocab_size=32000, hidden_size=768, num_hidden_layers=8, num_attention_heads=12, num_key_value_heads=4, head_dim=64)
SHAPES = {
    "smollm2-135m": ("llama", dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
                                   num_key_value_heads=3, rope_theta=100000.0, rms_norm_eps=1e-5, tie_word_embeddings=True)),
    "gemma3-270m": ("gemma3_text", dict(vocab_size=262144, hidden_size=640, intermediate_size=2048, num_hidden_layers=18, num_attention_heads=4,
                                        num_key_value_heads=1, head_dim=256, sliding_window=512)),
    "gemma3-1b": ("gemma3_text", dict(vocab_size=262144, hidden_size=1152, intermediate_size=6912, num_hidden_layers=26, num_attention_heads=4,
                                      num_key_value_heads=1, head_dim=256, sliding_window=512)),
    "qwen3.5-0.8b": ("qwen3_5_text", dict(vocab_size=248320, hidden_size=1024, intermediate_size=3584, num_hidden_layers=24, num_attention_heads=8,
                                          num_key_value_heads=2, head_dim=256, linear_num_key_heads=16, linear_num_value_heads=16,
                                          linear_key_head_dim=128, linear_value_head_dim=128, tie_word_embeddings=True)),
    "lfm2-350m": ("lfm2", dict(vocab_size=65536, hidden_size=1024, intermediate_size=6656, num_hidden_layers=16, num_attention_heads=16,
                               num_key_value_heads=8, full_attn_idxs=[2, 5, 8, 10, 12, 14], tie_word_embeddings=True)),
    "experts-8-of-32": ("gpt_oss", dict(**small, intermediate_size=256, num_local_experts=32, num_experts_per_tok=8, sliding_window=128)),
    "dense-as-8-experts": ("qwen3", dict(**small, intermediate_size=2048)),
}


def write_model(shape, folder):
    """A folder with random weights of this shape, in bf16, as transformers saves it. Run in a process of its own."""
    import torch
    import transformers

    torch.manual_seed(0)
    kind, sizes = SHAPES[shape]
    config = transformers.AutoConfig.for_model(kind, **sizes)
    transformers.AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16).save_pretrained(folder)


def peft_step(folder, tokens, dtype, steps=3):
    import resource
    import time

    import peft
    import torch
    import transformers

    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32 if dtype == "f32" else torch.bfloat16)
    linear = sorted({name.split(".")[-1] for name, module in model.named_modules() if isinstance(module, torch.nn.Linear)} - {"lm_head"})
    model = peft.get_peft_model(model, peft.LoraConfig(r=8, lora_alpha=16, target_modules=linear, task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    ids = torch.randint(0, model.config.vocab_size, (1, tokens))
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


def loraine_step(model, tokens, dtype, settings):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        subprocess.run([program, "bench", "--model_name_or_path", model, "--tokens", str(tokens), "--dtype", dtype, "--new_tokens", "0", "--repeats", "2", "--json", out, *settings],
                       check=True, stdout=subprocess.DEVNULL)
        report = json.loads(out.read_text())
        training = report["training"][0]
        return {"tokens_per_second": training["tokens_per_second"], "peak_bytes": training["peak_bytes"], "machine": report["instruction_set"]}


def compare(shape, folder, tokens, dtype, rounds, settings):
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(loraine_step(folder, tokens, dtype, settings))
        done = subprocess.run([sys.executable, __file__, "--peft", folder, tokens, dtype], check=True, capture_output=True, text=True)
        theirs.append(json.loads(done.stdout.splitlines()[-1]))
    a, b = (max(x["tokens_per_second"] for x in side) for side in (ours, theirs))
    p, q = (max(x["peak_bytes"] for x in side) for side in (ours, theirs))
    print(f"| {shape}, {dtype}, {tokens} tokens | {a:.1f} | {b:.1f} | {a / b:.2f} | {p >> 20} | {q >> 20} | {p / q:.2f} |", flush=True)
    return f"{ours[0]['machine']}, {os.cpu_count()} cores; {theirs[0]['versions']}"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="smollm2-135m", help="a comma list of " + ", ".join(SHAPES))
    parser.add_argument("--tokens", default="512,1024")
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--peft", nargs=3, metavar=("FOLDER", "TOKENS", "DTYPE"), help=argparse.SUPPRESS)
    parser.add_argument("--write", nargs=2, metavar=("SHAPE", "FOLDER"), help=argparse.SUPPRESS)
    options, settings = parser.parse_known_args()
    if options.peft:
        return peft_step(options.peft[0], int(options.peft[1]), options.peft[2])
    if options.write:
        return write_model(*options.write)
    print("| step | loraine tokens/s | PEFT tokens/s | ratio | loraine peak MiB | PEFT peak MiB | ratio |\n|---|---|---|---|---|---|---|")
    for shape in options.shape.split(","):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([sys.executable, __file__, "--write", shape, folder], check=True, stdout=subprocess.DEVNULL)
            for dtype in options.dtype.split(","):
                for tokens in options.tokens.split(","):
                    machine = compare(shape, folder, tokens, dtype, options.rounds, settings)
    print(f"\n{machine}")


main()
