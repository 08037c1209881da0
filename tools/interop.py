#!/usr/bin/env python3
"""Compares build/loraine with the real transformers and PEFT, on a small random model made here. Called by tools/interop.sh.
Both ways: an adapter trained by loraine loads in PEFT, one trained by PEFT loads in loraine, a merged folder loads in transformers."""
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import warnings

os.environ["HF_HUB_OFFLINE"] = "1"
warnings.simplefilter("ignore")
import peft
import torch
import transformers
from safetensors.torch import load_file, save_file

root = pathlib.Path(__file__).resolve().parent.parent
program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))
failures = 0
transformers.utils.logging.disable_progress_bar()


def loraine(*arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"loraine {arguments[0]} ended with {done.returncode}:\n{done.stderr or done.stdout}")


def check(what, figure, limit):
    global failures
    good = figure <= limit
    failures += not good
    print(f"{'ok' if good else 'FAIL':4} {what}: {figure:.3g} (limit {limit:g})", flush=True)


def load(folder):
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()


def trace(work, model, adapter, ids, *more):
    save_file({"input_ids": ids, "labels": ids.clone(), "attention_mask": torch.ones_like(ids)}, work / "in.safetensors")
    arguments = ["--adapter_name_or_path", adapter] if adapter else []
    loraine("trace", "--model_name_or_path", model, *arguments, "--batch", work / "in.safetensors", "--output", work / "out.safetensors", *more)
    return load_file(work / "out.safetensors")


methods = {  # name: (the keys that choose it, the folder of its adapter inside output_dir)
    "loraplus": ("loraplus_lr_ratio=4", ""),
    "rslora": ("use_rslora=true", ""),
    "patterns": ("rank_pattern={q_proj: 8, 'layers.1.*v_proj': 2} alpha_pattern={q_proj: 4} layers_to_transform=0,1 layers_pattern=layers exclude_modules=o_proj", ""),
    "regex": (r"lora_target=.*\.layers\.[01]\.(self_attn|mlp)\.(q_proj|up_proj)", ""),
    "gaussian": ("init_lora_weights=gaussian", ""),
    "orthogonal": ("init_lora_weights=orthogonal", ""),
    "olora": ("init_lora_weights=olora", ""),
    "pissa": ("pissa_init=true pissa_iter=-1", ""),
    "loftq": ("init_lora_weights=loftq loftq_iter=2", ""),
    "loftq in codes": ("init_lora_weights=loftq quantization_bit=4", ""),
    "loftq 8 bits": ("init_lora_weights=loftq loftq_bits=8", ""),
    "dora over loftq": ("use_dora=true init_lora_weights=loftq", ""),
    "pissa converted": ("pissa_init=true pissa_convert=true", "pissa_converted"),
    "dora": ("use_dora=true", ""),
    "dora with dropout": ("use_dora=true lora_dropout=0.1", ""),
    "dora over pissa": ("use_dora=true pissa_init=true pissa_iter=-1", ""),
    "adalora": ("use_adalora=true init_r=6 target_r=3 tinit=2 tfinal=4 deltaT=2", ""),
    "neftune": ("neftune_noise_alpha=5", ""),
}


def loftq_on_cpu():
    """PEFT's LoftQ moves every weight to "cuda", whatever there is; the CPU's bitsandbytes computes the same."""
    if torch.cuda.is_available():
        return
    move = torch.Tensor.to
    here = lambda place: "cpu" if str(place).startswith("cuda") else place
    torch.Tensor.to = lambda self, *places, **named: move(self, *map(here, places), **{key: here(value) for key, value in named.items()})


def check_loftq_start(work, base, ids, arguments):
    """LoftQ's base and adapter as folders of their own: what PEFT makes of them is what it starts from itself."""
    out = work / "loftq_base"
    loraine("export", "--model_name_or_path", base, "--export_dir", out, "--init_lora_weights", "loftq", "--lora_rank", 4, "--lora_alpha", 4, "--loftq_iter", 2)
    theirs = peft.PeftModel.from_pretrained(load(out), out / "loftq_init").eval()
    settings = peft.LoraConfig(r=4, lora_alpha=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights="loftq",
                               loftq_config=peft.LoftQConfig(loftq_bits=4, loftq_iter=2))
    started = peft.get_peft_model(load(base), settings).eval()
    with torch.no_grad():
        check("loftq_init over its base, in PEFT: logits of PEFT's own start", (theirs(ids).logits - started(ids).logits).abs().max().item(), 1e-4)
    codes = ["--quantization_bit", 4, "--double_quantization", "false"]  # which hold LoftQ's base as it is
    loraine("train", *arguments, "--model_name_or_path", out, "--adapter_name_or_path", out / "loftq_init", *codes, "--output_dir", work / "loftq_trained")
    theirs = peft.PeftModel.from_pretrained(load(out), work / "loftq_trained").eval()
    with torch.no_grad():
        check("  trained over its codes: logits in PEFT", (trace(work, out, work / "loftq_trained", ids, *codes)["logits"] - theirs(ids).logits).abs().max().item(), 1e-4)


def check_methods(work, base, ids, arguments, names=methods):
    """Each method trains, and PEFT, the program and the merged model give the same logits with its adapter."""
    for name in names:
        keys, inside = methods[name]
        out = work / base.name / name.replace(" ", "_")
        words = [word for word in re.split(r" (?=\w+=)", keys)]
        loraine("train", *words, *arguments, "--model_name_or_path", base, "--output_dir", out)
        theirs = peft.PeftModel.from_pretrained(load(base), out / inside).eval()
        ours = trace(work, base, out / inside, ids)["logits"]
        loraine("export", "--model_name_or_path", base, "--adapter_name_or_path", out / inside, "--export_dir", out / "merged")
        with torch.no_grad():
            logits, moved = theirs(ids).logits, (ours - load(base)(ids).logits).abs().max().item()
            check(f"{name}: logits in PEFT", (ours - logits).abs().max().item(), 1e-4)
            check(f"{name}: merged", (load(out / "merged")(ids).logits - logits).abs().max().item(), 1e-4)
        check("  and it does move the logits (1 / largest change)", 1 / max(moved, 1e-9), 1e3)


def check_quantised(work, config, ids):
    """A base in 4 and 8 bits: the same tensors in the files that the two write, and the same logits with the dequantised weights."""
    config = transformers.LlamaConfig(**config.to_dict() | dict(intermediate_size=192))  # whole blocks in every row
    base = work / "to_quantise"
    transformers.LlamaForCausalLM(config).save_pretrained(base)
    four = dict(load_in_4bit=True, bnb_4bit_compute_dtype=torch.float32)
    kinds = {
        "nf4": (dict(four, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True), ["--quantization_bit", 4]),
        "fp4, plain scales": (dict(four, bnb_4bit_quant_type="fp4"), ["--quantization_bit", 4, "--quantization_type", "fp4", "--double_quantization", "false"]),
        "8 bits": (dict(load_in_8bit=True), ["--quantization_bit", 8]),
    }
    for name, (settings, words) in kinds.items():
        theirs, ours = work / f"theirs {name}", work / f"ours {name}"
        quantised = transformers.AutoModelForCausalLM.from_pretrained(
            base, dtype=torch.float32, device_map="cpu", quantization_config=transformers.BitsAndBytesConfig(**settings))
        quantised.save_pretrained(theirs)
        loraine("export", "--model_name_or_path", base, "--export_dir", ours, *words)
        one, other = load_file(theirs / "model.safetensors"), load_file(ours / "model.safetensors")
        same = one.keys() == other.keys() and all(torch.equal(one[key].reshape(-1), other[key].reshape(-1)) for key in one if "quant_state" not in key)
        check(f"{name}: tensors that differ in the two files", 0 if same else 1, 0)
        for folder in (theirs, ours):
            model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, device_map="cpu", attn_implementation="eager").dequantize().eval()
            with torch.no_grad():
                check(f"{name}: logits of {folder.name.split()[0]} file", (trace(work, folder, None, ids)["logits"] - model(ids).logits).abs().max().item(), 1e-4)


def main(work):
    torch.manual_seed(7)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")
    config = transformers.LlamaConfig(
        vocab_size=200, hidden_size=64, intermediate_size=160, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2,
        max_position_embeddings=256, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.1, tie_word_embeddings=True,
    )
    base = work / "base"
    transformers.LlamaForCausalLM(config).save_pretrained(base)
    ids = torch.randint(3, 200, (3, 20))
    with torch.no_grad():
        check("base logits", (trace(work, base, None, ids)["logits"] - load(base)(ids).logits).abs().max().item(), 1e-4)

    data = work / "data"
    data.mkdir()
    rows = [torch.randint(3, 200, (18,)).tolist() for _ in range(24)]
    (data / "rows.jsonl").write_text("".join(json.dumps({"input_ids": row, "labels": [-100] * 4 + row[4:]}) + "\n" for row in rows))
    (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
    loraine(
        "train", "--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", "--model_name_or_path", base, "--dataset", "rows",
        "--dataset_dir", data, "--output_dir", work / "trained", "--lora_target", "all", "--lora_rank", 4, "--learning_rate", "1e-2",
        "--per_device_train_batch_size", 4, "--num_train_epochs", 3, "--logging_steps", 1,
    )
    theirs = peft.PeftModel.from_pretrained(load(base), work / "trained").eval()
    ours = trace(work, base, work / "trained", ids)
    with torch.no_grad():
        moved = (theirs(ids).logits - load(base)(ids).logits).abs().max().item()
        check("adapter trained by loraine, loaded by PEFT: logits", (ours["logits"] - theirs(ids).logits).abs().max().item(), 1e-4)
    check("  and it does move the logits (1 / largest change)", 1 / max(moved, 1e-9), 1e3)

    common = ["--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", "--dataset", "rows", "--dataset_dir", data, "--lora_rank", 4,
              "--learning_rate", "1e-2", "--per_device_train_batch_size", 4, "--num_train_epochs", 3, "--logging_steps", 1]
    loftq_on_cpu()
    check_methods(work, base, ids, common)
    check_loftq_start(work, base, ids, common)
    biased = work / "with_biases"
    with_biases = transformers.Qwen2ForCausalLM(transformers.Qwen2Config(**config.to_dict() | dict(model_type="qwen2", architectures=None)))
    for name, parameter in with_biases.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.2)
    with_biases.save_pretrained(biased)
    print("a base with biases (qwen2)")
    check_methods(work, biased, ids, common, ["dora", "dora with dropout", "dora over pissa", "olora", "adalora"])

    check_quantised(work, config, ids)

    model = peft.get_peft_model(load(base), peft.LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj", "down_proj"], task_type="CAUSAL_LM"))
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for step in range(20):
        batch = torch.tensor(rows[(4 * step) % 24 : (4 * step) % 24 + 4])
        model(batch, labels=batch).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    model.eval().save_pretrained(work / "by_peft")
    ours = trace(work, base, work / "by_peft", ids)
    with torch.no_grad():
        check("adapter trained by PEFT, loaded by loraine: logits", (ours["logits"] - model(ids).logits).abs().max().item(), 1e-4)

    loraine("export", "--model_name_or_path", base, "--adapter_name_or_path", work / "trained", "--export_dir", work / "merged", "--export_size", 1)
    merged, prompt = load(work / "merged"), ids[:1, :8]
    ours = trace(work, base, work / "trained", prompt, "--max_new_tokens", 16)["generated_ids"][0]
    with torch.no_grad():
        generated = merged.generate(prompt, attention_mask=torch.ones_like(prompt), max_new_tokens=16, do_sample=False)[0, 8:]
    ours = [token for token in ours.tolist() if token >= 0]
    generated = generated.tolist()
    if len(generated) == len(ours) + 1 and generated[-1] == config.eos_token_id:
        generated.pop()
    check("merged folder in transformers: greedy tokens that differ", sum(a != b for a, b in zip(ours, generated)) + abs(len(ours) - len(generated)), 0)
    return failures


with tempfile.TemporaryDirectory() as folder:
    sys.exit(1 if main(pathlib.Path(folder)) else 0)
