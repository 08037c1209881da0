#!/usr/bin/env python3
"""Records what PEFT computes with adapters whose files are not the usual ones, and transformers with a tied model that has a head of its own, for
tools/golden_adapters.py. Run by hand: needs torch, transformers, peft, and the recorded cases of make_cases.py.

usage: make_adapter_cases.py tests/golden/peft [router_phimoe]       float32, CPU, one thread
A case: adapter/ (or model/), base.txt (the case whose model it is for), out.safetensors (input_ids, logits as the library loads it).
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
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
ids = torch.tensor([[3, 20, 30, 40, 50, 60, 70, 80, 1, 9], [5, 6, 7, 8, 9, 10, 11, 12, 33, 2]])
prefix = "base_model.model."


def open_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def near(tensor, seed):
    return (tensor + 0.3 * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))).contiguous()


def make(top, name, base, change=lambda tensors, config: None, **settings):
    case, model = top / "adapters" / name, top / base / "model"
    shutil.rmtree(case, ignore_errors=True)
    torch.manual_seed(5)
    adapted = peft.get_peft_model(open_model(model), peft.LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **settings))
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    adapted.save_pretrained(case / "adapter")
    (case / "adapter/README.md").unlink()
    tensors, config = load_file(case / "adapter/adapter_model.safetensors"), json.loads((case / "adapter/adapter_config.json").read_text())
    change(tensors, config)
    config["base_model_name_or_path"] = f"{base}/model"
    config["target_modules"] = sorted(config["target_modules"])
    save_file(tensors, case / "adapter/adapter_model.safetensors", {"format": "pt"})
    (case / "adapter/adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")
    (case / "base.txt").write_text(base + "\n")
    with torch.no_grad():
        logits = peft.PeftModel.from_pretrained(open_model(model), case / "adapter").eval()(ids).logits
    save_file({"input_ids": ids, "logits": logits.contiguous()}, case / "out.safetensors")
    print(name)


def stored(top, base, *names):
    """The base's own tensors stored whole, changed, though the config names them nowhere."""
    own = load_file(top / base / "model/model.safetensors")

    def change(tensors, config):
        for seed, name in enumerate(names):
            tensors[prefix + name] = near(own.get(name, own["model.embed_tokens.weight"]), seed)

    return change


def dotted(tensors, config):
    for name in [name for name in tensors if name.endswith("lora_magnitude_vector")]:
        tensors[name + ".weight"] = tensors.pop(name)


def later(tensors, config):
    config.update(brand_new=3, another={"a": [1]})


def own_head(top):
    case = top / "adapters/own_head"
    shutil.rmtree(case, ignore_errors=True)
    shutil.copytree(top / "llama3/model", case / "model")
    tensors = load_file(case / "model/model.safetensors")
    tensors["lm_head.weight"] = near(tensors["model.embed_tokens.weight"], 7)
    save_file(tensors, case / "model/model.safetensors", {"format": "pt"})
    with torch.no_grad():
        logits = open_model(case / "model").eval()(ids).logits
    save_file({"input_ids": ids, "logits": logits.contiguous()}, case / "out.safetensors")
    print("own_head")


def router_phimoe(top):
    """LoRA on a router that transformers calls otherwise than the files do; as a module PEFT cannot wrap it, since it gives a tuple."""
    config = transformers.PhimoeConfig(vocab_size=96, hidden_size=16, intermediate_size=8, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=64,
                                       num_local_experts=4, num_experts_per_tok=2, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2)
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("router.weight"):  # away from ties
                parameter.mul_(4)
    model.save_pretrained(top / "phimoe/model")
    make(top, "router_phimoe", "phimoe", target_modules=[], target_parameters=["router.weight"])


def main():
    top = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    if sys.argv[2:] == ["router_phimoe"]:
        return router_phimoe(top)
    embedding, head = "model.embed_tokens.weight", "lm_head.weight"
    plain = dict(target_modules=["q_proj", "v_proj"])
    make(top, "stored_untied", "llama", stored(top, "llama", embedding, head, "model.norm.weight"), **plain)
    make(top, "stored_tied", "llama3", stored(top, "llama3", embedding), **plain)
    make(top, "stored_tied_both", "llama3", stored(top, "llama3", embedding, head), **plain)
    make(top, "stored_beside_saved", "llama3", stored(top, "llama3", head), modules_to_save=["embed_tokens"], **plain)
    make(top, "tying_saved", "llama3", modules_to_save=["embed_tokens"], ensure_weight_tying=True, **plain)
    make(top, "tying_saved_head", "llama3", modules_to_save=["lm_head"], ensure_weight_tying=True, **plain)
    make(top, "tying_lora", "llama3", target_modules=["q_proj", "embed_tokens"], ensure_weight_tying=True)
    make(top, "tying_lora_head", "llama3", target_modules=["q_proj", "lm_head"], ensure_weight_tying=True)
    make(top, "tokens_untied", "llama", target_modules=["q_proj"], trainable_token_indices=[5, 20])
    make(top, "tokens_tied", "llama3", target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [20, 5, 40]})
    make(top, "tokens_both", "llama", target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5, 20], "lm_head": [7]})
    make(top, "tokens_tied_apart", "llama3", target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [5, 20], "lm_head": [7]})
    make(top, "dora_dotted", "llama", dotted, use_dora=True, **plain)
    make(top, "later_keys", "llama", later, **plain)
    own_head(top)
    router_phimoe(top)
    (top / "adapters/versions.json").write_text(
        json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}) + "\n")


main()
