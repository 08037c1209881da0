#!/usr/bin/env python3
"""Every option that `loraine COMMAND --help` lists changes something: a figure, a file, what is printed, or whether the run is refused. Run by ctest (label e2e).

The options come from the help itself, so a new one is walked too. How it is changed comes from its type, or from the tables below where it
takes effect only beside other settings. Two tables name the options of which no output can tell.
"""
import array
import concurrent.futures
import hashlib
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

# Where the harness itself looks for what a run writes: were such an option without effect, no run would be found.
READ_BY_THE_HARNESS = {"output_dir", "export_dir", "output", "json", "save_dir"}
# Values that give the same by intent, or too little of other text to be told; what is seen instead: a value outside is refused.
REFUSED_INSTEAD = {"init_special_tokens": "klingon", "fp16": "maybe", "fp16_full_eval": "maybe", "auto_find_batch_size": "maybe", "apollo_scale_front": "maybe", "export_device": "cuda", "device": "tpu", "export_size": 0, "repeats": 0, "batch_size": 0, "lang": "fr", "language": "klingon",
                   "hf_hub_token": "two words", "ms_hub_token": "two words", "hub_token": "two words", "hub_model_id": "a/b/c", "hub_private_repo": "perhaps", "hub_revision": "../x",
                   "hub_strategy": "sometimes"}  # what those of hubs do, hub_test.py shows
# The same where a command shows too little: bench times, chat words that a small change of the logits need not change.
REFUSED_INSTEAD_IN = {("chat", "tool_format"): "klingon", ("bench", "gradient_checkpointing"): "maybe", ("bench", "double_quantization"): "maybe", ("chat", "double_quantization"): "maybe",
                      **{(command, name): value for command in ("bench", "chat") for name, value in (("quantization_method", "gptq"), ("hqq_axis", 2), ("hqq_group_size", 4))},
                      ("export", "quantization_method"): "gptq",
                      ("export", "export_quantization_bit"): 5, ("export", "export_quantization_method"): "klingon", ("export", "export_quantization_dataset"): "texts.jsonl",
                      ("export", "export_quantization_nsamples"): 0, ("export", "export_quantization_maxlen"): 1, ("export", "export_quantization_group_size"): 33,
                      ("export", "gguf_imatrix"): "imatrix.gguf"}  # quantised_export_test.py
# Said by people who come from LLaMA-Factory: eval evaluates anyway.
NO_MATTER = {("eval", "do_eval"), ("chat", "preserve_thinking"), ("train", "buffer_size"), ("train", "module_dropout"),  # PEFT writes it down and has no use for it
             ("train", "dataloader_num_workers"), ("data", "allow_data_change"),  # a tiny model's answers hold no thoughts
             *(("train", name) for name in ("temperature", "top_p", "top_k", "repetition_penalty")), ("data", "max_prompt_length")}  # of stage grpo: grpo_test.py

QUANTISED = {"quantization_bit": 4}
HQQ = {"quantization_bit": 4, "quantization_method": "hqq", "hqq_group_size": 8}
ADALORA = {"use_adalora": "true", "max_steps": 8, "init_r": 6, "target_r": 2, "tinit": 1, "tfinal": 1, "lora_rank": 6}
EVALUATED = {"val_size": 5, "eval_strategy": "steps", "eval_steps": 1, "per_device_eval_batch_size": 2}
SAVED = {"save_strategy": "steps", "save_steps": 1}
BEST = {**EVALUATED, **SAVED, "load_best_model_at_end": "true", "learning_rate": 1, "max_steps": 4}
FREEZE = {"finetuning_type": "freeze", "freeze_trainable_layers": 1}
TEXTS = {"stage": "pt", "cutoff_len": 8}
PREDICTED = {"predict_with_generate": "true", "max_samples": 3, "max_new_tokens": 24}
THOUGHTS = {"template": "qwen3", "mask_history": "true"}
REPORTED = {"report_to": "swanlab,trackio"}
TWO = {"dataset": "talk,texts"}
LOFTQ = {"init_lora_weights": "loftq"}
FULL = {"finetuning_type": "full"}
OFT = {"finetuning_type": "oft"}
EVA, CORDA, LORA_GA = ({"init_lora_weights": start, "start_samples": 6} for start in ("eva", "corda", "lora_ga"))
GALORE = {**FULL, "use_galore": "true", "galore_rank": 2, "galore_update_interval": 1}
APOLLO = {**FULL, "use_apollo": "true", "apollo_rank": 2, "apollo_update_interval": 1}
BADAM = {**FULL, "use_badam": "true", "badam_switch_interval": 1}
SHARES = {**BADAM, "badam_mode": "ratio"}
ACCUMULATED = {"gradient_accumulation_steps": 2}
SEVERAL_FILES = {"ppl_file": "{work}/text.txt", "ppl_window": 16}

# option: (changed value, settings beside it). {name} stands for something that `setUpClass` makes.
COMMON = {
    "resize_vocab": ("true", {}), "add_tokens": ("hello", {}), "add_special_tokens": ("<x>", {}), "new_special_tokens_config": ("{work}/tokens.yaml", {}), "rope_scaling": ("linear", {}),
    "model_name_or_path": ("{other_model}", {}),
    "adapter_name_or_path": ("{adapter}", {}),
    "model_revision": ("later", {"model_name_or_path": "org/base"}),
    "cache_dir": ("{work}/nowhere", {"model_name_or_path": "org/base"}),
    "adapter_folder": ("nowhere", {"adapter_name_or_path": "{adapter}"}),
    "quantization_type": ("fp4", QUANTISED),
    "quantization_bit": (4, {}),
    "double_quantization": ("false", QUANTISED),
    "quantization_method": ("hqq", QUANTISED), "hqq_axis": (1, HQQ), "hqq_group_size": (16, HQQ),
    "infer_dtype": ("bfloat16", {}),
    "frozen_matmul": ("int8", {}),
    "strict": ("true", {"adapter_name_or_path": "{foreign_adapter}"}),
    "template": ("vicuna", {}),
    "default_system": ("be good", {}),
    "enable_thinking": ("false", {"template": "qwen3"}),
    "memory_limit": ("1MiB", {}),
}
DPO = {"stage": "dpo", "dataset": "prefer"}
KTO = {"stage": "kto", "dataset": "judged"}
DECISION = {"stage": "decision", "dataset": "questions"}
PREFERENCES = {
    "pref_loss": ("hinge", DPO), "pref_beta": (0.5, DPO), "pref_ftx": (0.5, DPO), "pref_bco_weight": (0.5, DPO), "dpo_label_smoothing": (0.2, DPO),
    "simpo_gamma": (2, DPO | {"pref_loss": "simpo"}), "ld_alpha": (0.1, DPO), "kto_chosen_weight": (3, KTO), "kto_rejected_weight": (3, KTO),
    "ref_model": ("{other_model}", DPO), "ref_model_adapters": ("{adapter}", DPO | {"ref_model": "{model}"}), "ref_model_quantization_bit": (4, DPO | {"ref_model": "{model}"}),
}
TRAIN = {
    **PREFERENCES, "decision_brier": (3, DECISION), "decision_holdout": (0.4, DECISION),
    "dataset": ("texts", {}), "eval_dataset": ("texts", {}), "dataset_dir": ("{other_data}", {}), "cutoff_len": (8, {}), "max_samples": (3, {}),
    "skip_bad_rows": (1, {"dataset": "bad"}), "val_size": (3, {}), "mix_strategy": ("interleave_over", TWO), "interleave_probs": ("0.9,0.1", TWO | {"mix_strategy": "interleave_under"}), "eval_on_each_dataset": ("true", {"eval_dataset": "talk,texts", "eval_strategy": "steps", "eval_steps": 1}),
   
    "streaming": ("true", {}), "tokenized_path": ("{work}/kept", {}), "packing": ("true", {}), "neat_packing": ("true", {}), "preprocessing_num_workers": (2, {"neat_packing": "true"}), "preserve_thinking": ("true", THOUGHTS | {"dataset": "thoughts"}), "tool_format": ("qwen", {"dataset": "tools"}), "preprocessing_batch_size": (2, TEXTS),
    "allow_data_change": ("true", {"resume_from_checkpoint": "{checkpoint}", "dataset": "texts"}), "resume_from_checkpoint": ("{checkpoint}", {}),
    "stage": ("pt", {"cutoff_len": 8}), "finetuning_type": ("freeze", {}), "freeze_trainable_layers": (2, FREEZE), "freeze_trainable_modules": ("mlp", FREEZE),
    "freeze_extra_modules": ("norm", FREEZE), "lora_target": ("q_proj", {}), "lora_dropout": (0.5, {}), "additional_target": ("norm", {}), "bias": ("all", {}),
    "rank_pattern": ('{{"q_proj": 2}}', {}), "alpha_pattern": ('{{"q_proj": 2}}', {}), "layers_to_transform": ("0", {}),
    "layers_pattern": ("blocks", {"layers_to_transform": "0"}), "exclude_modules": ("q_proj", {}), "init_lora_weights": ("gaussian", {}),
    "loftq_bits": (8, LOFTQ), "loftq_iter": (3, LOFTQ), "pissa_iter": (-1, {"pissa_init": "true", "pissa_iter": 1}), "pissa_convert": ("false", {"pissa_init": "true"}),
    "oft_rank": (2, OFT | {"oft_block_size": 0, "oft_rank": 4}), "oft_block_size": (4, OFT), "oft_target": ("q_proj", OFT), "module_dropout": (0.5, OFT),
    "adapter_args": ('{{"block_share": true}}', OFT | {"oft_block_size": 4}),
    "start_samples": (2, EVA), "eva_rho": (2, EVA | {"eva_rho": 1}), "eva_tau": (0.1, EVA), "eva_use_label_mask": ("false", EVA), "eva_whiten": ("true", EVA),
    "eva_adjust_scaling_factors": ("false", EVA | {"eva_rho": 2}), "corda_method": ("kpm", CORDA), "lora_ga_direction": ("ArBr", LORA_GA), "lora_ga_scale": ("weight_svd", LORA_GA),
    "lora_ga_stable_gamma": (3, LORA_GA), "init_r": (5, ADALORA), "target_r": (1, ADALORA), "tinit": (3, ADALORA), "tfinal": (3, ADALORA), "deltaT": (3, ADALORA), "beta1": (0.1, ADALORA),
    "beta2": (0.1, ADALORA), "orth_reg_weight": (9, ADALORA), "neftune_noise_alpha": (5, {}), "loraplus_lr_ratio": (8, {}),
    "loraplus_lr_embedding": (0.1, {"loraplus_lr_ratio": 8, "lora_target": "q_proj,embed_tokens"}), "create_new_adapter": ("true", {"adapter_name_or_path": "{adapter}"}),
    "early_stopping_steps": (1, {**BEST, "max_steps": 6}), "compute_accuracy": ("true", EVALUATED), "include_num_input_tokens_seen": ("all", {}),
    "overwrite_output_dir": ("true", {"_output": "{run}"}), "do_train": ("false", {}), "do_eval": ("true", {"val_size": 3}),
    "per_device_eval_batch_size": (5, EVALUATED), "gradient_checkpointing": ("true", {}), "num_train_epochs": (1, {"max_steps": -1}), "max_steps": (2, {}),
    "lr_scheduler_type": ("constant", {}), "lr_scheduler_kwargs": ('{{"num_cycles": 2}}', {"lr_scheduler_type": "cosine_with_restarts", "max_steps": 6}),
    "warmup_ratio": (0.5, {}), "weight_decay": (5, {}), "adam_beta1": (0.1, {}), "adam_beta2": (0.1, {}), "adam_epsilon": (0.1, {}), "max_grad_norm": (0.01, {}),
    "logging_steps": (2, {}), "logging_first_step": ("true", {"logging_steps": 2}), "save_strategy": ("steps", {"save_steps": 1}), "save_steps": (2, SAVED),
    "save_total_limit": (1, SAVED), "save_only_model": ("true", SAVED), "eval_strategy": ("steps", {"val_size": 3}), "eval_steps": (2, EVALUATED),
    "eval_on_start": ("true", EVALUATED), "load_best_model_at_end": ("true", {**BEST, "load_best_model_at_end": "false"}),
    "metric_for_best_model": ("eval_accuracy", {**BEST, "compute_accuracy": "true"}), "greater_is_better": ("true", BEST),
    "use_asft_loss": ("true", {}), "asft_alpha": (5, {"use_asft_loss": "true"}), "use_dft_loss": ("true", {}), "use_eaft_loss": ("true", {}), "eaft_alpha": (0.5, {"use_eaft_loss": "true"}),
    "train_sampling_strategy": ("sequential", {}), "group_by_length": ("true", {}), "dataloader_drop_last": ("true", {"max_steps": -1, "num_train_epochs": 1, "per_device_train_batch_size": 5}),
    "batching_strategy": ("dynamic_padding_free", {}), "logging_strategy": ("no", {}), "eval_delay": (2, EVALUATED), "ignore_data_skip": ("true", {"resume_from_checkpoint": "{checkpoint}"}),
    "include_effective_tokens_per_second": ("true", {}), "pure_bf16": ("true", {}), "bf16_full_eval": ("true", EVALUATED), "use_llama_pro": ("true", {"freeze_trainable_layers": 1}),
    "train_from_scratch": ("true", {"finetuning_type": "full"}), "rope_scaling": ("linear", {"cutoff_len": 600}),
    "do_predict": ("true", {"eval_dataset": "talk", "predict_with_generate": "true", "max_new_tokens": 4}), "predict_with_generate": ("true", {"eval_dataset": "talk", "do_predict": "true", "max_new_tokens": 4}),
    "optim": ("sgd", {}), "optim_args": ("momentum=0.9", {"optim": "sgd"}),
    "optim_target_modules": ("down_proj", {"optim": "galore_adamw", "optim_target_modules": "q_proj", "optim_args": "rank=2"}),
    "use_galore": ("true", FULL), "galore_target": ("q_proj", GALORE), "galore_rank": (3, GALORE), "galore_update_interval": (2, GALORE), "galore_scale": (1, GALORE),
    "galore_proj_type": ("left", GALORE), "galore_layerwise": ("true", GALORE | ACCUMULATED), "use_apollo": ("true", FULL), "apollo_target": ("q_proj", APOLLO),
    "apollo_rank": (3, APOLLO), "apollo_update_interval": (2, APOLLO), "apollo_scale": (1, APOLLO), "apollo_proj": ("svd", APOLLO),
    "apollo_proj_type": ("left", APOLLO | {"apollo_scale_type": "tensor"}), "apollo_scale_type": ("tensor", APOLLO), "apollo_layerwise": ("true", APOLLO | ACCUMULATED),
    "use_badam": ("true", FULL), "badam_mode": ("ratio", BADAM), "badam_start_block": (1, BADAM), "badam_switch_mode": ("descending", BADAM), "badam_switch_interval": (2, BADAM),
    "badam_update_ratio": (0.5, SHARES), "badam_mask_mode": ("scatter", SHARES), "use_adam_mini": ("true", FULL), "use_muon": ("true", {}),
    "report_to": ("jsonl", {}), "run_name": ("first", REPORTED), "logging_dir": ("{work}/board", {"report_to": "tensorboard"}), "project": ("mine", REPORTED),
    "trackio_space_id": ("me/space", REPORTED), "trackio_bucket_id": ("me/bucket", REPORTED), "swanlab_project": ("mine", REPORTED), "swanlab_workspace": ("us", REPORTED),
    "swanlab_run_name": ("first", REPORTED), "swanlab_mode": ("local", REPORTED), "swanlab_logdir": ("swan", REPORTED),
    "mask_history": ("true", {}), "train_on_prompt": ("true", {}), "split_special_tokens": ("true", {}), "warmup_steps": (2, {}),
    "quant_aware": ("q4_0", {}), "quant_aware_steps": (1, {"quant_aware": "q4_0"}),
}
GENERATION = {
    "do_sample": ("false", {}), "temperature": (0.01, {}), "top_p": (0.01, {}), "top_k": (1, {"top_p": 1}), "max_new_tokens": (3, {}), "repetition_penalty": (20, {}),
    "num_beams": (3, {"do_sample": "false"}), "length_penalty": (-9, {"do_sample": "false", "num_beams": 8, "max_new_tokens": 40}),
    "skip_special_tokens": ("false", {"max_new_tokens": 80}), "seed": (7, {}),
}
EVAL = {
    **{name: (value, {"eval_dataset" if key == "dataset" else key: was for key, was in beside.items()} | {"adapter_name_or_path": "{adapter}"}) for name, (value, beside) in PREFERENCES.items()},
    **{name: (value, {**PREDICTED, **beside}) for name, (value, beside) in GENERATION.items()}, "double_quantization": ("false", QUANTISED),
    **{name: TRAIN[name] for name in ("dataset_dir", "cutoff_len", "max_samples", "packing", "preprocessing_batch_size", "compute_accuracy", "stage", "mask_history",
                                      "train_on_prompt", "split_special_tokens", "label_smoothing_factor", "use_dft_loss", "use_asft_loss", "asft_alpha", "use_eaft_loss", "eaft_alpha") if name in TRAIN},
    "mix_strategy": ("interleave_over", {"eval_dataset": "talk,texts"}), "interleave_probs": ("0.9,0.1", {"eval_dataset": "talk,texts", "mix_strategy": "interleave_under"}),
    "tokenized_path": ("{work}/kept_eval", {}),
    "neat_packing": ("true", {}), "preprocessing_num_workers": (2, {"neat_packing": "true"}), "tool_format": ("qwen", {"eval_dataset": "tools"}),
    "preserve_thinking": ("true", THOUGHTS | {"eval_dataset": "thoughts"}),
    "compute_accuracy": ("true", {}), "eval_dataset": ("texts", {}), "skip_bad_rows": (1, {"eval_dataset": "bad"}), "per_device_eval_batch_size": (2, {}),
    "task": ("mmlu_test", {"task_dir": "{work}"}), "task_dir": ("{work}/nowhere", {"task": "mmlu_test", "task_dir": "{work}"}), 
    "n_shot": (0, {"task": "mmlu_test", "task_dir": "{work}"}), "ppl_file": ("{work}/text.txt", {}), "ppl_window": (8, SEVERAL_FILES),
    "ppl_stride": (3, SEVERAL_FILES), "choice_file": ("{work}/choice.jsonl", {}), "match_file": ("{work}/match.jsonl", {}),
    "compare": ("true", {"adapter_name_or_path": "{adapter}"}), "predict_with_generate": ("true", PREDICTED | {"predict_with_generate": "false"}),
    "do_predict": ("true", PREDICTED | {"predict_with_generate": "false"}),
}
EXPORT = {
    **{name: (value, {"adapter_name_or_path": "null", **LOFTQ, **beside}) for name, (value, beside) in
       {name: TRAIN.get(name, (6, {})) for name in ("lora_rank", "lora_alpha", "lora_target", "rank_pattern", "layers_to_transform", "layers_pattern",
                                                    "exclude_modules", "loftq_bits", "loftq_iter")}.items()},
    "quantization_bit": (4, {"adapter_name_or_path": "null"}), "init_lora_weights": ("loftq", {"adapter_name_or_path": "null"}),
    "quantization_type": ("fp4", QUANTISED | {"adapter_name_or_path": "null"}), "double_quantization": ("false", QUANTISED | {"adapter_name_or_path": "null"}),
    "overwrite_output_dir": ("true", {"_output": "{run}"}), "adapter_name_or_path": ("null", {}), "gguf_type": ("f32", {"export_format": "gguf"}),
}
TRACE = {"batch": ("{work}/other.safetensors", {}), "adapter_rows": ("1:run", {"adapter_name_or_path": "run={adapter}"}),
         "gradients": ("true", {"adapter_name_or_path": "{adapter}"}), "max_new_tokens": (3, {})}
TOKENIZE = {"model_name_or_path": ("{work}", {}), "input": ("{work}/other.jsonl", {}), "chat_template": ("{work}/chat.jinja", {}), "split_special_tokens": ("true", {})}
BENCH = {"model_revision": ("none", {"model_name_or_path": "org/base"}), "tokens": ("32", {}), "dtype": ("bf16", {}), "rank": (5, {}), "prompt_tokens": (9, {}), "new_tokens": (0, {}), "profile": ("true", {})}
CHAT = {**GENERATION, "enable_thinking": ("false", {"template": "qwen3", "adapter_name_or_path": "{adapter}"})}
STREAM = {"streaming": "true", "max_steps": 3, "buffer_size": 5}
DATA = {
    **{name: TRAIN[name] for name in ("dataset", "eval_dataset", "dataset_dir", "cutoff_len", "max_samples", "skip_bad_rows", "val_size", "mix_strategy", "interleave_probs", "packing",
                                      "neat_packing", "preprocessing_num_workers", "preprocessing_batch_size", "preserve_thinking", "tool_format", "mask_history", "train_on_prompt",
                                      "split_special_tokens")},
    "stage": ("pt", {"cutoff_len": 8}), "eval_on_each_dataset": ("true", {"eval_dataset": "talk,texts"}), "streaming": ("true", STREAM | {"streaming": "false"}), "buffer_size": (2, STREAM),
    "dataloader_num_workers": (3, STREAM), "model_name_or_path": ("{work}", {}), "max_steps": (-1, STREAM), "seed": (7, {"val_size": 3}), "tokenized_path": ("{work}", {}), "examples": (1, {}), "ids": ("true", {}),
    "html": ("{work}/page.html", {}), "json": ("{work}/encoded.jsonl", {}), "strict": ("true", {"template": "chatml"}), "adapter_name_or_path": ("{adapter}", {"template": "null"}),
}
TABLES = {"data": DATA, "train": TRAIN, "chat": CHAT, "eval": EVAL, "export": EXPORT, "trace": TRACE, "tokenize": TOKENIZE, "bench": BENCH}
BASE = {
    "data": {"model_name_or_path": "{model}", "template": "default", "dataset": "talk", "dataset_dir": "{data}", "examples": 20},
    "train": {"model_name_or_path": "{model}", "template": "default", "dataset": "talk", "dataset_dir": "{data}", "do_train": "true", "lora_rank": 4, "learning_rate": "5e-2",
              "per_device_train_batch_size": 2, "max_steps": 3, "logging_steps": 1, "save_strategy": "no"},
    "chat": {"model_name_or_path": "{model}", "max_new_tokens": 12},
    "eval": {"model_name_or_path": "{model}", "template": "default", "eval_dataset": "talk", "dataset_dir": "{data}"},
    "export": {"model_name_or_path": "{model}", "adapter_name_or_path": "{adapter}"},
    "trace": {"model_name_or_path": "{model}", "batch": "{work}/batch.safetensors"},
    "tokenize": {"model_name_or_path": "{model}", "input": "{work}/rows.jsonl"},
    "bench": {"model_name_or_path": "{model}", "tokens": "16", "dtype": "f32", "repeats": 1, "prompt_tokens": 8, "new_tokens": 2},
}
OUTPUT = {"train": "output_dir", "eval": "output_dir", "export": "export_dir", "trace": "output", "tokenize": "output", "bench": "json"}
# Records of the settings themselves, and of the run's own times, show nothing.
RECORDS = {"README.md", "training_state.json", "loraine_checkpoint.json", "loraine_run.json", "config.json", ".loraine.lock"}
TIMED = re.compile(r"runtime|per_second|time|speed|seconds|peak|rate|share|bytes|version|path|best_model_checkpoint|^id$|^output_dir$")


def options_of(command):
    """name → (type, default), as the help gives them"""
    code, text = tiny.run(command, "--help")
    assert code == 0, text
    text = re.sub(r"\n {34}", " ", text)
    return {name: (kind, default) for name, kind, default in re.findall(r"^  --(\w+) .*\(([^;()]*(?:\([^()]*\)[^;()]*)?); default (.*)\)$", text, re.M)}


def another(kind, default):
    """A value of the option's type that is not its default."""
    if kind.startswith("true or false"):
        return "false" if default == "true" else "true"
    if kind.startswith("an integer"):
        return int(default) + 1 if re.fullmatch(r"-?\d+", default) else 3
    if kind.startswith("a number"):
        return 0.3 if default != "0.3" else 0.4
    if kind.startswith("one of: "):
        return next(word for word in re.sub(r", or null$", "", kind[8:]).split(", ") if word != default)
    return "something"


def seen_in(path):
    """What a file shows beside times and the settings themselves."""
    if path.suffix in (".json", ".jsonl"):
        def plain(value):
            if isinstance(value, dict):
                return {k: plain(v) for k, v in value.items() if not TIMED.search(k)}
            if isinstance(value, list):
                return [plain(v) for v in value]
            return value if path.name != "out.json" or not isinstance(value, float) else "a time"
        values = [json.loads(line) for line in path.read_text().splitlines()] if path.suffix == ".jsonl" else json.loads(path.read_text())
        if path.name == "trainer_state.json":
            values = [values["log_history"], values["best_metric"]]
        return plain(values)
    return hashlib.sha256(path.read_bytes()).hexdigest()


class Options(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        work = pathlib.Path(cls.holder.name)
        cls.places = dict(work=work, model=cls.biased_model(work / "model", 1), other_model=cls.biased_model(work / "other_model", 2), data=work / "data",
                          other_data=work / "other_data", run=work / "run", adapter=work / "run", foreign_adapter=work / "foreign", checkpoint=work / "run/checkpoint-2")
        talk = [{"conversations": [{"from": "human", "value": f"say {a}</s>"}, {"from": "gpt", "value": a}, {"from": "human", "value": f"and {b}"},
                                   {"from": "gpt", "value": f"{b} {a}"}]} for a, b in zip(["one", "two", "tree", "red", "fog", "sea"], ["up", "down", "left", "right", "on", "off"])]
        for name, rows in (("data", talk * 2), ("other_data", talk[:4])):
            (work / name).mkdir()
            (work / name / "talk.json").write_text(json.dumps(rows))
            (work / name / "texts.json").write_text(json.dumps([{"instruction": f"word {i}", "output": "x" * (i + 1)} for i in range(6)]))
            (work / name / "bad.jsonl").write_text("".join(json.dumps(row) + "\n" for row in talk) + "{\n")
            (work / name / "thoughts.json").write_text(json.dumps([{"conversations": [
                {"from": "human", "value": "say one"}, {"from": "gpt", "value": "<think>\nabc\n</think>\n\none"}, {"from": "human", "value": "more"}, {"from": "gpt", "value": "two"}]}] * 4))
            (work / name / "tools.json").write_text(json.dumps([{"tools": json.dumps([{"name": "f", "parameters": {"properties": {}}}]), "conversations": [
                {"from": "human", "value": "say one"}, {"from": "function_call", "value": json.dumps({"name": "f", "arguments": {}})}]}] * 4))
            (work / name / "prefer.json").write_text(json.dumps([{"instruction": f"say {a}", "chosen": f"{a} {b}", "rejected": b} for a, b in zip("abcdef", "uvwxyz")]))
            (work / name / "judged.json").write_text(json.dumps([{"instruction": f"say {a}", "output": a * (i + 1), "good": i % 2 == 0} for i, a in enumerate("abcdef")]))
            (work / name / "questions.jsonl").write_text("".join(json.dumps({"text": a * 4, "choices": ["up", "down"], "label": i % 2}) + "\n" for i, a in enumerate("abcdefgh")))
            (work / name / "dataset_info.json").write_text(json.dumps(
                {"questions": {"file_name": "questions.jsonl"}, "prefer": {"file_name": "prefer.json", "ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
                 "judged": {"file_name": "judged.json", "columns": {"prompt": "instruction", "response": "output", "kto_tag": "good"}}, "thoughts": {"file_name": "thoughts.json", "formatting": "sharegpt"},
                 "tools": {"file_name": "tools.json", "formatting": "sharegpt", "columns": {"messages": "conversations", "tools": "tools"}}, "talk": {"file_name": "talk.json", "formatting": "sharegpt"}, "texts": {"file_name": "texts.json"}, "bad": {"file_name": "bad.jsonl", "formatting": "sharegpt"}}))
        for name, ids in (("batch", [[5, 9, 33, 7], [8, 6, 4, 12]]), ("other", [[5, 9, 33, 8], [8, 6, 4, 12]])):
            data = array.array("q", sum(ids, [])).tobytes()
            tiny.write_safetensors(work / f"{name}.safetensors", {"input_ids": ("I64", [2, 4], data), "labels": ("I64", [2, 4], data)})
        snapshots = work / "hub/models--org--base/snapshots"
        snapshots.mkdir(parents=True)
        for revision, model in (("main", "model"), ("later", "other_model")):
            (snapshots / revision).symlink_to(work / model)
        message = json.dumps({"messages": [{"role": "user", "content": "hi</s>"}]}) + "\n"
        (work / "rows.jsonl").write_text(message + json.dumps({"text": "ab</s>cd"}) + "\n")
        (work / "other.jsonl").write_text(message)
        (work / "chat.jinja").write_text("{{ messages[0].content }}!")
        (work / "tokens.yaml").write_text('"<x>": "what is unknown"\n')
        (work / "text.txt").write_text("the sea is red and the fog is on the tree " * 2)
        (work / "choice.jsonl").write_text(json.dumps({"question": "a", "choices": ["b", "c"], "answer": 0}) + "\n")
        (work / "match.jsonl").write_text(json.dumps({"question": "a", "answer": "b"}) + "\n")
        for part, suffix, rows in (("test", "_test", 3), ("dev", "_dev", 2)):
            (work / "mmlu/data" / part).mkdir(parents=True)
            (work / f"mmlu/data/{part}/sea{suffix}.csv").write_text("".join(f"is it {i},one,two,tree,red,{'ABC'[i]}\n" for i in range(rows)))
        (work / "mmlu/mapping.json").write_text(json.dumps({"sea": {"name": "sea", "category": "STEM"}}))
        for out, model in (("run", "{model}"), ("foreign", "{other_model}")):
            shown = cls.words("train", dict(model_name_or_path=model, max_steps=2, save_strategy="steps", save_steps=2), work / out)
            code, text = tiny.run(*shown)
            assert code == 0, text
        cls.base_runs = {}

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    @classmethod
    def biased_model(cls, folder, seed):
        tiny.write_model(folder, seed, vocab=72)  # room for the tokens that templates add
        config = json.loads((folder / "config.json").read_text()) | dict(model_type="qwen2", architectures=["Qwen2ForCausalLM"])
        (folder / "config.json").write_text(json.dumps(config))
        tensors = tiny.llama_tensors(seed, vocab=72)
        for name, (kind, shape, _) in list(tensors.items()):
            if any(part in name for part in ("q_proj", "k_proj", "v_proj")):
                tensors[name.replace("weight", "bias")] = (kind, shape[:1], array.array("f", [0.1] * shape[0]).tobytes())
        tiny.write_safetensors(folder / "model.safetensors", tensors)
        tiny.write_tokenizer(folder)
        tokenizer = json.loads((folder / "tokenizer.json").read_text())
        for letter in "ABCDEFGHIJKLM":  # special tokens that stand in every long answer
            tokenizer["added_tokens"].append(tokenizer["added_tokens"][0] | {"content": letter, "id": tokenizer["model"]["vocab"][letter]})
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        return folder

    @classmethod
    def words(cls, command, settings, out):
        shown = BASE[command] | settings
        if command in OUTPUT:
            shown[OUTPUT[command]] = out
        return [command] + [word for key, value in shown.items() if key[0] != "_" for word in (f"--{key}", str(value).format(**cls.places))]

    @classmethod
    def observe(cls, command, settings):
        """Everything a run with these settings shows, but for times and records of the settings."""
        with tempfile.TemporaryDirectory(dir=cls.places["work"]) as folder:
            file = command in ("trace", "tokenize", "bench")
            out = pathlib.Path(folder) / ("out" if not file else {"trace": "out.safetensors", "tokenize": "out.jsonl", "bench": "out.json"}[command])
            if "_output" in settings:
                shutil.copytree(str(settings["_output"]).format(**cls.places), out)
            done = subprocess.run([tiny.program, *cls.words(command, settings, out)], capture_output=True, text=True, timeout=120,
                                  input="say one</s>\nand two\n", env=os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_CACHE": str(cls.places["work"] / "hub")})
            lines = [line for line in (done.stdout + done.stderr).replace(folder, "").splitlines()
                     if not re.search(r"peak|MiB|tok/s|scratch|  sum |activations|µs|note: ", line)]
            lines = [re.sub(r"[A-Z][a-z]{2}\d\d_[\d-]+_.*", "DATE", line) for line in lines]  # of TensorBoard's folder
            if command == "bench":  # tables of times: what they are tables of
                lines = [re.sub(r"[-─\s\d.,%]+|[KMG]iB", " ", line) for line in lines if re.search("Training|Generation|best of", line)]
            files = [out] if file else sorted(path for path in out.rglob("*") if path.is_file() and path.name not in RECORDS and "tfevents" not in path.name
                                                      and (command, path.name) != ("train", "adapter_config.json"))
            return [done.returncode, lines, {str(path.relative_to(folder)): seen_in(path) for path in files if path.exists()}]

    def changed(self, command, name, kind, default):
        """None when the option shows; otherwise what was tried."""
        if name in READ_BY_THE_HARNESS or (command, name) in NO_MATTER:
            return None
        refused = REFUSED_INSTEAD_IN.get((command, name), REFUSED_INSTEAD.get(name))
        if refused is not None:
            seen = self.observe(command, {name: refused})
            return None if seen[0] == 2 else f"{command} --{name} {refused} is not refused: {seen[:2]}"
        value, beside = TABLES[command].get(name) or COMMON.get(name) or (another(kind, default), {})
        before = self.base_run(command, beside)
        after = self.observe(command, beside | {name: value})
        if before == after:
            return f"{command} --{name} {value} changes nothing beside {beside}: {before[:2]}"
        broken = after[0] not in (0, 2, 3, 4) or ("unknown key" in str(after[1])) or (before[0] != 0 and after[0] != 0)
        return f"{command} --{name} {value} beside {beside}: {before[:2]}, then {after[:2]}" if broken else None

    def base_run(self, command, beside):
        key = command + json.dumps(beside, sort_keys=True)
        if key not in self.base_runs:
            self.base_runs[key] = self.observe(command, beside)
        return self.base_runs[key]

    def walk(self, command):
        options = options_of(command)
        self.assertGreater(len(options), 3, command)
        self.assertLessEqual(set(TABLES[command]) - set(options), set(), f"{command} does not list these")
        with concurrent.futures.ThreadPoolExecutor(2) as pool:
            silent = list(filter(None, pool.map(lambda item: self.changed(command, item[0], *item[1]), options.items())))
        self.assertFalse(silent, "\n" + "\n".join(silent))

    def test_two_runs_show_the_same(self):
        for command in BASE:
            self.assertEqual(self.observe(command, {}), self.base_run(command, {}), command)
            self.assertEqual(self.base_run(command, {})[0], 0, self.base_run(command, {}))

    def test_options_that_a_command_does_not_read_are_named(self):
        _, text = tiny.run(*self.words("tokenize", {"learning_rate": 1, "split_special_tokens": "true"}, self.places["work"] / "t.jsonl"))
        self.assertIn("note: tokenize does not read learning_rate\n", text)


for command in BASE:
    setattr(Options, f"test_{command}", lambda self, command=command: self.walk(command))

unittest.main()
