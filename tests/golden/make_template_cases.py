#!/usr/bin/env python3
"""Makes templates/cases.json: conversations as rendered by the chat template that LLaMA-Factory 0.9.5 writes for a named template.

usage: make_template_cases.py TOKENIZER_DIR OUT.json      (needs llamafactory; a tokenizer with bos <s> and eos </s>)

An entry: {"template", "default_system" (null: the template's own), "messages", "rendered"}.
"""
import json
import sys

from llamafactory.data.template import get_template_and_fix_tokenizer
from llamafactory.hparams import DataArguments
from transformers import AutoTokenizer

NAMES = "alpaca chatml default empty gemma llama2 llama3 mistral qwen qwen3 qwen3_nothink smollm2 vicuna zephyr".split()
TALKS = [
    [("user", "hi")],
    [("system", "Be dry."), ("user", "Rain?"), ("assistant", "Yes."), ("user", "Sure?")],
    [("user", "it's {{content}} \\n \"q\" 'x'"), ("assistant", " {% if %}\n<think>\nhm\n</think>\n\nok "), ("user", "")],
    [("system", ""), ("user", "a\nb"), ("assistant", "")],
]


def main():
    folder, out = sys.argv[1:]
    cases = []
    for name in NAMES:
        for default_system in (None, "It's a \"day\".\n", ""):
            tokenizer = AutoTokenizer.from_pretrained(folder)
            tokenizer.chat_template = None
            get_template_and_fix_tokenizer(tokenizer, DataArguments(template=name, default_system=default_system))
            for talk in TALKS:
                messages = [dict(role=role, content=content) for role, content in talk]
                rendered = tokenizer.apply_chat_template(messages, tokenize=False)
                cases.append(dict(template=name, default_system=default_system, messages=messages, rendered=rendered))
    with open(out, "w") as file:
        file.write("[\n" + ",\n".join(json.dumps(case, ensure_ascii=False) for case in cases) + "\n]\n")


main()
