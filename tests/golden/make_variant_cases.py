#!/usr/bin/env python3
"""Records runs of PEFT with what goes beyond plain LoRA, for tools/golden_variants.py. Run by hand: needs torch, transformers, peft.

usage: make_variant_cases.py OUT_DIR [NAME...]        float32, CPU, one thread; OUT_DIR/<base> as make_cases.py made it
Per case: init/ (not of starts out of the data), train.json (steps; step s uses batch s mod 3), final/, out.safetensors (the batches, logits of batch 0 of
the trained model, merged_logits where PEFT merges it). Starts out of the data are trained over the changed base, and final/ is for the base as it was.
"""
import json
import os
import pathlib
import shutil
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import transformers
from peft.optimizers import lorafa
from peft.tuners.lora.corda import preprocess_corda
from peft.tuners.lora.eva import initialize_lora_eva_weights
from peft.tuners.lora.loraga import preprocess_loraga
from peft_run import train
from safetensors.torch import load_file, save_file

layers = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]  # preprocess_corda and preprocess_loraga know no "all-linear"
cases = {  # base, steps, PEFT's config
    "lora_bias": ("qwen2", 12, dict(target_modules=["q_proj", "k_proj", "v_proj"], lora_bias=True)),
    "tokens": ("llama", 12, dict(target_modules=["q_proj", "v_proj"], trainable_token_indices=[48, 21, 5])),
    "tokens_both_tied": ("llama3", 12, dict(target_modules=["q_proj"], trainable_token_indices={"embed_tokens": [48, 13, 80]})),
    "lorafa": ("llama", 12, dict(target_modules=layers, use_rslora=True)),
    "eva": ("llama", 12, dict(target_modules=layers, init_lora_weights="eva", eva_config=peft.EvaConfig(rho=2.0, tau=0.99))),
    # one layer of each input: of those that share one PEFT divides the same directions several times
    "eva_whitened": ("llama", 12, dict(target_modules=["q_proj", "o_proj", "gate_proj", "down_proj"], init_lora_weights="eva", eva_config=peft.EvaConfig(
        rho=1.5, tau=0.95, use_label_mask=False, whiten=True, adjust_scaling_factors=False))),
    "corda": ("llama", 12, dict(target_modules=layers, init_lora_weights="corda", corda_config=peft.tuners.lora.config.CordaConfig(corda_method="ipm"))),
    "corda_kpm": ("llama", 12, dict(target_modules=layers, init_lora_weights="corda", corda_config=peft.tuners.lora.config.CordaConfig(corda_method="kpm"))),
    "lora_ga": ("llama", 12, dict(target_modules=layers, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig())),
    "lora_ga_svd": ("llama", 12, dict(target_modules=layers, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig(direction="ArBr", scale="weight_svd"))),
    "lora_ga_gd": ("llama", 12, dict(target_modules=layers, init_lora_weights="lora_ga", lora_ga_config=peft.LoraGAConfig(direction="A2rBr", scale="gd_scale"))),
    "alora": ("llama", 12, dict(target_modules=layers, alora_invocation_tokens=None)),
}


def open_model(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)


def without_padding(batch):
    """Its rows one by one"""
    for row in range(len(batch["input_ids"])):
        yield {key: value[row : row + 1, : int(batch["attention_mask"][row].sum())] for key, value in batch.items()}


def exact_singular(matrix, q, niter):
    """In the place of a search at random, whose signs are chance: the largest element of each right vector is positive"""
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    signs = torch.sign(vh.gather(1, vh.abs().argmax(1, keepdim=True)))
    u, vh = u * signs.T, vh * signs
    return u[:, :q], s[:q], vh[:q].T


def adapted_model(folder, settings, batches):
    model = open_model(folder)
    config = peft.LoraConfig(r=2, lora_alpha=4, task_type="CAUSAL_LM", **settings)
    start = settings.get("init_lora_weights")
    if start == "corda":
        preprocess_corda(model, config, run_model=lambda: [model(**row) for batch in batches for row in without_padding(batch)])
    if start == "lora_ga":
        torch.svd_lowrank = exact_singular
        preprocess_loraga(model, config, train_step=lambda: [model(**batch).loss.backward() for batch in batches])
    model = peft.get_peft_model(model, config)
    if start == "eva":
        initialize_lora_eva_weights(model, batches, show_progress_bar=False)
    return model


def record(folder, base, batches, steps, settings, name):
    torch.manual_seed(7)
    model = adapted_model(base, settings, batches)
    from_data = "init_lora_weights" in settings
    changed = from_data and settings["init_lora_weights"] != "eva"
    start = folder / "start"
    if changed:
        model.peft_config["default"].init_lora_weights = True
    model.save_pretrained(start if from_data else folder / "init")
    model.train()
    optimizer = None
    if name == "lorafa":
        lorafa.is_bf16_available = lambda: False  # else it multiplies in bf16
        optimizer = lorafa.create_lorafa_optimizer(model, r=2, lora_alpha=4, lr=2e-3, weight_decay=0.01)
    log = train(model, batches, steps, optimizer)
    with torch.no_grad():
        logits = model.eval()(**batches[0]).logits
    if changed:
        model.peft_config["default"].init_lora_weights = settings["init_lora_weights"]
        model.save_pretrained(folder / "final", path_initial_model_for_weight_conversion=start)
    else:
        model.save_pretrained(folder / "final")
    shutil.rmtree(start, ignore_errors=True)
    (folder / "train.json").write_text(json.dumps({"log": log}, indent=0))
    out = {f"{key}{i}": value for i, batch in enumerate(batches) for key, value in batch.items()} | {"logits": logits.contiguous()}
    if name != "alora":
        with torch.no_grad():
            out["merged_logits"] = model.merge_and_unload()(**batches[0]).logits.contiguous()
    save_file(out, folder / "out.safetensors")


def main():
    out, names = pathlib.Path(sys.argv[1]), sys.argv[2:] or list(cases)
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    for name in names:
        base, steps, settings = cases[name]
        stored = load_file(out / base / "batches.safetensors")
        batches = [{key: stored[f"{key}{i}"] for key in ("input_ids", "labels", "attention_mask")} for i in range(3)]
        if name == "alora":  # once in two of the rows, twice in one of them; the third runs the base alone
            settings["alora_invocation_tokens"] = [7, 9]
            for batch in batches:
                batch["input_ids"][0, 4:6] = torch.tensor([7, 9])
                batch["input_ids"][1, 1:3] = torch.tensor([7, 9])
                batch["input_ids"][1, 5:7] = torch.tensor([7, 9])
        folder = out / "variants" / name
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        record(folder, out / base / "model", batches, steps, settings, name)
        for card in folder.rglob("README.md"):
            card.unlink()
        for settings_file in folder.rglob("adapter_config.json"):  # no path of the machine that recorded it
            text = json.loads(settings_file.read_text())
            text["base_model_name_or_path"] = f"{base}/model"
            text["target_modules"] = sorted(text["target_modules"])
            settings_file.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
        (folder / "versions.json").write_text(json.dumps({"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}) + "\n")
        print(name)


main()
