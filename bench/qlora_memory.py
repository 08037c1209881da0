#!/usr/bin/env python3
"""A model of Llama-3.2-1B's shape with random bf16 weights (16 layers, 2048 wide, vocabulary 128,256) trained by QLoRA: the memory that loraine
plans and the peak that the system measures. Writes 2.3 GiB into a temporary folder, removed afterwards. Needs numpy.

usage: qlora_memory.py [--tokens 512] [--steps 3] [--dtype bf16|f32] [--type nf4|fp4] [--memory_limit 1.6GB] [--keep FOLDER]
LORAINE_PROGRAM: the program (build/loraine)
"""
import argparse
import json
import os
import pathlib
import re
import resource
import struct
import subprocess
import tempfile

import numpy as np

LAYERS, WIDTH, INNER, VOCABULARY, HEADS, KV_HEADS, HEAD = 16, 2048, 8192, 128256, 32, 8, 64


def shapes():
    yield "model.embed_tokens.weight", (VOCABULARY, WIDTH)
    yield "model.norm.weight", (WIDTH,)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        yield at + "input_layernorm.weight", (WIDTH,)
        yield at + "post_attention_layernorm.weight", (WIDTH,)
        for name, out, width in (("self_attn.q_proj", HEADS * HEAD, WIDTH), ("self_attn.k_proj", KV_HEADS * HEAD, WIDTH), ("self_attn.v_proj", KV_HEADS * HEAD, WIDTH),
                                 ("self_attn.o_proj", WIDTH, HEADS * HEAD), ("mlp.gate_proj", INNER, WIDTH), ("mlp.up_proj", INNER, WIDTH), ("mlp.down_proj", WIDTH, INNER)):
            yield f"{at}{name}.weight", (out, width)


def to_bf16(values):
    return (values.view(np.uint32) >> 16).astype(np.uint16)


def write_model(folder):
    random = np.random.default_rng(1)
    header, at = {}, 0
    for name, shape in shapes():
        header[name] = dict(dtype="BF16", shape=list(shape), data_offsets=[at, at + 2 * int(np.prod(shape))])
        at = header[name]["data_offsets"][1]
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name, shape in shapes():
            rows = shape[0]
            for first in range(0, rows, 4096):
                part = (min(4096, rows - first), *shape[1:])
                values = np.ones(part, np.float32) if len(shape) == 1 else random.standard_normal(part, np.float32) * np.float32(0.02)
                file.write(to_bf16(values).tobytes())
    config = dict(model_type="llama", architectures=["LlamaForCausalLM"], vocab_size=VOCABULARY, hidden_size=WIDTH, intermediate_size=INNER, num_hidden_layers=LAYERS,
                  num_attention_heads=HEADS, num_key_value_heads=KV_HEADS, head_dim=HEAD, max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=500000.0,
                  tie_word_embeddings=True, torch_dtype="bfloat16", bos_token_id=1, eos_token_id=2)
    (folder / "config.json").write_text(json.dumps(config))


def write_data(folder, tokens):
    random = np.random.default_rng(2)
    with open(folder / "rows.jsonl", "w") as file:
        for _ in range(8):
            ids = random.integers(3, VOCABULARY, tokens).tolist()
            file.write(json.dumps(dict(input_ids=ids, labels=ids)) + "\n")
    (folder / "dataset_info.json").write_text(json.dumps(dict(rows=dict(file_name="rows.jsonl", formatting="tokenized"))))


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument("--tokens", type=int, default=512)
    arguments.add_argument("--steps", type=int, default=3)
    arguments.add_argument("--dtype", default="bf16")
    arguments.add_argument("--type", default="nf4")
    arguments.add_argument("--memory_limit")
    arguments.add_argument("--keep")
    a = arguments.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(a.keep or temporary)
        folder.mkdir(exist_ok=True)
        if not (folder / "config.json").exists():
            write_model(folder)
        write_data(folder, a.tokens)
        settings = dict(model_name_or_path=folder, dataset="rows", dataset_dir=folder, output_dir=folder / "out", do_train="true", stage="sft", finetuning_type="lora",
                        quantization_bit=4, quantization_type=a.type, bf16=str(a.dtype == "bf16").lower(), per_device_train_batch_size=1, gradient_accumulation_steps=1,
                        max_steps=a.steps, logging_steps=1, save_strategy="no", cutoff_len=a.tokens, overwrite_output_dir="true")
        if a.memory_limit:
            settings["memory_limit"] = a.memory_limit
        done = subprocess.run([os.environ.get("LORAINE_PROGRAM", "build/loraine"), "train", *[word for key, value in settings.items() for word in (f"--{key}", str(value))]],
                              capture_output=True, text=True)
        print(done.stdout + done.stderr)
        done.check_returncode()
        print(f"peak of the process: {resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024:.0f} MiB")


main()
