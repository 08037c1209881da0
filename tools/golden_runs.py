"""Whole runs of LLaMA-Factory, from their own YAML: losses, gradient norms, learning rates, evaluations, what is saved. Called by golden.py.
A case: runs/NAME with train.yaml, data/ and output/; its base is the folder that the YAML names."""
import collections
import json
import math
import pathlib
import shutil

from golden_files import apart, loraine, read_tensors

# Runs of methods that loraine builds; a folder that is not named here is not run.
names = [
    "sft_lora", "sft_lora_qwen3", "sft_lora_two_targets", "sft_lora_two_adapters", "sft_lora_accumulation", "sft_lora_batch_accumulation",
    "sft_rslora", "sft_shuffled", "sft_evaluation", "sft_val_size", "sft_early_stopping", "sft_train_on_prompt", "sft_multiturn_mask_history",
    "sft_additional_target", "sft_label_smoothing", "sft_freeze", "sft_full", "sft_full_qwen3", "pt_lora", "pt_full_unpacked",
    "sft_oft", "sft_loraplus", "sft_dora", "sft_pissa", "sft_dft", "sft_eaft", "sft_asft", "sft_packing", "sft_neat_packing",
    "sft_resume",
    "dpo", "dpo_smoothing_ftx", "dpo_full", "dpo_ld_bco", "orpo", "simpo", "kto", "kto_weights_accumulation", "rm",
]
free_signs = ["sft_pissa"]  # of singular vectors: the factors cannot be compared
# Files of torch and of transformers' own that loraine replaces (docs/cli.md, "Files of a run").
others = ("optimizer.pt", "scheduler.pt", "rng_state.pth", "training_args.bin")


def cases(top):
    return sorted(path.parent for path in top.rglob("train.yaml") if path.parent.name in names and (path.parent / "output").is_dir())


def left(top):
    """Runs of what is not built, by their number."""
    not_run = {path.parent.name for path in top.rglob("train.yaml") if (path.parent / "output").is_dir()} - set(names)
    return collections.Counter({f"whole runs of what is not built: {', '.join(sorted(not_run))}": len(not_run)} if not_run else {})


# Figures of preferences. logits/* are not among them: LLaMA-Factory's count prompts and padding (docs/differences.md).
preferences = ("rewards/", "logps/", "sft_loss", "odds_ratio_loss", "kl")


def compare_preferences(ours, theirs, begin=""):
    """Yields how far each recorded figure of a log entry is apart: to its size, or to 0.1 where it is smaller (a margin of pairs that are alike)."""
    for name, value in theirs.items():
        if not name.startswith(tuple(begin + part for part in preferences)):
            continue
        yield "preferences", abs(ours[name] - value) / max(abs(value), 0.1)


def relative(ours, theirs):
    return abs(ours - theirs) / max(abs(theirs), 1e-12)


def run_case(case, work):
    """Yields (kind, figure)."""
    here = work / "runs" / case.name
    here.mkdir(parents=True)
    yaml = (case / "train.yaml").read_text()
    for part in case.iterdir():
        if part.is_dir() and part.name != "output":
            shutil.copytree(part, here / part.name)
    for model in ("tiny_llama", "tiny_qwen3"):
        (work / model).symlink_to(case.parent.parent / model)
    (here / "train.yaml").write_text(yaml)
    if (case / "output/checkpoint-5/optimizer.pt").exists():  # what it was stopped with, and gone on from
        shutil.copytree(case / "output/checkpoint-5", here / "output/checkpoint-5")
    loraine("train", "train.yaml", cwd=here)

    ours, theirs = (json.loads((folder / "output/trainer_state.json").read_text())["log_history"] for folder in (here, case))
    steps, recorded = ([entry for entry in log if "loss" in entry] for log in (ours, theirs))
    if len(steps) != len(recorded):
        raise RuntimeError(f"{len(steps)} losses logged, {len(recorded)} recorded")
    for step, entry in zip(steps, recorded):
        yield "run losses", relative(step["loss"], entry["loss"])
        yield "gradient norms", relative(step["grad_norm"], entry["grad_norm"])
        yield "learning rates", relative(step["learning_rate"], entry["learning_rate"])
        yield from compare_preferences(step, entry)
    evaluations, recorded = ([entry for entry in log if "eval_loss" in entry] for log in (ours, theirs))
    if len(evaluations) != len(recorded):
        raise RuntimeError(f"{len(evaluations)} evaluations logged, {len(recorded)} recorded")
    for evaluation, entry in zip(evaluations, recorded):
        yield "run losses", relative(evaluation["eval_loss"], entry["eval_loss"])
        yield from compare_preferences(evaluation, entry, "eval_")
        if "eval_accuracy" in entry:
            yield "run losses", abs(evaluation["eval_accuracy"] - entry["eval_accuracy"])
    results, wanted = (json.loads((folder / "output/all_results.json").read_text()) for folder in (here, case))
    for key, value in wanted.items():
        if key not in results:
            raise RuntimeError(f"all_results.json has no {key}")
        if key == "total_flos" and value == 0:  # LLaMA-Factory counts none for reward models
            continue
        if "rewards/" in key or "logits/" in key:
            continue  # compared above, with the log
        if "runtime" not in key and "per_second" not in key:
            yield "results", 0 if value is None else relative(results[key], value)

    for name in ("adapter_model.safetensors", "model.safetensors", "value_head.safetensors"):
        if not (case / "output" / name).exists():
            continue
        final, recorded = read_tensors(here / "output" / name), read_tensors(case / "output" / name)
        if final.keys() != recorded.keys():
            raise RuntimeError(f"{name}: {sorted(final.keys() ^ recorded.keys())[:3]} are on one side only")
        recorded.pop("v_head.summary.bias", None)  # falls out of every difference of scores: there it moves by rounding alone
        for tensor in recorded if case.name not in free_signs else ():
            yield "final adapter", apart(final[tensor], recorded[tensor], False)
    for name in ("config.json", "generation_config.json", "adapter_config.json"):
        if not (case / "output" / name).exists():
            continue
        found, recorded = (json.loads((folder / "output" / name).read_text()) for folder in (here, case))
        for key in recorded:
            same = set(found[key]) == set(recorded[key]) if key in ("target_modules", "modules_to_save") and recorded[key] else found.get(key) == recorded[key]
            if key != "transformers_version" and not same:
                raise RuntimeError(f"{name}: {key} is {found.get(key)}, recorded {recorded[key]}")
    for line in (case / "output_files.txt").read_text().splitlines():
        name = line.split("\t")[1]
        given = (case / "output" / pathlib.Path(name).parent / "optimizer.pt").exists()  # a checkpoint that the run went on from
        if pathlib.Path(name).name not in others and not given and not (here / "output" / name).exists():
            raise RuntimeError(f"there is no {name}")
    if not all(math.isfinite(entry["loss"]) for entry in steps):
        raise RuntimeError("a loss is not finite")
