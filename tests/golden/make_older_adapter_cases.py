#!/usr/bin/env python3
"""Records adapters on experts as earlier versions of PEFT and transformers write them, for tools/golden_adapters.py. Run by hand, once with
transformers 4 and PEFT 0.18, where experts are layers, and once with transformers 5 and PEFT 0.18, which has A and B of fused experts the other way
round: needs torch and the recorded cases of make_cases.py.

usage: make_older_adapter_cases.py tests/golden/peft        float32, CPU, one thread
"""
import json
import os
import pathlib
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from safetensors.torch import save_file

transformers.logging.set_verbosity_error()
ids = torch.tensor([[3, 20, 30, 40, 7, 11, 45, 9, 1, 9], [5, 6, 7, 8, 9, 10, 11, 12, 33, 2]])
layers = transformers.__version__.startswith("4.")


def open_model(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    if layers:  # the file is of transformers 5
        written = json.loads((folder / "config.json").read_text())
        config.rope_theta = written["rope_parameters"]["rope_theta"]
        config.num_experts = written.get("num_local_experts", 0)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, config=config, attn_implementation="eager", dtype=torch.float32)


def linear_names(model):
    """LLaMA-Factory's `lora_target: all`."""
    return sorted({name.rsplit(".", 1)[-1] for name, module in model.named_modules() if "Linear" in type(module).__name__ and "lm_head" not in name})


def make(top, name, base, **settings):
    case, model = top / "adapters" / name, top / base / "model"
    shutil.rmtree(case, ignore_errors=True)
    torch.manual_seed(5)
    loaded = open_model(model)
    settings = settings or dict(target_modules=linear_names(loaded))
    adapted = peft.get_peft_model(loaded, peft.LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **settings)).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
        logits = adapted(ids).logits
    adapted.save_pretrained(case / "adapter")
    (case / "adapter/README.md").unlink()
    config = json.loads((case / "adapter/adapter_config.json").read_text())
    config["base_model_name_or_path"] = f"{base}/model"
    config["target_modules"] = sorted(config["target_modules"])
    (case / "adapter/adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (case / "base.txt").write_text(base + "\n")
    save_file({"input_ids": ids, "logits": logits.contiguous()}, case / "out.safetensors")
    print(name, settings)


def main():
    top = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    if layers:
        for base in ("mixtral", "qwen3_moe"):
            make(top, f"layers_{base}", base)
        return
    make(top, "peft_018_qwen3_moe", "qwen3_moe", target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"])
    make(top, "peft_018_gpt_oss", "gpt_oss", target_modules=["q_proj"], target_parameters=["experts.gate_up_proj", "experts.down_proj"])


main()
