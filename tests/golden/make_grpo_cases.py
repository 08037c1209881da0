#!/usr/bin/env python3
"""Records losses, gradients, advantages and logged figures of trl's own GRPOTrainer (its _compute_loss and _generate_and_score_completions, called on a
stand-in for the trainer), for train/objectives/grpo_test.cpp. Run by hand: needs torch, transformers 4.57, peft 0.18 and trl 0.24.

usage: make_grpo_cases.py PEFT_LLAMA_DIR OUT_DIR      a folder as make_cases.py makes it: model/ and lora/; float32, CPU, one thread
OUT_DIR/formula.json: log-probabilities, old and reference ones, entropies and advantages by token, and of each case the loss, its gradient by log p and
the figures; rewards and their advantages. OUT_DIR/model.safetensors: the same through a model with an adapter, with the gradients of its first layer.
"""
import collections
import json
import os
import sys
import types

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from safetensors.torch import save_file
from trl.trainer.grpo_trainer import GRPOTrainer

defaults = dict(loss_type="dapo", beta=0.0, epsilon=0.2, epsilon_high=None, delta=None, importance_sampling_level="token", top_entropy_quantile=1.0, temperature=1.0)
accumulation, max_completion_length = 2, 9
cases = {
    **{loss: dict(loss_type=loss) for loss in ("grpo", "bnpo", "dr_grpo", "dapo")},
    **{f"{loss}_kl": dict(loss_type=loss, beta=0.3) for loss in ("grpo", "bnpo", "dr_grpo", "dapo")},
    "sequence": dict(importance_sampling_level="sequence"), "sequence_kl": dict(loss_type="grpo", importance_sampling_level="sequence", beta=0.2, epsilon=0.05),
    "high": dict(epsilon_high=0.5, epsilon=0.1), "delta": dict(delta=1.3, epsilon=0.1), "delta_low": dict(delta=1.05, epsilon=0.2, loss_type="bnpo"),
    "entropy": dict(top_entropy_quantile=0.4, loss_type="bnpo"), "entropy_sequence": dict(top_entropy_quantile=0.3, importance_sampling_level="sequence", beta=0.1),
}
through_model = {"grpo": dict(loss_type="grpo", beta=0.3), "bnpo": dict(loss_type="bnpo", temperature=0.7), "dr_grpo": dict(loss_type="dr_grpo", beta=0.1, temperature=1.5),
                 "dapo": dict(beta=0.2, temperature=0.8, epsilon_high=0.28), "sequence": dict(importance_sampling_level="sequence", beta=0.1), "entropy": dict(top_entropy_quantile=0.4), "first": dict(temperature=0.9)}


class OneProcess:
    num_processes, process_index, device = 1, 0, torch.device("cpu")
    gather = staticmethod(lambda x: x.reshape(1) if x.ndim == 0 else x)
    pad_across_processes = staticmethod(lambda x, dim=0, pad_index=0: x)
    unwrap_model = staticmethod(lambda x: x)


def stand_in(settings, model=None):
    """A trainer with what the two functions read of one."""
    s = defaults | settings
    self = types.SimpleNamespace(accelerator=OneProcess(), use_vllm=False, vllm_importance_sampling_correction=False, current_gradient_accumulation_steps=accumulation, max_completion_length=max_completion_length,
                                 epsilon_low=s["epsilon"], epsilon_high=s["epsilon_high"] if s["epsilon_high"] is not None else s["epsilon"], args=types.SimpleNamespace(delta=s["delta"], report_to=[]),
                                 model=types.SimpleNamespace(training=True), _metrics={"train": collections.defaultdict(list)}, model_kwarg_keys=["logits_to_keep"],
                                 **{key: s[key] for key in ("loss_type", "beta", "importance_sampling_level", "top_entropy_quantile", "temperature")})
    self.get_high_entropy_mask = types.MethodType(GRPOTrainer.get_high_entropy_mask, self)
    self._get_per_token_logps_and_entropies = types.MethodType(GRPOTrainer._get_per_token_logps_and_entropies, self)
    return self


def figures(self):
    return {key: sum(values) / len(values) for key, values in self._metrics["train"].items()}


def formula():
    torch.manual_seed(7)
    answers, longest = 5, 9
    lengths = torch.tensor([9, 4, 1, 7, 0])  # the last one was cut off, and trains nothing
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    logps = -torch.rand(answers, longest) * 3 - 0.1
    old, reference = logps + torch.randn(answers, longest) * 0.25, logps + torch.randn(answers, longest) * 0.4
    entropies, advantages = torch.rand(answers, longest) * 2, torch.tensor([1.2, -0.7, 0.4, -1.1, 0.6])
    rows = lambda x: [x[i, : lengths[i]].tolist() for i in range(answers)]
    out = dict(accumulation=accumulation, max_completion_length=max_completion_length, num_items_in_batch=37, advantages=advantages.tolist(),
               **{name: rows(x) for name, x in dict(logps=logps, old=old, reference=reference, entropies=entropies).items()}, cases={})
    for name, settings in (cases | {f"{name}_first": s for name, s in cases.items() if name in ("grpo_kl", "dapo", "sequence")}).items():
        self, leaf = stand_in(settings), logps.clone().requires_grad_()
        self._get_per_token_logps_and_entropies = lambda *a, leaf=leaf, **k: (leaf, entropies)
        inputs = dict(prompt_ids=torch.ones(answers, 1, dtype=torch.long), prompt_mask=torch.ones(answers, 1, dtype=torch.long), completion_ids=torch.ones(answers, longest, dtype=torch.long),
                      completion_mask=mask, advantages=advantages, num_items_in_batch=torch.tensor(37), ref_per_token_logps=reference)
        if not name.endswith("_first"):
            inputs["old_per_token_logps"] = old
        loss = GRPOTrainer._compute_loss(self, None, inputs)
        loss.backward()
        out["cases"][name] = dict(settings=settings, loss=loss.item(), gradient=rows(leaf.grad), figures=figures(self))
    out["rewards"] = [advantages_case(scale, rewards, group) for scale in ("group", "batch", "none")
                      for rewards, group in (([1.0, 0.0, 0.5, 0.25, 2.0, 2.0, 2.0, 2.0], 4), ([0.3, -1.7, 0.9, 0.1, 0.1, 4.0], 2), ([0.0] * 6, 3))]
    return out


def advantages_case(scale, rewards, group):
    self = stand_in({})
    n = len(rewards)
    self.args.steps_per_generation, self.args.gradient_accumulation_steps, self.args.per_device_train_batch_size = 1, 1, n
    self.__dict__.update(mask_truncated_completions=False, num_iterations=1, num_generations=group, scale_rewards=scale, reward_weights=torch.ones(2), reward_func_names=["a", "b"], pad_token_id=0, eos_token_id=1,
                         processing_class=types.SimpleNamespace(batch_decode=lambda ids, **k: [""] * len(ids)), _logs=collections.defaultdict(list) | {"rewards": collections.defaultdict(list)}, ref_model=None)
    self._generate = lambda prompts, images: ([[2]] * n, [[3, 1]] * n, torch.tensor(2 * n), None, {})
    halves = torch.tensor(rewards)[:, None] * torch.tensor([[0.25, 0.75]])
    halves[0, 1], halves[0, 0] = float("nan"), rewards[0]  # of the first answer the second check says nothing
    self._calculate_rewards = lambda *a: halves
    out = GRPOTrainer._generate_and_score_completions(self, [{"prompt": ""}] * n)
    return dict(scale=scale, group=group, rewards=halves.nan_to_num(-1e9).tolist(), advantages=out["advantages"].tolist(), figures=figures(self))


def through(folder):
    torch.manual_seed(11)
    base = transformers.AutoModelForCausalLM.from_pretrained(f"{folder}/model", attn_implementation="eager", dtype=torch.float32)
    model = peft.PeftModel.from_pretrained(base, f"{folder}/lora", is_trainable=True)
    model.eval()  # no dropout
    answers, prompt, longest, vocabulary = 4, 5, 9, base.config.vocab_size
    lengths = torch.tensor([9, 3, 6, 1])
    prompts = torch.randint(3, vocabulary, (2, prompt)).repeat_interleave(2, 0)
    completions = torch.randint(3, vocabulary, (answers, longest))
    mask = (torch.arange(longest)[None] < lengths[:, None]).long()
    completions = completions * mask
    advantages, noise = torch.tensor([0.9, -0.9, -1.3, 1.3]), torch.randn(answers, longest) * 0.2
    ids = torch.cat([prompts, completions], 1)
    attention = torch.cat([torch.ones_like(prompts), mask], 1)
    labels = torch.cat([torch.full_like(prompts, -100), torch.where(mask.bool(), completions, -100)], 1)
    out = {"answers.input_ids": ids, "answers.labels": labels, "answers.attention_mask": attention, "advantages": advantages}
    for name, settings in through_model.items():
        self = stand_in(settings)
        with torch.no_grad():
            old, _ = self._get_per_token_logps_and_entropies(model, ids, attention, longest)
            with model.disable_adapter():
                reference, _ = self._get_per_token_logps_and_entropies(model, ids, attention, longest)
        old = (old + noise) * mask
        inputs = dict(prompt_ids=prompts, prompt_mask=torch.ones_like(prompts), completion_ids=completions, completion_mask=mask, advantages=advantages, num_items_in_batch=mask.sum(), ref_per_token_logps=reference)
        if name != "first":
            inputs["old_per_token_logps"] = old
        model.zero_grad()
        loss = GRPOTrainer._compute_loss(self, model, inputs)
        loss.backward()
        out |= {f"{name}.loss": loss.detach().reshape(1), f"{name}.old": old, f"{name}.reference": reference * mask}
        out |= {f"{name}.figure.{key}": torch.tensor([float(value)]) for key, value in figures(self).items()}
        for path, parameter in model.named_parameters():
            if parameter.grad is not None and ".layers.0." in path:
                out[f"{name}.grad.{path.replace('.default', '')}"] = parameter.grad.clone()
    return {name: tensor.contiguous() for name, tensor in out.items()}


def main():
    folder, out = sys.argv[1], sys.argv[2]
    torch.set_num_threads(1)
    os.makedirs(out, exist_ok=True)
    with open(f"{out}/formula.json", "w") as file:
        json.dump(formula(), file)
    save_file(through(folder), f"{out}/model.safetensors")


if __name__ == "__main__":
    main()
