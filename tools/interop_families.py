#!/usr/bin/env python3
"""Compares build/loraine with the real transformers and PEFT on a small random model of each family, made here. Called by tools/interop.sh.
An adapter trained by loraine loads in PEFT, one of PEFT's loads in loraine, a merged folder in transformers gives the same tokens.

usage: interop_families.py [MODEL_TYPE...]
"""
import contextlib
import importlib
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
# Experts.
some = dict(num_experts=4, num_experts_per_tok=2)
local = dict(num_local_experts=4, num_experts_per_tok=2)
grouped = dict(n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, n_group=1, topk_group=1, moe_intermediate_size=12, first_k_dense_replace=1)
granite_scales = dict(embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.8, logits_scaling=1.5)
own |= {
    "mixtral": dict(intermediate_size=24, **local),
    "qwen2_moe": dict(moe_intermediate_size=12, shared_expert_intermediate_size=24, mlp_only_layers=[0], **some),
    "qwen3_moe": dict(head_dim=16, moe_intermediate_size=12, norm_topk_prob=True, **some),
    "olmoe": dict(intermediate_size=12, **some),
    "phimoe": dict(intermediate_size=12, attention_bias=True, lm_head_bias=True, sliding_window=7, router_jitter_noise=0.0, input_jitter_noise=0.0, **local),
    "granitemoe": dict(intermediate_size=12, **granite_scales, **local),
    "granitemoeshared": dict(intermediate_size=12, shared_intermediate_size=12, **granite_scales, **local),
    "gpt_oss": dict(head_dim=16, intermediate_size=12, layer_types=["sliding_attention", "full_attention"], sliding_window=7, **local),
    "glm4_moe": dict(head_dim=16, use_qk_norm=True, num_nextn_predict_layers=0, **grouped),
    "dots1": dict(head_dim=16, num_key_value_heads=4, layer_types=["full_attention"] * 2, **grouped),
    "ernie4_5_moe": dict(head_dim=16, moe_num_experts=4, moe_k=2, moe_intermediate_size=12, moe_num_shared_experts=2, moe_layer_start_index=1),
    "hunyuan_v1_moe": dict(head_dim=16, intermediate_size=12, num_experts=4, moe_topk=2),
    "hy_v3": dict(head_dim=16, moe_intermediate_size=12, num_shared_experts=1, mlp_layer_types=["dense", "sparse"], **some),
    "minimax_m2": dict(head_dim=16, rotary_dim=8, intermediate_size=12, **local),
    "llama4_text": dict(head_dim=16, intermediate_size=12, intermediate_size_mlp=36, num_local_experts=4, num_experts_per_tok=1, interleave_moe_layer_step=2, attention_chunk_size=64),
}
# Other mixers.
deltas = dict(linear_conv_kernel_dim=4, linear_key_head_dim=8, linear_num_key_heads=2, linear_num_value_heads=4, linear_value_head_dim=8)
hybrid = ["linear_attention", "full_attention"]
mamba = dict(mamba_chunk_size=8, mamba_d_conv=4, mamba_d_head=8, mamba_d_state=8, mamba_expand=2, mamba_n_groups=2, mamba_n_heads=8)
own |= {
    "qwen3_5_text": dict(head_dim=16, layer_types=hybrid, **deltas),
    "qwen3_5_moe_text": dict(head_dim=16, layer_types=hybrid, moe_intermediate_size=12, shared_expert_intermediate_size=12, **deltas, **some),
    "qwen3_next": dict(head_dim=16, layer_types=hybrid, moe_intermediate_size=12, shared_expert_intermediate_size=12, **deltas, **some),
    "olmo_hybrid": dict(layer_types=hybrid, **(deltas | dict(linear_num_key_heads=4))),
    "lfm2": dict(layer_types=["conv", "full_attention"], block_auto_adjust_ff_dim=False),
    "lfm2_moe": dict(layer_types=["conv", "full_attention"], moe_intermediate_size=12, num_dense_layers=1, **some),
    "bamba": dict(attn_layer_indices=[1], **mamba),
    "falcon_h1": dict(mamba_d_ssm=64, key_multiplier=0.7, lm_head_multiplier=0.3, mlp_multipliers=[0.9, 0.7], ssm_multipliers=[0.9, 0.8, 1.1, 0.7, 1.2], **mamba),
    "nemotron_h": dict(head_dim=16, layers_block_type=["linear_attention", "moe", "full_attention", "mlp"], mamba_num_heads=8, mamba_head_dim=8, n_groups=2, ssm_state_size=8, chunk_size=8,
                       moe_shared_expert_intermediate_size=12, **{key: value for key, value in grouped.items() if key != "first_k_dense_replace"}),
    "jamba": dict(intermediate_size=12, num_hidden_layers=3, attn_layer_offset=1, attn_layer_period=3, expert_layer_offset=1, expert_layer_period=2, mamba_d_state=4, mamba_dt_rank=4,
                  use_mamba_kernels=False, **some),
    "granitemoehybrid": dict(intermediate_size=12, shared_intermediate_size=12, layer_types=hybrid, position_embedding_type="nope", **granite_scales, **mamba, **local),
    "gemma4_text": dict(head_dim=16, global_head_dim=32, hidden_size_per_layer_input=0, **windows),
}
# Latent attention.
latent = dict(kv_lora_rank=12, q_lora_rank=20, qk_nope_head_dim=8, qk_rope_head_dim=8, v_head_dim=12, num_key_value_heads=4)
own |= {
    "deepseek_v2": dict(topk_method="greedy", **(grouped | dict(n_shared_experts=2)), **latent),
    "deepseek_v3": dict(**grouped, **latent),
    "glm4_moe_lite": dict(mlp_layer_types=["dense", "sparse"], **{key: value for key, value in grouped.items() if key != "first_k_dense_replace"}, **latent),
    "mistral4": dict(**(grouped | dict(first_k_dense_replace=0)), **latent),
    "youtu": latent,
    "kimi_linear": dict(head_dim=8, layer_types=hybrid, linear_conv_kernel_dim=4, linear_head_dim=8, linear_num_heads=4, mlp_layer_types=["dense", "sparse"], moe_intermediate_size=12, num_experts=4,
                        num_experts_per_token=2, num_expert_group=1, topk_group=1, num_shared_experts=1, routed_scaling_factor=1.5, model_max_length=128, **(latent | dict(q_lora_rank=None))),
    "minicpm3": dict(dim_model_base=16, scale_depth=1.4, scale_emb=6, **latent),
}
# PEFT adapts no Mamba layer's out_proj, whose kernels read the weight by themselves, and fails at Llama 4's router, which answers with a pair. PhiMoE's
# router is one that loraine puts no adapter on.
no_lora_in_peft = {"falcon_h1": "out_proj", "nemotron_h": "out_proj", "llama4_text": "router", "phimoe": "router"}


def loraine(*arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"loraine {arguments[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip()}")


@contextlib.contextmanager
def as_before(config):
    """PEFT from 0.19 on takes gate_proj, up_proj, down_proj and gate of models with experts for the experts, and drops the adapters of the linear layers
    of these names (shared experts, dense layers). Files of LLaMA-Factory's PEFT 0.18, and loraine's, mean the linear layers."""
    names = {name.rsplit(".", 1)[-1] for name in json.loads((config / "adapter_config.json").read_text())["target_modules"]}
    module = importlib.import_module("peft.utils.transformers_weight_conversion")
    kept = module._convert_peft_config_moe
    if names & {"gate_proj", "up_proj", "down_proj", "gate", "w1", "w2", "w3"}:
        module._convert_peft_config_moe = lambda *_: None
    try:
        yield
    finally:
        module._convert_peft_config_moe = kept


def class_of(family):
    return transformers.Mistral4ForCausalLM if family == "mistral4" else transformers.AutoModelForCausalLM


def load(folder):
    config = transformers.AutoConfig.from_pretrained(folder)
    return class_of(config.model_type).from_pretrained(folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32).eval()


def trace(work, model, adapter, ids, *more):
    save_file({"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}, work / "in.safetensors")
    loraine("trace", "--model_name_or_path", model, *(["--adapter_name_or_path", adapter] if adapter else []), "--batch", work / "in.safetensors",
            "--output", work / "out.safetensors", *more)
    return load_file(work / "out.safetensors")


def compare(family, work):
    """The figures by name: largest differences of logits, and tokens that differ."""
    torch.manual_seed(5)
    base, figures = work / "base", {}
    config = transformers.AutoConfig.for_model(family, **{**common, **own[family]})
    model = (class_of(family)(config) if family == "mistral4" else class_of(family).from_config(config)).float()
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(base)
    if family == "olmo_hybrid":  # transformers 5.24 renames the norms of its attention layers like those of the others, which published files do not
        tensors = load_file(base / "model.safetensors")
        tensors["model.layers.1.post_attention_layernorm.weight"] = tensors.pop("model.layers.1.feedforward_layer_norm.weight")
        save_file(tensors, base / "model.safetensors", {"format": "pt"})
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
        with as_before(work / "trained"):
            theirs = peft.PeftModel.from_pretrained(load(base), work / "trained").eval()(ids).logits
        ours = trace(work, base, work / "trained", ids)["logits"]
        figures["ours there"] = apart(ours, theirs)
        figures["unmoved"] = 1e-8 / max(apart(ours, plain), 1e-12)

        excluded = rf".*\.{no_lora_in_peft[family]}" if family in no_lora_in_peft else None
        adapted = peft.get_peft_model(load(base), peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", exclude_modules=excluded, task_type="CAUSAL_LM")).eval()
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
            try:
                figures = compare(family, pathlib.Path(work))
            except Exception as error:  # of the libraries; the next family may do
                failed += 1
                print(f"FAIL {family}: {type(error).__name__}: {str(error)[:600] if str(error) else ''}", flush=True)
                continue
        good = all(figure <= (0 if name == "tokens" else 1e-4) for name, figure in figures.items())
        failed += not good
        print(f"{'ok' if good else 'FAIL':4} {family}: " + "  ".join(f"{name} {figure:.2g}" for name, figure in figures.items() if name != "unmoved"), flush=True)
    return failed


sys.exit(1 if main() else 0)
