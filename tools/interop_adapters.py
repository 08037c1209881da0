#!/usr/bin/env python3
"""loraine adapter against PEFT itself: add_weighted_adapter with every combination_type, and that PEFT loads what merge, resize, extract and convert
write. Called by tools/interop.sh (with a model and adapters made here) and by tests/e2e/adapter_test.py.

usage: interop_adapters.py [MODEL ADAPTER ADAPTER WORK]"""
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import warnings
import zlib

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
import peft
import torch
import transformers
from peft.tuners.lora.model import LoraModel

root = pathlib.Path(__file__).resolve().parent.parent
program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))
transformers.utils.logging.disable_progress_bar()
failures = 0
seed = 5


def loraine(*arguments):
    done = subprocess.run([program, "adapter", *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"loraine adapter {arguments[0]} ended with {done.returncode}:\n{done.stderr or done.stdout}")


def check(what, figure, limit):
    global failures
    failures += not figure <= limit
    print(f"{'ok' if figure <= limit else 'FAIL':4} {what}: {figure:.3g} (limit {limit:g})", flush=True)


def made(work):
    """A small Llama and two adapters of it, of one rank."""
    torch.manual_seed(0)
    config = transformers.LlamaConfig(vocab_size=64, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    transformers.LlamaForCausalLM(config).save_pretrained(work / "model")
    for name, targets in (("one", ["q_proj", "down_proj"]), ("two", ["q_proj", "v_proj"])):
        model = peft.get_peft_model(open_model(work / "model"), peft.LoraConfig(r=4, lora_alpha=6, target_modules=targets, task_type="CAUSAL_LM"))
        for key, value in model.named_parameters():
            if "lora_" in key:
                value.data = torch.randn_like(value) * 0.2
        model.save_pretrained(work / name)
    return work / "model", work / "one", work / "two"


def open_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()


def deltas(model, name):
    return {key: module.get_delta_weight(name) for key, module in model.base_model.model.named_modules() if hasattr(module, "lora_A") and name in module.lora_A}


def worst(got, want):
    if got.keys() != want.keys():
        return float("inf")
    return max(((got[key] - want[key]).abs().max() / want[key].abs().max().clamp(min=1e-9)).item() for key in want)


def seeded(method, place):
    """PEFT's masks from the seed that loraine gives each module"""

    def call(self, *arguments, **more):
        path = next(key for key, module in self.model.named_modules() if module is arguments[place])
        torch.manual_seed(seed + zlib.crc32(path.encode()))
        return method(self, *arguments, **more)

    return call


LoraModel._generalized_task_arithmetic_weighted_adapter = seeded(LoraModel._generalized_task_arithmetic_weighted_adapter, 3)
LoraModel._svd_generalized_task_arithmetic_weighted_adapter = seeded(LoraModel._svd_generalized_task_arithmetic_weighted_adapter, 4)


def compare(base, one, two, work):
    model = peft.PeftModel.from_pretrained(open_model(base), one, adapter_name="one")
    model.load_adapter(two, adapter_name="two")
    for kind in ("linear", "cat", "svd", "ties", "dare_linear", "dare_ties", "magnitude_prune", "ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"):
        pruned = kind not in ("linear", "cat", "svd")
        model.base_model.add_weighted_adapter(["one", "two"], [0.8, -0.5], kind, combination_type=kind, density=0.6 if pruned else None,
                                              svd_rank=3 if kind.endswith("svd") else None)
        out = work / f"peft_{kind}"
        more = (["--density", 0.6] if pruned else []) + (["--svd_rank", 3] if kind.endswith("svd") else [])
        loraine("merge", one, two, "--weights", "0.8,-0.5", "--combination_type", kind, "--seed", seed, "--output_dir", out, *more)
        model.load_adapter(out, adapter_name=f"ours_{kind}")
        check(f"merge {kind}: ΔW against add_weighted_adapter", worst(deltas(model, f"ours_{kind}"), deltas(model, kind)), 1e-5)
    loraine("resize", one, "--rank", 16, "--output_dir", work / "peft_resized")
    loraine("resize", one, "--energy", 1.0, "--output_dir", work / "peft_energy")
    loraine("convert", one, "--to", "mlx", "--output", work / "peft_mlx")
    loraine("convert", work / "peft_mlx", "--output", work / "peft_from_mlx")
    for name in ("resized", "energy", "from_mlx"):
        model.load_adapter(work / f"peft_{name}", adapter_name=name)
        check(f"{name}: ΔW as PEFT loads it", worst(deltas(model, name), deltas(model, "one")), 1e-5)
    alone = peft.PeftModel.from_pretrained(open_model(base), one).merge_and_unload()
    alone.save_pretrained(work / "peft_tuned")
    loraine("extract", base, work / "peft_tuned", "--rank", 4, "--output_dir", work / "peft_extracted")
    model.load_adapter(work / "peft_extracted", adapter_name="extracted")
    check("extract: ΔW against the adapter that was merged", worst(deltas(model, "extracted"), deltas(model, "one")), 1e-4)


if len(sys.argv) == 5:
    compare(*map(pathlib.Path, sys.argv[1:]))
else:
    with tempfile.TemporaryDirectory() as holder:
        compare(*made(pathlib.Path(holder)), pathlib.Path(holder))
sys.exit(failures > 0)
