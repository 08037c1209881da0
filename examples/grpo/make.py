#!/usr/bin/env python3
"""Writes what run.sh needs into a folder: a small model's config and tokenizer (one token for each letter), and data. Standard library only.

usage: make.py DIR
answers.jsonl: sums with answers in three forms, one of ten inside tags: what supervised fine-tuning sees. asks.jsonl, held.jsonl: sums alone, with the
number as reference: what GRPO asks, and what it is evaluated on; no sum of held.jsonl is in the others.
"""
import json
import pathlib
import random
import sys


def tokenizer():
    plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+-*/=?!.,:;<>()'"
    tokens = ["<pad>", "<s>", "</s>", "Ġ", "Ċ", *plain]  # a blank and a line's end, as GPT-2 spells them
    special = [dict(id=i, content=tokens[i], special=True, single_word=False, lstrip=False, rstrip=False, normalized=False) for i in range(3)]
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    model = dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None, fuse_unk=False, byte_fallback=False,
                 vocab={token: i for i, token in enumerate(tokens)}, merges=[])
    return len(tokens), dict(version="1.0", truncation=None, padding=None, added_tokens=special, normalizer=None, pre_tokenizer=byte_level, post_processor=None, decoder=byte_level, model=model)


def main():
    out = pathlib.Path(sys.argv[1])
    (out / "model").mkdir(parents=True, exist_ok=True)
    size, spelled = tokenizer()
    (out / "model/tokenizer.json").write_text(json.dumps(spelled))
    (out / "model/tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template="{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }}{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}\n{% endfor %}{% if add_generation_prompt %}a:{% endif %}")))
    (out / "model/config.json").write_text(json.dumps(dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=size, hidden_size=128, intermediate_size=352, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=4,
        max_position_embeddings=128, rms_norm_eps=1e-6, rope_theta=10000.0, tie_word_embeddings=False, hidden_act="silu", bos_token_id=1, eos_token_id=2, pad_token_id=0, torch_dtype="float32",
        initializer_range=0.02)))
    draw = random.Random(1)
    sums = [(a, b) for a in range(30) for b in range(30)]
    draw.shuffle(sums)
    held, known = sums[:60], sums[60:]
    forms = ["it is {}"] * 6 + ["{}"] * 3 + ["<answer>{}</answer>"]
    ask = lambda a, b: f"what is {a}+{b}?"
    lines = {"answers": [dict(question=ask(a, b), answer=draw.choice(forms).format(a + b)) for _ in range(8) for a, b in known],
             "asks": [dict(question=ask(a, b), answer=str(a + b)) for a, b in known], "held": [dict(question=ask(a, b), answer=str(a + b)) for a, b in held]}
    for name, rows in lines.items():
        (out / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


if __name__ == "__main__":
    main()
