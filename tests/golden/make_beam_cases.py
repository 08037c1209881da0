#!/usr/bin/env python3
"""Records beam searches of transformers' generate for the model and adapter of tests/golden/peft/llama, or of another case there. Run by hand: needs torch,
transformers, peft.

usage: make_beam_cases.py [FOLDER_OF_A_CASE OUT.json]     beam_search_NAME.json: of peft/NAME
"""
import json
import os
import pathlib
import random
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers

here = pathlib.Path(__file__).resolve().parent
case = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "peft/llama"
out = pathlib.Path(sys.argv[2]) if len(sys.argv) > 2 else here / "beam_search.json"

torch.set_num_threads(1)
base = transformers.AutoModelForCausalLM.from_pretrained(case / "model", dtype=torch.float32).eval()
models = {"base": base}
models["lora"] = peft.PeftModel.from_pretrained(transformers.AutoModelForCausalLM.from_pretrained(case / "model", dtype=torch.float32), case / "lora").eval()
draw = random.Random(7)
cases = []
for number in range(48):
    prompt = [draw.randrange(3, base.config.vocab_size) for _ in range(draw.choice([1, 5, 12]))]
    ends = draw.sample(range(3, base.config.vocab_size), draw.choice([1, 6, 25]))
    setting = dict(num_beams=draw.choice([2, 3, 4, 8]), length_penalty=draw.choice([-1.0, 0.0, 1.0, 1.0, 2.5]), repetition_penalty=draw.choice([1.0, 1.0, 1.3]),
                   max_new_tokens=draw.choice([1, 2, 10, 24]))
    which = draw.choice(["base", "lora"])
    ids = torch.tensor([prompt])
    with torch.no_grad():
        made = models[which].generate(input_ids=ids, attention_mask=torch.ones_like(ids), do_sample=False, early_stopping=False, num_return_sequences=1,
                                      eos_token_id=ends, pad_token_id=0, return_dict_in_generate=True, output_scores=True, **setting)
    answer = made.sequences[0, len(prompt):].tolist()
    cases.append(dict(model=which, prompt=prompt, stop_ids=ends, **setting, answer=answer, score=made.sequences_scores[0].item()))
ended = sum(c["answer"][-1] in c["stop_ids"] for c in cases)
print(f"{len(cases)} cases, {ended} end by themselves, {sum(len(c['answer']) for c in cases)} ids")
lines = ",\n".join(json.dumps(c, separators=(",", ":")) for c in cases)
out.write_text(f'{{"transformers": "{transformers.__version__}", "torch": "{torch.__version__}", "peft": "{peft.__version__}", "cases": [\n{lines}\n]}}\n')
