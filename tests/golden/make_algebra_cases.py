#!/usr/bin/env python3
"""Records what PEFT's add_weighted_adapter makes of two small adapters with every combination_type, for loraine/adapters/combine/combine_test.cpp.
Run by hand: needs torch, transformers, peft.

usage: make_algebra_cases.py tests/golden/peft/algebra        float32, CPU, one thread

`one`, `two`: adapters as PEFT saves them, of ranks 3 and 3 with scales 2 and 0.5, the second without v_proj; `wide`: of rank 4, rsLoRA.
cases.json: name -> combination_type, adapters, weights, options. deltas.safetensors: `<case>.<module>` the ΔW [out, in] of the result, in f32.
The masks of dare_* come from torch.bernoulli's generator; it is seeded here before each module with seed + crc32(path), as loraine seeds its own."""
import json
import pathlib
import shutil
import sys
import tempfile
import zlib

import peft
import torch
import transformers
from peft.tuners.lora.model import LoraModel
from safetensors.torch import save_file

torch.set_num_threads(1)
torch.manual_seed(7)
out = pathlib.Path(sys.argv[1])
shutil.rmtree(out, ignore_errors=True)
out.mkdir(parents=True)
seed = 11


def base():
    torch.manual_seed(1)
    return transformers.LlamaForCausalLM(transformers.LlamaConfig(
        vocab_size=32, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=1, tie_word_embeddings=False))


adapters = {
    "one": dict(r=3, lora_alpha=6, target_modules=["q_proj", "v_proj", "down_proj"]),
    "two": dict(r=3, lora_alpha=1.5, target_modules=["q_proj", "down_proj"]),
    "wide": dict(r=4, lora_alpha=4, use_rslora=True, target_modules=["q_proj"]),
}
model = None
for name, settings in adapters.items():
    config = peft.LoraConfig(task_type="CAUSAL_LM", **settings)
    if model is None:
        model = peft.get_peft_model(base(), config, adapter_name=name)
    else:
        model.add_adapter(name, config)
    torch.manual_seed(100 + list(adapters).index(name))
    for key, value in model.named_parameters():
        if f".{name}." in key:
            value.data = torch.randn_like(value) * 0.3
model.peft_config["one"].base_model_name_or_path = model.peft_config["two"].base_model_name_or_path = "tiny"
model.peft_config["wide"].base_model_name_or_path = "tiny"
with tempfile.TemporaryDirectory() as place:
    model.save_pretrained(place)
    for name in adapters:
        shutil.copytree(pathlib.Path(place) / name, out / name)
        (out / name / "README.md").unlink(missing_ok=True)


def seeded(method, place):
    def call(self, *arguments, **more):
        target = arguments[place]
        path = next(key for key, module in self.model.named_modules() if module is target)
        torch.manual_seed(seed + zlib.crc32(path.encode()))
        return method(self, *arguments, **more)

    return call


LoraModel._generalized_task_arithmetic_weighted_adapter = seeded(LoraModel._generalized_task_arithmetic_weighted_adapter, 3)
LoraModel._svd_generalized_task_arithmetic_weighted_adapter = seeded(LoraModel._svd_generalized_task_arithmetic_weighted_adapter, 4)

both = dict(adapters=["one", "two"], weights=[1.0, 0.6])
cases = {
    "linear": both | dict(combination_type="linear", weights=[0.7, -0.4]),
    "alone": dict(adapters=["one"], weights=[-1.5], combination_type="svd"),
    "cat": dict(combination_type="cat", adapters=["one", "two", "wide"], weights=[0.7, 0.4, -0.2]),
    "svd": dict(combination_type="svd", adapters=["one", "two"], weights=[0.7, 0.4]),
    "svd_rank": both | dict(combination_type="svd", svd_rank=2),
    "ties": both | dict(combination_type="ties", density=0.4),
    "ties_frequency": both | dict(combination_type="ties", density=0.7, majority_sign_method="frequency"),
    "magnitude_prune": both | dict(combination_type="magnitude_prune", density=0.3),
    "dare_linear": both | dict(combination_type="dare_linear", density=0.6),
    "dare_ties": both | dict(combination_type="dare_ties", density=0.6),
    "ties_svd": both | dict(combination_type="ties_svd", density=0.4, svd_rank=5),
    "magnitude_prune_svd": both | dict(combination_type="magnitude_prune_svd", density=0.3, svd_rank=4),
    "dare_linear_svd": both | dict(combination_type="dare_linear_svd", density=0.6, svd_rank=4),
    "dare_ties_svd": both | dict(combination_type="dare_ties_svd", density=0.6, majority_sign_method="frequency", svd_rank=4),
}
deltas = {}
for name, case in cases.items():
    settings = dict(case)
    model.base_model.add_weighted_adapter(settings.pop("adapters"), settings.pop("weights"), f"m_{name}", **settings)
    for key, module in model.base_model.model.named_modules():
        if hasattr(module, "lora_A") and f"m_{name}" in module.lora_A:
            deltas[f"{name}.{key}"] = module.get_delta_weight(f"m_{name}").detach().contiguous()
    case["seed"] = seed
(out / "cases.json").write_text(json.dumps(cases, indent=1) + "\n")
save_file(deltas, out / "deltas.safetensors")
(out / "versions.json").write_text(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}) + "\n")
