#!/usr/bin/env python3
"""Records what the optimizers of transformers' Trainer and of LLaMA-Factory do to a small model: tests/golden/optimizers/*.jsonl.

    python3 tests/golden/make_optimizer_cases.py        # all
    python3 tests/golden/make_optimizer_cases.py sgd    # the files whose names hold a word

Needs llamafactory 0.9.5 with transformers 5.6 and torch, and schedulefree 1.4, galore-torch 1.0, apollo-torch 1.0, torch-optimi 0.3, lomo-optim
0.1, grokadamw 0.1, adam-mini 1.1, badam 1.4, bitsandbytes 0.50.

A case is a line: the settings as in a YAML file, the model, the rates of its updates, and the values of some updates. Parameters and gradients come from
`numbers`, which the test computes too (optimizers/cases_test.cpp). The optimizers are made by transformers' and LLaMA-Factory's own functions.
What is replaced, so that it runs on a CPU and can be compared:
  - bitsandbytes' CPU code takes the nearest of 65,536 even steps before it takes the nearest code, which loses the small values that its GPU kernels
    keep; its own other code (backends/default, exact) takes its place.
  - singular vectors are computed in double, and the entry of the largest size of each is made positive, as loraine does it; there the sign is LAPACK's.
  - lomo-optim moves states to a GPU; here they stay.
"""
import json
import pathlib
import sys
import types

import numpy as np
import torch
from torch import nn

HERE = pathlib.Path(__file__).resolve().parent / "optimizers"
SMALL = {"hidden": 8, "kv": 4, "inner": 12, "vocab": 6, "layers": 2, "heads": 2, "kv_heads": 1}
LARGE = {"hidden": 64, "kv": 32, "inner": 96, "vocab": 70, "layers": 1, "heads": 4, "kv_heads": 2}  # matrices of 4096 elements and more


def numbers(count, seed):
    """float32 in [-0.5, 0.5), multiples of 2^-24"""
    x = np.arange(count, dtype=np.uint64) * 2654435761 + seed * 40503 + 12345 & 0xFFFFFFFF
    x ^= x >> 16
    x = x * 2246822519 & 0xFFFFFFFF
    x ^= x >> 13
    x = x * 3266489917 & 0xFFFFFFFF
    x ^= x >> 16
    return ((x >> 8).astype(np.float64) / 2**24 - 0.5).astype(np.float32)


class RMSNorm(nn.Module):
    def __init__(self, size):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))


def small_model(size):
    """The parameters of a Llama-like model, named and ordered as transformers has them; it has no forward."""
    linear = lambda i, o, bias=False: nn.Linear(i, o, bias=bias)
    hidden, kv, inner = size["hidden"], size["kv"], size["inner"]
    model = nn.Module()
    model.model = nn.Module()
    model.model.embed_tokens = nn.Embedding(size["vocab"], hidden)
    model.model.layers = nn.ModuleList()
    for _ in range(size["layers"]):
        layer = nn.Module()
        layer.self_attn = nn.Module()
        layer.self_attn.q_proj = linear(hidden, hidden, bias=True)
        layer.self_attn.k_proj = linear(hidden, kv)
        layer.self_attn.v_proj = linear(hidden, kv)
        layer.self_attn.o_proj = linear(hidden, hidden)
        layer.mlp = nn.Module()
        layer.mlp.gate_proj = linear(hidden, inner)
        layer.mlp.up_proj = linear(hidden, inner)
        layer.mlp.down_proj = linear(inner, hidden)
        layer.input_layernorm = RMSNorm(hidden)
        layer.post_attention_layernorm = RMSNorm(hidden)
        model.model.layers.append(layer)
    model.model.norm = RMSNorm(hidden)
    model.lm_head = linear(hidden, size["vocab"])
    model.config = types.SimpleNamespace(model_type="llama", hidden_size=hidden, num_attention_heads=size["heads"], num_key_value_heads=size["kv_heads"])
    with torch.no_grad():
        for place, (name, p) in enumerate(sorted(model.named_parameters())):
            p.copy_(torch.from_numpy(numbers(p.numel(), place)).view_as(p))
    return model


def gradients(model, step):
    """One per parameter, by name; each step of another size, and one parameter's much larger than the others'."""
    out = {}
    for place, (name, p) in enumerate(sorted(model.named_parameters())):
        scale = 2.0 ** (-(step % 4)) * (16 if place == 3 else 1)
        out[name] = torch.from_numpy(numbers(p.numel(), 1000 * step + place)).view_as(p) * scale
    return out


def arguments(settings):
    from transformers import TrainingArguments

    known = {"optim", "optim_args", "optim_target_modules", "weight_decay", "adam_beta1", "adam_beta2", "adam_epsilon", "learning_rate", "warmup_steps"}
    return TrainingArguments(output_dir="/tmp/optimizer_cases", use_cpu=True, report_to="none", **{k: v for k, v in settings.items() if k in known})


def make_optimizer(model, settings):
    from llamafactory.hparams import FinetuningArguments
    from llamafactory.train import trainer_utils
    from transformers import Trainer

    args = arguments(settings)
    own = {k: v for k, v in settings.items() if k.startswith(("use_", "galore_", "apollo_", "badam_"))}
    method = FinetuningArguments(finetuning_type="full", **own)
    optimizer = trainer_utils.create_custom_optimizer(model, args, method)
    if optimizer is not None:
        return optimizer, args
    trainer = types.SimpleNamespace(model=model, args=args, optimizer=None, optimizer_cls_and_kwargs=None,
                                    get_optimizer_cls_and_kwargs=Trainer.get_optimizer_cls_and_kwargs)
    trainer.get_decay_parameter_names = types.MethodType(Trainer.get_decay_parameter_names, trainer)
    return Trainer.create_optimizer(trainer), args


def each_optimizer(optimizer):
    layered = getattr(optimizer, "optimizer_dict", None)
    return list(layered.values()) if layered else [optimizer]


def run(settings, size, rates, shown):
    torch.manual_seed(0)
    model = small_model(size)
    names = [name for name, _ in sorted(model.named_parameters())]
    optimizer, args = make_optimizer(model, settings)
    lomo = "lomo" in settings.get("optim", "")
    if hasattr(optimizer, "train") and callable(optimizer.train):
        optimizer.train()
    initial = {id(group): group["lr"] for one in each_optimizer(optimizer) for group in one.param_groups}
    after = {}
    for step, factor in enumerate(rates, 1):
        for one in each_optimizer(optimizer):
            for group in one.param_groups:
                group["lr"] = initial.get(id(group), args.learning_rate) * factor
        g = gradients(model, step)
        loss = sum((p * g[name]).sum() for name, p in model.named_parameters() if p.requires_grad)
        if lomo:
            optimizer.fused_backward(loss, args.learning_rate * factor)
        else:
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            model.zero_grad()
        if step in shown:
            after[step] = values(model, names, size)
    averages = None
    if hasattr(optimizer, "eval") and callable(optimizer.eval):
        optimizer.eval()
        averages = values(model, names, size)
    return {"settings": settings, "size": size, "rates": rates, "after": after, "averages": averages}


def values(model, names, size):
    """One in 3 of a small model's, one in 41 of a large one's."""
    found = dict(model.named_parameters())
    every = 3 if size["hidden"] <= 8 else 41
    return {name: [float(f"{x:.9g}") for x in found[name].detach().reshape(-1)[::every].tolist()] for name in names}


def singular_vectors(self, weights, rank, type):
    columns = lambda m: (m * m.gather(0, m.abs().argmax(0, keepdim=True)).sign()).float()
    left, _, right = torch.linalg.svd(weights.double(), full_matrices=False)
    left, right = columns(left[:, :rank]), columns(right[:rank].t()).t()
    return [left, right] if type == "full" else right if type == "right" else left


def replace_parts():
    import bitsandbytes.backends.cpu.ops as cpu
    import bitsandbytes.backends.default.ops as default
    import lomo_optim.adalomo

    def quantise(values, code, absmax_out, out, blocksize):
        flat = values.reshape(-1)
        scales = torch.stack([block.abs().max() for block in flat.split(blocksize)])
        bounds = (code[:-1] + code[1:]) / 2
        scaled = torch.cat([(block * (1 / scale.clamp(min=1e-38))).clamp(-1, 1) for block, scale in zip(flat.split(blocksize), scales)])
        out.copy_(torch.bucketize(scaled, bounds, out_int32=True).to(torch.uint8).view_as(out))
        absmax_out.copy_(scales)

    cpu._quant_blockwise_fp32_direct = quantise
    cpu._dequant_blockwise_fp32_direct = lambda codes, absmax, code, blocksize: torch.cat(
        [code[block.long()] * scale for block, scale in zip(codes.reshape(-1).split(blocksize), absmax)]).view_as(codes)
    torch.Tensor.cuda = lambda self, *a, **k: self
    torch.cuda.synchronize = lambda *a, **k: None
    import optimi  # whose function hides the module of its name

    sys.modules["optimi.stableadamw"]._default_to_triton = lambda parameters: False
    import apollo_torch.svd_projector
    import galore_torch.galore_projector

    for module in (apollo_torch.svd_projector, galore_torch.galore_projector):
        module.GaLoreProjector.get_orthogonal_matrix = singular_vectors


LINEAR = [1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1]
WARM = [0.25, 0.5, 0.75, 1.0, 0.9, 0.7, 0.5, 0.3, 0.2, 0.0]
RATE = {"learning_rate": 1e-2}
DECAY = {"weight_decay": 0.1}
BETAS = {"adam_beta1": 0.8, "adam_beta2": 0.95, "adam_epsilon": 1e-4}

GALORE = {"optim": "adamw_torch", "use_galore": True, "galore_rank": 4, "galore_update_interval": 6}
APOLLO = {"optim": "adamw_torch", "use_apollo": True, "apollo_rank": 4, "apollo_update_interval": 6}
BADAM = {"optim": "adamw_torch", "use_badam": True}

# Cut on both sides, a gradient's projection is diagonal when the matrices are new: what is beside the diagonal is rounding, which AdamW would make as
# large as the rest, but for an epsilon above it.
FILES = {
    "adamw": [{"optim": "adamw_torch"}, {"optim": "adamw_torch_fused", **DECAY, **BETAS}, {"optim": "paged_adamw_32bit", **DECAY, **BETAS}],
    "sgd": [{"optim": "sgd"}, {"optim": "sgd", "optim_args": "momentum=0.9", **DECAY}, {"optim": "sgd", "optim_args": "momentum = 0.8, dampening=0.3"},
            {"optim": "sgd", "optim_args": "momentum=0.9,nesterov=true", **DECAY}],
    "adagrad": [{"optim": "adagrad"}, {"optim": "adagrad", "optim_args": "lr_decay=0.1,eps=1e-3", **DECAY}],
    "rmsprop": [{"optim": "rmsprop"}, {"optim": "rmsprop", "optim_args": "momentum=0.9,alpha=0.9", **DECAY}, {"optim": "rmsprop", "optim_args": "centered=true,eps=1e-3"},
                {"optim": "rmsprop", "optim_args": "centered=true,momentum=0.5,alpha=0.9,eps=1e-2", **DECAY}, {"optim": "rmsprop_bnb", **DECAY}, {"optim": "rmsprop_bnb_32bit"}],
    "lion": [{"optim": "lion_32bit"}, {"optim": "paged_lion_32bit", **DECAY, "adam_beta1": 0.8, "adam_beta2": 0.95}],
    "ademamix": [{"optim": "ademamix"}, {"optim": "paged_ademamix_32bit", **DECAY, **BETAS}, {"optim": "ademamix", "optim_args": "beta1=0.8,beta2=0.99,beta3=0.999,alpha=8,eps=1e-6"},
                 {"optim": "ademamix", "optim_args": "t_alpha=8,t_beta3=20", **DECAY}],
    "eight_bits": [{"optim": "adamw_8bit"}, {"optim": "adamw_bnb_8bit", **DECAY, **BETAS}, {"optim": "lion_8bit", **DECAY}, {"optim": "rmsprop_bnb_8bit", **DECAY},
                   {"optim": "ademamix_8bit", **DECAY}, {"optim": "paged_ademamix_8bit", "optim_args": "t_alpha=8,t_beta3=20"}, {"optim": "paged_adamw_8bit", **DECAY}],
    "adafactor": [{"optim": "adafactor"}, {"optim": "adafactor", **DECAY}],
    "schedule_free": [{"optim": "schedule_free_adamw"}, {"optim": "schedule_free_adamw", "warmup_steps": 4, **DECAY, **BETAS},
                      {"optim": "schedule_free_adamw", "optim_args": "r=1,weight_lr_power=1", **DECAY}, {"optim": "schedule_free_sgd", **DECAY, "warmup_steps": 3},
                      {"optim": "schedule_free_sgd"}, {"optim": "schedule_free_radam", **DECAY}, {"optim": "schedule_free_radam", "adam_beta1": 0.8, "adam_beta2": 0.6}],
    "stable_adamw": [{"optim": "stable_adamw"}, {"optim": "stable_adamw", **DECAY, **BETAS}, {"optim": "stable_adamw", "optim_args": "decouple_lr=true,max_lr=0.05", **DECAY}],
    "grokadamw": [{"optim": "grokadamw", **DECAY}, {"optim": "grokadamw", "optim_args": "alpha_init=0.9,lamb=1,gamma=0.02,gradient_clipping=0.5"}],
    "lomo": [{"optim": "lomo", **DECAY}, {"optim": "adalomo"}],
    "galore": [{**GALORE, "galore_rank": 3}, {**GALORE, **DECAY, **BETAS}, {**GALORE, "galore_proj_type": "reverse_std", "galore_rank": 3, **DECAY}, {**GALORE, "galore_proj_type": "left"},
               {**GALORE, "galore_proj_type": "right", "galore_target": "q_proj,mlp"}, {**GALORE, "galore_proj_type": "full", "galore_scale": 0.5, "adam_epsilon": 1e-2}, {**GALORE, "optim": "adafactor", **DECAY},
               {**GALORE, "galore_layerwise": True, **DECAY},
               {"optim": "galore_adamw", "optim_target_modules": ["q_proj", "mlp"], "optim_args": "rank=4,update_proj_gap=6,scale=2,proj_type=std"},
               {"optim": "galore_adafactor", "optim_target_modules": "all-linear", "optim_args": "rank=2,update_proj_gap=6"},
               {"optim": "galore_adamw_layerwise", "optim_target_modules": [".*o_proj", "model.layers.0.mlp"], "optim_args": "rank=3"}],
    "apollo": [{**APOLLO}, {**APOLLO, **DECAY, **BETAS, "apollo_scale_type": "tensor"}, {**APOLLO, "apollo_proj": "svd", **DECAY}, {**APOLLO, "apollo_layerwise": True},
               {**APOLLO, "apollo_scale_type": "tensor", "apollo_proj_type": "left", "apollo_target": "o_proj,mlp"}, {**APOLLO, "apollo_scale_front": True, "apollo_rank": 3},
               {"optim": "apollo_adamw", "optim_target_modules": ["q_proj", "mlp"], "optim_args": "rank=4,update_proj_gap=6,scale=4", **BETAS},
               {"optim": "apollo_adamw_layerwise", "optim_target_modules": "all-linear", "optim_args": "rank=2,scale_type=tensor,proj=svd"}],
    "badam": [{**BADAM, "badam_switch_interval": 4}, {**BADAM, "badam_switch_interval": 3, "badam_switch_mode": "descending", **DECAY},
              {**BADAM, "badam_switch_interval": 4, "badam_start_block": 1, **BETAS}, {**BADAM, "badam_switch_mode": "fixed", "badam_start_block": 1, "badam_switch_interval": 2},
              {**BADAM, "badam_switch_interval": 1}, {**BADAM, "badam_mode": "ratio", "badam_update_ratio": 0.3, **DECAY}],
    "adam_mini": [{"optim": "adamw_torch", "use_adam_mini": True}, {"optim": "adamw_torch", "use_adam_mini": True, **DECAY, **BETAS}],
    "muon": [{"optim": "adamw_torch", "use_muon": True}, {"optim": "adamw_torch", "use_muon": True, **DECAY, **BETAS}],
}


def main(words):
    replace_parts()
    HERE.mkdir(exist_ok=True)
    for file, cases in FILES.items():
        if words and not any(word in file for word in words):
            continue
        with open(HERE / f"{file}.jsonl", "w") as out:
            for number, settings in enumerate(cases):
                size = LARGE if "8bit" in settings.get("optim", "") else SMALL
                case = run({**RATE, **settings}, size, LINEAR if number % 2 == 0 else WARM, shown=[3, 10] if number == 0 else [10])
                out.write(json.dumps(case, separators=(",", ":")) + "\n")
        print(file, len(cases))


if __name__ == "__main__":
    main(sys.argv[1:])
