#!/usr/bin/env python3
"""Records what transformers and PEFT give for requests that a server answers with figures: embeddings (last hidden states, pooled and normalised) of models and
adapters of tests/golden/peft, several adapters on together with scales, and the probabilities of a few next tokens. Run by hand: needs torch, transformers, peft.

usage: make_serving_cases.py [OUT.json]
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
out = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else here / "serving.json"
torch.set_num_threads(1)
draw = random.Random(11)
cases = []
for family in ("llama", "qwen3", "gemma2"):
    case = here / "peft" / family
    base = transformers.AutoModelForCausalLM.from_pretrained(case / "model", dtype=torch.float32, attn_implementation="eager").eval()
    model = peft.PeftModel.from_pretrained(base, case / "lora", adapter_name="lora")
    model.load_adapter(case / "train_final", adapter_name="other")
    model.eval()
    layers = [m for m in model.modules() if isinstance(m, peft.tuners.tuners_utils.BaseTunerLayer)]
    vocab = base.config.vocab_size
    for scales in ({}, {"lora": 1.0}, {"lora": 0.5}, {"lora": -1.25}, {"lora": 1.0, "other": 1.0}, {"lora": 0.7, "other": 1.5}):
        prompts = [[draw.randrange(3, vocab) for _ in range(n)] for n in (1, 7, 60)]
        inner = model.base_model.model
        model.base_model.set_adapter(list(scales) or ["lora"])
        for layer in layers:
            layer.enable_adapters(bool(scales))
            for name, scale in scales.items():
                layer.set_scale(name, scale)
        labels = draw.sample(range(3, vocab), 4)
        for prompt in prompts:
            with torch.no_grad():
                hidden = inner.model(input_ids=torch.tensor([prompt])).last_hidden_state[0]
                logits = inner(input_ids=torch.tensor([prompt])).logits[0, -1]
            unit = lambda v: torch.nn.functional.normalize(v, dim=0).tolist()
            cases.append(dict(family=family, lora=scales, prompt=prompt, mean=unit(hidden.mean(0)), last=unit(hidden[-1]), first_eight=unit(hidden.mean(0)[:8]),
                              labels=labels, logprobs=logits.log_softmax(0)[labels].tolist()))
lines = ",\n".join(json.dumps({key: [round(x, 7) for x in value] if key in ("mean", "last", "first_eight", "logprobs") else value for key, value in c.items()},
                              separators=(",", ":")) for c in cases)
out.write_text(f'{{"transformers": "{transformers.__version__}", "torch": "{torch.__version__}", "peft": "{peft.__version__}", "cases": [\n{lines}\n]}}\n')
print(len(cases), "cases")
