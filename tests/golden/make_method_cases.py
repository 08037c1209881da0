#!/usr/bin/env python3
"""Records what PEFT computes with its methods beside LoRA, for tools/golden_methods.py. Run by hand: needs torch, transformers, peft, bitsandbytes, and
the recorded cases of make_cases.py.

usage: make_method_cases.py tests/golden/peft [NAME...]       float32, CPU, one thread, eager attention
A case: base.txt (the case whose model and batches it is for, and how that is quantised), adapter/, out.safetensors (logits, loss, gradients), merged.safetensors
(what a merge changes; not over a quantised base), init/, train.json (12 steps; step s uses batch s mod 3), final/.
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
from peft.tuners.c3a.utils import BlockCircularConvolution
from peft_run import train
from safetensors.torch import load_file, save_file
from torch.fft import fft, ifft

transformers.logging.set_verbosity_error()


class DiagonalBlocks:
    """What PEFT's kernel for BOFT's blocks computes, which it compiles where there is CUDA; without it PEFT leaves out all butterfly factors but the first."""

    def forward(self, blocks):
        return [torch.stack([torch.block_diag(*factor) for factor in blocks])]

    def backward(self, gradient, blocks):
        size = blocks.shape[-1]
        return [torch.stack([gradient[:, i * size : (i + 1) * size, i * size : (i + 1) * size] for i in range(blocks.shape[1])], 1)]


def products(x, w):
    """PEFT's forward of C3A's products, with torch's own gradient: up to 0.21 the gradient of x that PEFT wrote by hand is that of another function."""
    x = x.reshape(*x.shape[:-1], *w.shape[1:])
    return fft(torch.einsum("...nb,mnb->...mb", ifft(x), fft(w))).real.flatten(-2)


BlockCircularConvolution.apply = products
whole = dict(target_modules="all-linear")
cases = {  # the base, its bits, PEFT's config, how far the adapter is from its start
    "ia3": ("qwen2", 0, lambda: peft.IA3Config(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"]), 0.3),
    "ia3_inputs": ("llama3", 0, lambda: peft.IA3Config(target_modules=["q_proj", "k_proj", "v_proj", "gate_proj", "up_proj"], feedforward_modules=["gate_proj", "up_proj"]), 0.3),
    "oft": ("llama3", 0, lambda: peft.OFTConfig(oft_block_size=8, module_dropout=0.1, **whole), 0.2),
    "oft_exact": ("qwen2", 0, lambda: peft.OFTConfig(r=3, oft_block_size=0, use_cayley_neumann=False, **whole), 0.2),
    "oft_shared": ("llama3", 0, lambda: peft.OFTConfig(oft_block_size=9, block_share=True, num_cayley_neumann_terms=3, target_modules=["q_proj", "v_proj", "down_proj"]), 0.2),
    "oft_bias": ("qwen2", 0, lambda: peft.OFTConfig(oft_block_size=4, bias="oft_only", num_cayley_neumann_terms=7, target_modules=["q_proj", "k_proj"]), 0.2),
    "oft_constrained": ("llama3", 0, lambda: peft.OFTConfig(oft_block_size=8, coft=True, eps=0.5, **whole), 0.2),
    "oft_nf4": ("in_64", 4, lambda: peft.OFTConfig(oft_block_size=8, **whole), 0.2),
    "vera": ("llama3", 0, lambda: peft.VeraConfig(r=6, d_initial=0.1, **whole), 0.2),
    "loha": ("llama3", 0, lambda: peft.LoHaConfig(r=3, alpha=5, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"], rank_pattern={"down_proj": 2}), 0.2),
    "lokr": ("llama3", 0, lambda: peft.LoKrConfig(r=2, alpha=4, target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "down_proj"]), 0.2),
    "gralora": ("llama3", 0, lambda: peft.GraloraConfig(r=4, alpha=6, gralora_k=2, **whole), 0.2),
    "gralora_hybrid": ("qwen2", 0, lambda: peft.GraloraConfig(r=8, alpha=16, gralora_k=4, hybrid_r=3, bias="gralora_only", target_modules=["q_proj", "k_proj", "gate_proj", "down_proj"]), 0.2),
    "randlora": ("llama3", 0, lambda: peft.RandLoraConfig(r=5, randlora_alpha=10, **whole), 0.02),
    "randlora_sparse": ("qwen2", 0, lambda: peft.RandLoraConfig(r=6, randlora_alpha=6, sparse=True, projection_prng_key=3, target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]), 0.02),
    "fourierft": ("llama3", 0, lambda: peft.FourierFTConfig(n_frequency=40, scaling=20.0, init_weights=True, **whole), 0.5),
    "fourierft_pattern": ("qwen2", 0, lambda: peft.FourierFTConfig(n_frequency=30, n_frequency_pattern={"k_proj": 12, "down.*": 50}, random_loc_seed=5, scaling=20.0, init_weights=True,
                                                                   target_modules=["q_proj", "k_proj", "down_proj"]), 0.5),
    "boft": ("llama3", 0, lambda: peft.BOFTConfig(boft_block_size=8, **whole), 0.2),
    "boft_butterfly": ("qwen2", 0, lambda: peft.BOFTConfig(boft_block_size=2, boft_n_butterfly_factor=3, bias="boft_only", target_modules=["q_proj", "v_proj", "up_proj", "down_proj"]), 0.2),
    "lokr_both": ("qwen2", 0, lambda: peft.LoKrConfig(r=1, alpha=2, decompose_both=True, decompose_factor=4, target_modules=["q_proj", "k_proj", "up_proj", "down_proj"]), 0.2),
    "miss": ("llama3", 0, lambda: peft.MissConfig(r=5, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]), 0.2),
    "miss_bat": ("qwen2", 0, lambda: peft.MissConfig(r=4, init_weights="bat", target_modules=["q_proj", "v_proj", "o_proj", "up_proj", "down_proj"]), 0.1),
    "miss_mini": ("qwen2", 0, lambda: peft.MissConfig(r=6, mini_r=4, init_weights="mini", bias="MiSS_only", target_modules=["q_proj", "k_proj", "v_proj", "down_proj"]), 0.2),
    "miss_nf4": ("in_64", 4, lambda: peft.MissConfig(r=16, init_weights="bat", target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]), 0.1),
    "c3a": ("llama3", 0, lambda: peft.C3AConfig(block_size=8, block_size_pattern={"o_proj": 2, "mlp.down_proj": 4}, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]), 0.5),
    "c3a_zero": ("qwen2", 0, lambda: peft.C3AConfig(block_size=4, block_size_pattern={"q_proj": 12, "1.self_attn.v_proj": 6}, init_weights=True, bias="c3a_only", target_modules=["q_proj", "v_proj", "down_proj"]), 0.5),
    "hira": ("llama3", 0, lambda: peft.HiraConfig(r=3, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]), 0.3),
    "hira_gaussian": ("qwen2", 0, lambda: peft.HiraConfig(r=4, init_weights="gaussian", target_modules=["q_proj", "v_proj", "down_proj"]), 0.3),
    "hira_nf4": ("in_64", 4, lambda: peft.HiraConfig(r=4, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "up_proj", "down_proj"]), 0.3),
    "shira": ("llama3", 0, lambda: peft.ShiraConfig(r=2, target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]), 0.2),
    "shira_seed": ("qwen2", 0, lambda: peft.ShiraConfig(r=1, random_seed=11, target_modules=["q_proj", "v_proj", "down_proj"]), 0.2),
}


def open_model(folder, bits):
    more = {}
    if bits:
        more["quantization_config"] = transformers.BitsAndBytesConfig(load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True, bnb_4bit_compute_dtype=torch.float32)
    return transformers.AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **more)


def with_butterflies():
    peft.tuners.boft.layer._FBD_CUDA = DiagonalBlocks()


def make_base(top):
    """A model whose rows are multiples of 64: bitsandbytes computes others otherwise on CPUs with AVX-512."""
    torch.manual_seed(3)
    config = transformers.LlamaConfig(vocab_size=96, hidden_size=64, intermediate_size=128, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=1,
                                      max_position_embeddings=128, bos_token_id=1, eos_token_id=2, pad_token_id=0, initializer_range=0.1, tie_word_embeddings=True)
    transformers.AutoModelForCausalLM.from_config(config).float().save_pretrained(top / "in_64/model")
    shutil.copyfile(top / "llama3/batches.safetensors", top / "in_64/batches.safetensors")


def without_repetitions(folder):
    """Leaves out the bases of RandLoRA that PEFT writes once more for every module: the cases stay small, and are compared tensor by tensor."""
    file = folder / "adapter_model.safetensors"
    save_file({name: tensor for name, tensor in load_file(file).items() if not (name.startswith("base_model.model.") and name.endswith(("randlora_A", "randlora_B")))}, file, {"format": "pt"})


def near(tensor, size, seed):
    return tensor + size * torch.randn(tensor.shape, generator=torch.Generator().manual_seed(seed))


def record(top, name, base, bits, config, size):
    case, model = top / "methods" / name, top / base / "model"
    shutil.rmtree(case, ignore_errors=True)
    case.mkdir(parents=True)
    stored = load_file(top / base / "batches.safetensors")
    batches = [{key: stored[f"{key}{i}"] for key in ("input_ids", "labels", "attention_mask")} for i in range(3)]
    settings = lambda: setattr(made := config(), "task_type", "CAUSAL_LM") or made
    torch.manual_seed(5)
    adapted = peft.get_peft_model(open_model(model, bits), settings()).eval()
    with torch.no_grad():
        for seed, (at, parameter) in enumerate(adapted.named_parameters()):
            if parameter.requires_grad:
                parameter.copy_(near(parameter, size, seed))
    adapted.save_pretrained(case / "adapter")
    output = adapted(**batches[0])
    output.loss.backward()
    gradients = {"grad." + n.replace(".default", ""): p.grad.contiguous() for n, p in adapted.named_parameters() if p.grad is not None}
    save_file({**batches[0], "logits": output.logits.detach().contiguous(), "loss": output.loss.detach().reshape(1), **gradients}, case / "out.safetensors")
    if not bits:
        before = load_file(model / "model.safetensors")
        after = {n: t.detach().contiguous() for n, t in adapted.merge_and_unload().state_dict().items()}
        save_file({n: t for n, t in after.items() if n in before and not torch.equal(t, before[n])}, case / "merged.safetensors")

    torch.manual_seed(6)
    adapted = peft.get_peft_model(open_model(model, bits), settings()).train()
    adapted.save_pretrained(case / "init")
    log = train(adapted, batches, 12)
    adapted.save_pretrained(case / "final")
    for folder in (case / "init", case / "final"):
        without_repetitions(folder)
    (case / "train.json").write_text(json.dumps({"log": log}, indent=0))
    (case / "base.txt").write_text(f"{base} {bits}\n")
    for card in case.rglob("README.md"):
        card.unlink()
    for settings in case.rglob("adapter_config.json"):  # no path of the machine that recorded it
        text = json.loads(settings.read_text())
        text["base_model_name_or_path"] = f"{base}/model"
        text["target_modules"] = sorted(text["target_modules"])
        settings.write_text(json.dumps(text, indent=2, sort_keys=True) + "\n")
    print(name)


def main():
    top = pathlib.Path(sys.argv[1])
    torch.set_num_threads(1)
    with_butterflies()
    if not (top / "in_64").exists():
        make_base(top)
    for name, case in cases.items():
        if not sys.argv[2:] or name in sys.argv[2:]:
            record(top, name, *case)
    versions = {"torch": torch.__version__, "transformers": transformers.__version__, "peft": peft.__version__}
    (top / "methods/versions.json").write_text(json.dumps(versions) + "\n")


main()
