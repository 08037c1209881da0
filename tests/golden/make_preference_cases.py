#!/usr/bin/env python3
"""Records losses of preferences and their gradients in torch, by the papers' formulas, for train/objectives/golden_test.cpp. Run by hand: needs torch,
transformers and peft.

usage: make_preference_cases.py PEFT_LLAMA_DIR OUT_FILE [SEED]      a folder as make_cases.py makes it: model/ and lora/; float32, CPU, one thread
Per case: losses [pairs] and the gradients of their mean in the first layer's adapter. The reference is the adapter switched off; beta 0.1, gamma 0.5.
"""
import os
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import save_file

beta, gamma, pairs, longest = 0.1, 0.5, 3, 24


def samples(vocabulary, prompts):
    """Token ids, labels (of the answer alone) and mask of one answer to each prompt, padded on the right."""
    ids, labels, mask = torch.zeros(pairs, longest, dtype=torch.long), torch.full((pairs, longest), -100), torch.zeros(pairs, longest, dtype=torch.long)
    for row, prompt in enumerate(prompts):
        answer = torch.randint(3, vocabulary, (int(torch.randint(3, longest - len(prompt) + 1, (1,))),))
        end = len(prompt) + len(answer)
        ids[row, :end], labels[row, len(prompt):end], mask[row, :end] = torch.cat([prompt, answer]), answer, 1
    return ids, labels, mask


def states_and_logits(model, batch):
    out = model(input_ids=batch[0], attention_mask=batch[2], output_hidden_states=True)
    return out.hidden_states[-1], out.logits


def label_logps(model, batch):
    logits, labels = states_and_logits(model, batch)[1][:, :-1].float(), batch[1][:, 1:]
    kept = labels != -100
    return torch.gather(logits.log_softmax(-1), 2, labels.clamp(min=0).unsqueeze(2)).squeeze(2) * kept, kept


def logps(model, batch):
    logp, kept = label_logps(model, batch)
    return logp.sum(1), kept.sum(1)


def desensitised(model, batch, other, alpha):
    """LD-DPO: labels beyond the shared length count alpha times."""
    logp, kept = label_logps(model, batch)
    shared = torch.minimum(kept.sum(1), (other[1][:, 1:] != -100).sum(1))
    place = kept.cumsum(1) - 1
    return (logp * torch.where(place < shared[:, None], 1.0, alpha)).sum(1)


def main():
    folder, out_file, seed = sys.argv[1], sys.argv[2], int(sys.argv[3]) if len(sys.argv) > 3 else 1234
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    base = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/model", attn_implementation="eager", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, f"{folder}/lora", is_trainable=True)
    model.eval()  # no dropout
    vocabulary = base.config.vocab_size
    prompts = [torch.randint(3, vocabulary, (int(torch.randint(2, 10, (1,))),)) for _ in range(pairs)]
    chosen, rejected = samples(vocabulary, prompts), samples(vocabulary, prompts)
    head = torch.nn.Linear(base.config.hidden_size, 1)
    out = {f"{name}.{part}": tensor for name, batch in (("chosen", chosen), ("rejected", rejected)) for part, tensor in zip(("input_ids", "labels", "attention_mask"), batch)}
    out |= {"v_head.summary.weight": head.weight.detach().clone(), "v_head.summary.bias": head.bias.detach().clone()}
    with torch.no_grad(), model.disable_adapter():
        (rc, _), (rr, _) = logps(model, chosen), logps(model, rejected)
    good = torch.tensor([True, False, True])

    def loss(name):
        c, cn = logps(model, chosen)
        r, rn = logps(model, rejected)
        x = (c - r) - (rc - rr)
        if name == "sigmoid":
            return -F.logsigmoid(beta * x)
        if name == "sigmoid_smooth":
            return -F.logsigmoid(beta * x) * 0.9 - F.logsigmoid(-beta * x) * 0.1
        if name == "sigmoid_ftx":
            return -F.logsigmoid(beta * x) - 0.3 * c / cn
        if name == "sigmoid_bco":
            reward_c, reward_r = beta * (c - rc), beta * (r - rr)
            mean = torch.cat([reward_c, reward_r]).mean().detach()
            return (-F.logsigmoid(beta * x) + 0.4 * (-F.logsigmoid(reward_c - mean) - F.logsigmoid(mean - reward_r))) / 1.4
        if name == "sigmoid_ld":
            return -F.logsigmoid(beta * (desensitised(model, chosen, rejected, 0.5) - desensitised(model, rejected, chosen, 0.5) - (rc - rr)))
        if name == "hinge":
            return F.relu(1 - beta * x)
        if name == "ipo":
            return ((c / cn - r / rn) - (rc / cn - rr / rn) - 1 / (2 * beta)) ** 2
        if name == "orpo":
            odds = (c / cn - r / rn) - (torch.log1p(-(c / cn).exp()) - torch.log1p(-(r / rn).exp()))
            return -c / cn - beta * F.logsigmoid(odds)
        if name == "simpo":
            return -F.logsigmoid(beta * (c / cn - r / rn) - gamma)
        if name == "kto":  # the chosen answers were judged, the rejected ones are the samples for KL
            kl = (r - rr).mean().detach().clamp(min=0)
            reward = beta * (c - rc)
            return torch.where(good, 0.8 * (1 - torch.sigmoid(reward - beta * kl)), 1.4 * (1 - torch.sigmoid(beta * kl - reward)))
        scores = [head(states_and_logits(model, batch)[0][torch.arange(pairs), batch[2].sum(1) - 1]).squeeze(1) for batch in (chosen, rejected)]
        return -F.logsigmoid(scores[0] - scores[1])

    for name in ("sigmoid", "sigmoid_smooth", "sigmoid_ftx", "sigmoid_bco", "sigmoid_ld", "hinge", "ipo", "orpo", "simpo", "kto", "reward"):
        model.zero_grad()
        head.zero_grad()
        losses = loss(name)
        losses.mean().backward()
        out[f"{name}.losses"] = losses.detach().clone()
        for path, parameter in model.named_parameters():
            if parameter.grad is not None and ".layers.0." in path:
                out[f"{name}.grad.{path.replace('.default', '')}"] = parameter.grad.clone()
    out |= {"reward.grad.v_head.summary.weight": head.weight.grad.clone(), "reward.grad.v_head.summary.bias": head.bias.grad.clone()}
    save_file({name: tensor.contiguous() for name, tensor in out.items()}, out_file)


if __name__ == "__main__":
    main()
