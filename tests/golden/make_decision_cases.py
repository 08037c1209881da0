#!/usr/bin/env python3
"""Records losses of decisions and their gradients in torch, for train/objectives/golden_test.cpp. Run by hand: needs torch, transformers and peft.

usage: make_decision_cases.py PEFT_LLAMA_DIR OUT_FILE [SEED]      a folder as make_cases.py makes it: model/ and lora/; float32, CPU, one thread
Per case: labels' ids [choices, longest] (-1 behind their ends), the right one of each prompt, losses [prompts], the log-probabilities of the labels
[prompts, choices] and the gradients of the mean loss in the first layer's adapter. Every label is run behind every prompt by itself; the Brier term weighs 0.5.
"""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from safetensors.torch import save_file

brier, prompts, longest = 0.5, 3, 12


def main():
    folder, out_file, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1234
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    base = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/model", attn_implementation="eager", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, f"{folder}/lora", is_trainable=True)
    model.eval()  # no dropout
    vocabulary = base.config.vocab_size
    texts = [torch.randint(3, vocabulary, (int(torch.randint(2, longest + 1, (1,))),)) for _ in range(prompts)]
    ids, mask = torch.zeros(prompts, longest, dtype=torch.long), torch.zeros(prompts, longest, dtype=torch.long)
    for row, text in enumerate(texts):
        ids[row, : len(text)], mask[row, : len(text)] = text, 1
    out = {"prompt.input_ids": ids, "prompt.attention_mask": mask}
    cases = {"single": [[7], [11], [5], [30]], "spelled": [[7, 8, 9], [7, 8, 10], [7, 12, 9], [11, 8], [13, 4, 4]]}
    for name, labels in cases.items():
        model.zero_grad()
        right = torch.randint(0, len(labels), (prompts,))
        losses, all_logprobs = [], []
        for text, label in zip(texts, right):
            logprobs = []
            for choice in labels:
                logits = model(input_ids=torch.cat([text, torch.tensor(choice)])[None]).logits[0].float().log_softmax(-1)
                logprobs.append(sum(logits[len(text) - 1 + i, token] for i, token in enumerate(choice)))
            logprobs = torch.stack(logprobs)
            shares = logprobs.softmax(0)
            wanted = torch.nn.functional.one_hot(label, len(labels))
            losses.append(-logprobs.log_softmax(0)[label] + brier * ((shares - wanted) ** 2).sum())
            all_logprobs.append(logprobs.detach())
        losses = torch.stack(losses)
        losses.mean().backward()
        width = max(map(len, labels))
        out |= {f"{name}.labels": torch.tensor([label + [-1] * (width - len(label)) for label in labels]), f"{name}.right": right,
                f"{name}.losses": losses.detach().clone(), f"{name}.logprobs": torch.stack(all_logprobs)}
        for path, parameter in model.named_parameters():
            if parameter.grad is not None and ".layers.0." in path:
                out[f"{name}.grad.{path.replace('.default', '')}"] = parameter.grad.clone()
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, out_file)


if __name__ == "__main__":
    main()
