#!/usr/bin/env python3
"""Records the scores that LLaMA-Factory's get_scores gives for texts: the value head of the recorded reward model over the state of each text's last token. For
api/chat_model_test.cpp. Run by hand: needs torch, transformers and peft.

usage: make_score_cases.py LLAMAFACTORY_DIR OUT_FILE      a folder with tiny_llama/ and runs/rm/output/; float32, CPU, one thread
"""
import json
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from safetensors.torch import load_file

texts = ["Hello", "The darkness of the night was as black as coal.", "Strawberries", "1. Painting or drawing: this hobby is an excellent one", "a " * 60]


def main():
    folder, out_file = sys.argv[1:3]
    torch.set_num_threads(1)
    tokenizer = transformers.AutoTokenizer.from_pretrained(f"{folder}/tiny_llama")
    base = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/tiny_llama", attn_implementation="eager", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, f"{folder}/runs/rm/output").eval()
    head = load_file(f"{folder}/runs/rm/output/value_head.safetensors")
    cases = []
    for max_length in (None, 4):
        scores = []
        for text in texts:
            ids = tokenizer(text, add_special_tokens=False, truncation=True, max_length=max_length or base.config.max_position_embeddings, return_tensors="pt").input_ids
            with torch.no_grad():
                state = model(input_ids=ids, output_hidden_states=True).hidden_states[-1][0, -1]
            scores.append(float(head["v_head.summary.weight"][0] @ state + head["v_head.summary.bias"][0]))
        cases.append(dict(max_length=max_length, scores=scores))
    with open(out_file, "w") as file:
        json.dump(dict(texts=texts, cases=cases), file, indent=1, ensure_ascii=False)
        file.write("\n")


if __name__ == "__main__":
    main()
