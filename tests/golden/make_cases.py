#!/usr/bin/env python3
"""Records what transformers + PEFT compute for tiny random models, for tools/golden.py. Run by hand: needs torch, transformers, peft.

usage: make_cases.py OUT_DIR [SEED [NAME...]]        float32, CPU, one thread, eager attention
Per family: model/, base.safetensors, batches.safetensors, lora/, lora_out.safetensors, generate.json, merged.safetensors,
train_init/, train.json, train_final/ (30 steps; step s uses batch s mod 3).
"""
import contextlib
import json
import os
import pathlib
import sys
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import peft.utils.transformers_weight_conversion as conversion
import torch
import transformers
from peft_run import train
from safetensors.torch import load_file, save_file

transformers.logging.set_verbosity_error()
small = dict(
    vocab_size=96, hidden_size=24, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
    max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.15,
)


def families():
    llama3_rope = dict(rope_type="llama3", rope_theta=500000.0, factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
    return {
        "llama": transformers.LlamaConfig(**small, tie_word_embeddings=False),
        "llama3": transformers.LlamaConfig(**small, tie_word_embeddings=True, head_dim=8, rope_parameters=llama3_rope),
        "mistral": transformers.MistralConfig(**small, sliding_window=6),
        "qwen2": transformers.Qwen2Config(**small, tie_word_embeddings=True),
        "qwen3": transformers.Qwen3Config(**small, head_dim=8, tie_word_embeddings=True),
    }


# One per part that families vary, as small as they get.
tiny = dict(
    vocab_size=48, hidden_size=16, intermediate_size=24, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=8,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.2,
)


def further_families():
    windows = dict(layer_types=["sliding_attention", "full_attention"], sliding_window=6)
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=8.0, original_max_position_embeddings=8, llama_4_scaling_beta=0.1)
    long = dict(rope_type="longrope", rope_theta=10000.0, short_factor=[1.0, 1.1], long_factor=[1.5, 2.5], original_max_position_embeddings=6)
    kinds = {
        "gemma2": dict(query_pre_attn_scalar=12, attn_logit_softcapping=5.0, final_logit_softcapping=3.0, **windows),
        "gemma3_text": dict(query_pre_attn_scalar=12, **windows),
        "phi3": dict(num_attention_heads=4, rope_parameters=long, original_max_position_embeddings=6),
        "phi": dict(num_key_value_heads=4, hidden_act="gelu_new"),
        "granite": dict(embedding_multiplier=3.0, attention_multiplier=0.2, residual_multiplier=0.7, logits_scaling=2.0),
        "ministral3": dict(rope_parameters=yarn),
        "smollm3": dict(no_rope_layers=[1, 0]),
        "olmo": dict(clip_qkv=0.5),
        "olmo2": {},
        "cohere": dict(use_qk_norm=True, logit_scale=0.25),
        "glm4": dict(partial_rotary_factor=0.5),
        "hunyuan_v1_dense": {},
        "apertus": {},
        "nemotron": dict(hidden_act="relu2"),
        "stablelm": dict(use_parallel_residual=True, qk_layernorm=True, partial_rotary_factor=0.5),
        "gpt_neox": dict(num_key_value_heads=4, rotary_pct=0.5),
    }
    no_head_dim = ("phi3", "phi", "granite", "olmo", "olmo2", "cohere", "smollm3", "apertus", "stablelm", "gpt_neox")
    return {
        kind: transformers.AutoConfig.for_model(kind, **{k: v for k, v in {**tiny, **own}.items() if k != "head_dim" or kind not in no_head_dim})
        for kind, own in kinds.items()
    }


# One per kind of mixer: routers and experts, LoRA on experts, latent attention, recurrences. PEFT's rewriting of targets is left aside: layers by
# their names, experts by target_parameters.
def families_of_mixers():
    attention = ["q_proj", "k_proj", "v_proj", "o_proj"]
    experts = dict(num_experts_per_tok=2, moe_intermediate_size=8)
    parameters = ["experts.gate_up_proj", "experts.down_proj"]
    yarn = dict(rope_type="yarn", rope_theta=10000.0, factor=40.0, original_max_position_embeddings=8, beta_fast=32.0, beta_slow=1.0, mscale=1.0, mscale_all_dim=1.0)
    latent = dict(kv_lora_rank=8, q_lora_rank=12, qk_rope_head_dim=4, qk_nope_head_dim=8, v_head_dim=6, num_key_value_heads=4, rope_parameters=yarn)
    sigmoid = dict(n_routed_experts=4, n_shared_experts=1, first_k_dense_replace=1, routed_scaling_factor=1.5, n_group=2, topk_group=1, norm_topk_prob=True)
    delta = dict(linear_conv_kernel_dim=4, linear_key_head_dim=4, linear_value_head_dim=4, linear_num_key_heads=2, linear_num_value_heads=4, partial_rotary_factor=0.5)
    mamba = dict(mamba_n_heads=4, mamba_d_head=8, mamba_d_state=4, mamba_n_groups=1, mamba_chunk_size=4, mamba_d_conv=4, mamba_expand=2)
    windows = dict(layer_types=["sliding_attention", "full_attention"], sliding_window=6)
    oss_yarn = dict(rope_type="yarn", rope_theta=150000.0, factor=32.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=8)
    kinds = {
        "mixtral": (dict(num_local_experts=4, intermediate_size=8, num_experts_per_tok=2), attention, None),
        "qwen3_moe": (dict(num_experts=4, norm_topk_prob=True, **experts), attention, parameters),
        "gpt_oss": (dict(num_local_experts=4, intermediate_size=8, num_experts_per_tok=2, rope_parameters=oss_yarn, **windows), attention, parameters),
        "deepseek_v3": ({**latent, **sigmoid, **experts}, ["q_a_proj", "q_b_proj", "kv_a_proj_with_mqa", "kv_b_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], None),
        "qwen3_5_text": (dict(layer_types=["linear_attention", "full_attention"], **delta), [*attention, "in_proj_qkv", "in_proj_z", "in_proj_b", "in_proj_a", "out_proj", "gate_proj", "up_proj", "down_proj"], None),
        "lfm2": (dict(layer_types=["conv", "full_attention"], conv_L_cache=3, block_auto_adjust_ff_dim=False), ["in_proj", "out_proj", "q_proj", "k_proj", "v_proj", "w1", "w2", "w3"], None),
        "granitemoehybrid": (dict(layer_types=["mamba", "attention"], num_local_experts=4, num_experts_per_tok=2, intermediate_size=8, shared_intermediate_size=12, embedding_multiplier=2.0, residual_multiplier=0.7, logits_scaling=1.5, **mamba), [*attention, "in_proj", "input_linear", "output_linear"], None),
        "falcon_h1": (dict(key_multiplier=0.7, ssm_in_multiplier=0.8, embedding_multiplier=2.0, mamba_d_ssm=32, **mamba), [*attention, "in_proj", "gate_proj", "up_proj", "down_proj"], None),
    }
    no_head_dim = ("mixtral", "deepseek_v3", "lfm2", "granitemoehybrid")
    return {
        kind: (transformers.AutoConfig.for_model(kind, **{k: v for k, v in {**tiny, **own}.items() if k != "head_dim" or kind not in no_head_dim}), modules, names)
        for kind, (own, modules, names) in kinds.items()
    }


def draw_batch(vocabulary, lengths=(16, 13, 9), width=16):
    """Right-padded ids; the first tokens of each row are a prompt, without labels."""
    ids = torch.zeros(len(lengths), width, dtype=torch.long)
    labels, mask = torch.full_like(ids, -100), torch.zeros_like(ids)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, vocabulary, (length,))
        labels[row, 3 + row : length] = ids[row, 3 + row : length]
        mask[row, :length] = 1
    return dict(input_ids=ids, labels=labels, attention_mask=mask)


def open_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", experts_implementation="eager", dtype=torch.float32)


def as_saved(model):
    """The tensors of a model's files, whose names are not always those in memory."""
    with tempfile.TemporaryDirectory() as work:
        model.save_pretrained(work)
        return load_file(pathlib.Path(work) / "model.safetensors")


@contextlib.contextmanager
def plain_targets():
    """Targets as they are named: PEFT rewrites them for models whose experts lie in one parameter, and loses layers of shared experts by it."""
    rewrite, conversion._convert_peft_config_moe = conversion._convert_peft_config_moe, lambda *args, **more: None
    try:
        yield
    finally:
        conversion._convert_peft_config_moe = rewrite


def vary(model):
    """Away from the trivial start of norms, biases and recurrences, and routers away from ties."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            leaf = name.rsplit(".", 1)[-1]
            if leaf == "A_log":
                parameter.uniform_(0.2, 6.0).log_()
            elif leaf == "dt_bias":
                parameter.uniform_(-2.5, 0.5)
            elif parameter.dim() == 1 or leaf.endswith("_bias"):
                parameter.add_(torch.randn_like(parameter) * 0.1)
            elif name.endswith(("gate.weight", "router.weight", "router.layer.weight")) and parameter.shape[0] == 4:
                parameter.normal_(std=0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias"):
                buffer.normal_(std=0.15)


def results(output, **more):
    return {"logits": output.logits.detach().contiguous(), "loss": output.loss.detach().reshape(1), **more}


def record(folder, config, seed, modules="all-linear", parameters=None):
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    vary(model)
    model.save_pretrained(folder / "model")
    batches = [draw_batch(config.vocab_size) for _ in range(3)]
    model = open_model(folder / "model").eval()
    with torch.no_grad():
        save_file({**batches[0], **results(model(**batches[0]))}, folder / "base.safetensors")
    save_file({f"{key}{i}": value for i, batch in enumerate(batches) for key, value in batch.items()}, folder / "batches.safetensors")

    small = {} if modules == "all-linear" else dict(r=2, lora_alpha=4)
    settings = lambda: peft.LoraConfig(**{**dict(r=4, lora_alpha=8), **small}, target_modules=modules, target_parameters=parameters, task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, settings())
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.05)
    adapted.save_pretrained(folder / "lora")
    output = adapted(**batches[0])
    output.loss.backward()
    gradients = {"grad." + n.replace(".default", ""): p.grad.contiguous() for n, p in adapted.named_parameters() if p.grad is not None}
    save_file(results(output, **gradients), folder / "lora_out.safetensors")
    prompt = batches[0]["input_ids"][:1, :8]
    with torch.no_grad():
        generated = adapted.generate(input_ids=prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=24, do_sample=False)
    (folder / "generate.json").write_text(json.dumps({"prompt": prompt[0].tolist(), "output": generated[0].tolist()}))
    merged = adapted.merge_and_unload()
    if modules == "all-linear":
        save_file({n: t.detach().clone().contiguous() for n, t in merged.state_dict().items() if ".layers." in n and t.dim() == 2}, folder / "merged.safetensors")
    else:  # by the names of the files, what has changed
        before = load_file(folder / "model" / "model.safetensors")
        save_file({n: t for n, t in as_saved(merged).items() if not torch.equal(t, before[n])}, folder / "merged.safetensors")

    torch.manual_seed(seed + 1)
    model = peft.get_peft_model(open_model(folder / "model").train(), settings())
    model.save_pretrained(folder / "train_init")
    log = train(model, batches, 30)
    model.save_pretrained(folder / "train_final")
    (folder / "train.json").write_text(json.dumps({"log": log}, indent=0))


def main():
    out, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 11
    torch.set_num_threads(1)
    cases = {name: (config,) for name, config in {**families(), **further_families()}.items()} | families_of_mixers()
    for number, (name, case) in enumerate(cases.items()):
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        config, *targets = case
        with plain_targets() if targets else contextlib.nullcontext():
            record(out / name, config, seed + 10 * number, *targets)
        for card in (out / name).rglob("README.md"):
            card.unlink()
        for settings in (out / name).rglob("adapter_config.json"):  # no path of the machine that recorded it
            text = json.loads(settings.read_text())
            text["base_model_name_or_path"] = f"{name}/model"
            text["target_modules"] = sorted(text["target_modules"])
            settings.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
        print(name)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__, "seed": seed}
    (out / "versions.json").write_text(json.dumps(versions) + "\n")


main()
