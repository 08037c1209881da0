#!/usr/bin/env python3
"""Records what transformers + PEFT compute for tiny random models, for tools/golden.py. Run by hand: needs torch, transformers, peft.

usage: make_cases.py OUT_DIR [SEED [NAME...]]        float32, CPU, one thread, eager attention
Per family: model/, base.safetensors, batches.safetensors, lora/, lora_out.safetensors, generate.json, merged.safetensors,
train_init/, train.json, train_final/ (30 steps; step s uses batch s mod 3).
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from peft_run import train
from safetensors.torch import save_file

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
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def results(output, **more):
    return {"logits": output.logits.detach().contiguous(), "loss": output.loss.detach().reshape(1), **more}


def record(folder, config, seed):
    folder.mkdir(parents=True)
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config).float()
    with torch.no_grad():  # away from the trivial start of norms and biases
        for name, parameter in model.named_parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    model.save_pretrained(folder / "model")
    batches = [draw_batch(config.vocab_size) for _ in range(3)]
    model = open_model(folder / "model").eval()
    with torch.no_grad():
        save_file({**batches[0], **results(model(**batches[0]))}, folder / "base.safetensors")
    save_file({f"{key}{i}": value for i, batch in enumerate(batches) for key, value in batch.items()}, folder / "batches.safetensors")

    settings = peft.LoraConfig(r=4, lora_alpha=8, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = peft.get_peft_model(model, settings)
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
    save_file({n: t.detach().clone().contiguous() for n, t in merged.state_dict().items() if ".layers." in n and t.dim() == 2}, folder / "merged.safetensors")

    torch.manual_seed(seed + 1)
    model = peft.get_peft_model(open_model(folder / "model").train(), settings)
    model.save_pretrained(folder / "train_init")
    log = train(model, batches, 30)
    model.save_pretrained(folder / "train_final")
    (folder / "train.json").write_text(json.dumps({"log": log}, indent=0))


def main():
    out, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 11
    torch.set_num_threads(1)
    for number, (name, config) in enumerate({**families(), **further_families()}.items()):
        if sys.argv[3:] and name not in sys.argv[3:]:
            continue
        record(out / name, config, seed + 10 * number)
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
