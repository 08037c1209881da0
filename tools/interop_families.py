#!/usr/bin/env python3
"""Compares build/loraine with the real transformers and PEFT on a small random model of each family, made here. Called by tools/interop.sh.
An adapter trained by loraine loads in PEFT, one of PEFT's loads in loraine, a merged folder in transformers gives the same tokens.

usage: interop_families.py [MODEL_TYPE...]
"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", pathlib.Path(__file__).resolve().parent.parent / "build/loraine"))
transformers.utils.logging.disable_progress_bar()
transformers.logging.set_verbosity_error()

common = dict(
    vocab_size=120, hidden_size=32, intermediate_size=56, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=128,
    bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.15,
)
windows = dict(layer_types=["sliding_attention", "full_attention"], sliding_window=6)
own = {
    "gemma": dict(head_dim=16),
    "gemma2": dict(head_dim=16, query_pre_attn_scalar=20, **windows),
    "gemma3_text": dict(head_dim=16, query_pre_attn_scalar=20, **windows),
    "phi3": {},
    "phi": dict(num_key_value_heads=4),
    "granite": dict(embedding_multiplier=4.0, attention_multiplier=0.1, residual_multiplier=0.5, logits_scaling=3.0),
    "ministral3": dict(head_dim=16),
    "smollm3": {},
    "olmo2": {},
    "olmo3": windows,
    "cohere": {},
    "cohere2": dict(head_dim=8, **windows),
    "glm": dict(head_dim=16),
    "glm4": dict(head_dim=16),
    "ernie4_5": dict(head_dim=16),
    "hunyuan_v1_dense": dict(head_dim=16),
    "exaone4": dict(head_dim=16, **windows),
    "seed_oss": dict(head_dim=16, residual_dropout=0.0),
    "nemotron": dict(head_dim=16),
    "arcee": dict(head_dim=8),
    "apertus": {},
    "helium": dict(head_dim=8),
    "starcoder2": {},
    "stablelm": {},
    "gpt_neox": {},
}


def loraine(*arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"loraine {arguments[0]} ended with {done.returncode}:\n{done.stderr or done.stdout}")


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def trace(work, model, adapter, ids, *more):
    save_file({"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}, work / "in.safetensors")
    loraine("trace", "--model_name_or_path", model, *(["--adapter_name_or_path", adapter] if adapter else []), "--batch", work / "in.safetensors",
            "--output", work / "out.safetensors", *more)
    return load_file(work / "out.safetensors")


def compare(family, work):
    """The figures by name: largest differences of logits, and tokens that differ."""
    torch.manual_seed(5)
    base, figures = work / "base", {}
    model = transformers.AutoModelForCausalLM.from_config(transformers.AutoConfig.for_model(family, **{**common, **own[family]})).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(base)
    ids = torch.randint(3, common["vocab_size"], (2, 20))
    apart = lambda ours, theirs: (ours - theirs).abs().max().item()
    with torch.no_grad():
        plain = load(base)(ids).logits
        figures["base"] = apart(trace(work, base, None, ids)["logits"], plain)

        data = work / "data"
        data.mkdir()
        rows = [torch.randint(3, common["vocab_size"], (18,)).tolist() for _ in range(16)]
        (data / "rows.jsonl").write_text("".join(json.dumps({"input_ids": row, "labels": [-100] * 4 + row[4:]}) + "\n" for row in rows))
        (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
        loraine("train", "--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", "--model_name_or_path", base, "--dataset", "rows", "--dataset_dir", data,
                "--output_dir", work / "trained", "--lora_target", "all", "--lora_rank", 4, "--learning_rate", "1e-2", "--per_device_train_batch_size", 4, "--max_steps", 8)
        ours, theirs = trace(work, base, work / "trained", ids)["logits"], peft.PeftModel.from_pretrained(load(base), work / "trained").eval()(ids).logits
        figures["ours there"] = apart(ours, theirs)
        figures["unmoved"] = 1e-8 / max(apart(ours, plain), 1e-12)

        adapted = peft.get_peft_model(load(base), peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")).eval()
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
        adapted.save_pretrained(work / "by_peft")
        figures["theirs here"] = apart(trace(work, base, work / "by_peft", ids)["logits"], adapted(ids).logits)

        loraine("export", "--model_name_or_path", base, "--adapter_name_or_path", work / "trained", "--export_dir", work / "merged")
        merged, prompt = load(work / "merged"), ids[:1, :8]
        figures["merged"] = apart(merged(ids).logits, theirs)
        ours = [token for token in trace(work, base, work / "trained", prompt, "--max_new_tokens", 12)["generated_ids"][0].tolist() if token >= 0]
        generated = merged.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=12, do_sample=False)[0, 8:].tolist()
        figures["tokens"] = sum(a != b for a, b in zip(ours, generated))
    return figures


def main():
    failed = 0
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    for family in sys.argv[1:] or own:
        with tempfile.TemporaryDirectory() as work:
            figures = compare(family, pathlib.Path(work))
        good = all(figure <= (0 if name == "tokens" else 1e-4) for name, figure in figures.items())
        failed += not good
        print(f"{'ok' if good else 'FAIL':4} {family}: " + "  ".join(f"{name} {figure:.2g}" for name, figure in figures.items() if name != "unmoved"), flush=True)
    return failed


sys.exit(1 if main() else 0)
