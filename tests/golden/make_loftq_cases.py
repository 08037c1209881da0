#!/usr/bin/env python3
"""Records runs of PEFT from LoftQ's start, for tools/golden_variants.py and adapters/loftq_test.cpp. Run by hand: needs torch, transformers, peft and
bitsandbytes.

usage: make_loftq_cases.py OUT_DIR [SEED]        float32, CPU without AVX-512 (rows are no multiples of 64), one thread; OUT_DIR/llama as make_cases.py made it
Per case: init/, base_after.safetensors (what the base became), train.json (20 steps; step s uses batch s mod 3), final/, out.safetensors.
"""
import json
import os
import pathlib
import sys

os.environ["HF_HUB_OFFLINE"] = "1"
import bitsandbytes
import peft
import torch
import transformers
from peft_run import train
from safetensors.torch import load_file, save_file

cases = {  # bits, iterations, alpha: PEFT leaves alpha / r in the product, and two of them do not have alpha = r
    "loftq": (4, 1, 4), "loftq_twice": (4, 2, 8), "loftq_8bit": (8, 1, 8),
}


def compute_on_cpu():
    """PEFT's LoftQ moves every weight to "cuda", whatever there is. The CPU's bitsandbytes computes the same."""
    move = torch.Tensor.to
    here = lambda place: "cpu" if str(place).startswith("cuda") else place
    torch.Tensor.to = lambda self, *places, **named: move(self, *map(here, places), **{key: here(value) for key, value in named.items()})


def record(folder, base, batches, seed, bits, iterations, alpha):
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_pretrained(base, attn_implementation="eager", dtype=torch.float32)
    settings = peft.LoraConfig(r=4, lora_alpha=alpha, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights="loftq",
                               loftq_config=peft.LoftQConfig(loftq_bits=bits, loftq_iter=iterations))
    model = peft.get_peft_model(model, settings).train()
    model.save_pretrained(folder / "init")
    after = {name: tensor.clone() for name, tensor in model.get_base_model().state_dict().items() if name.endswith("base_layer.weight")}
    save_file(after, folder / "base_after.safetensors")
    log = train(model, batches, 20)
    model.save_pretrained(folder / "final")
    (folder / "train.json").write_text(json.dumps({"log": log}, indent=0))
    with torch.no_grad():
        logits = model.eval()(**batches[0]).logits
        merged = model.merge_and_unload()(**batches[0]).logits
    given = {f"{key}{i}": value for i, batch in enumerate(batches) for key, value in batch.items()}
    save_file({**given, "logits": logits.contiguous(), "merged_logits": merged.contiguous()}, folder / "out.safetensors")


def main():
    out, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 11
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    compute_on_cpu()
    stored = load_file(out / "llama/batches.safetensors")
    batches = [{key: stored[f"{key}{i}"] for key in ("input_ids", "labels", "attention_mask")} for i in range(3)]
    for name, (bits, iterations, alpha) in cases.items():
        folder = out / "variants" / name
        folder.mkdir(parents=True)
        record(folder, out / "llama/model", batches, seed, bits, iterations, alpha)
        for card in folder.rglob("README.md"):
            card.unlink()
        for settings in folder.rglob("adapter_config.json"):  # no path of the machine that recorded it
            text = json.loads(settings.read_text())
            text["base_model_name_or_path"] = "llama/model"
            text["target_modules"] = sorted(text["target_modules"])
            settings.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
        print(name)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__,
                "bitsandbytes": bitsandbytes.__version__, "seed": seed}
    (out / "variants/versions.json").write_text(json.dumps(versions) + "\n")


main()
