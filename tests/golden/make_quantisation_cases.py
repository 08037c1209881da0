#!/usr/bin/env python3
"""Records what bitsandbytes quantises small weights to, for model/bitsandbytes_golden_test.cpp. Run by hand: needs torch and bitsandbytes.

usage: make_quantisation_cases.py OUT_DIR [SEED]        CPU, one thread
Per weight NAME.weight: NAME.<nf4 or fp4>[.nested].codes, .absmax, .dequantised, and nested .nested_absmax, .nested_code, .offset; NAME.int8.codes, .scale.
"""
import json
import pathlib
import sys

import bitsandbytes
import bitsandbytes.functional as functional
import torch
from safetensors.torch import save_file


def weights():
    yield "plain", torch.randn(12, 128) * 0.02  # whole blocks in a row: with 96 columns its AVX-512 kernel takes the wrong scales
    yield "ragged", torch.randn(7, 50)
    yield "bf16", (torch.randn(5, 128) * 0.1).bfloat16()
    yield "f16", (torch.randn(3, 192) * 0.003).half()
    yield "one_large", torch.randn(4, 64) * torch.tensor([1.0, 1e-6, 40.0, 3e4]).unsqueeze(1)
    yield "some_zeros", torch.cat([torch.zeros(2, 64), torch.randn(2, 64)])
    yield "many_blocks", (torch.randn(17, 1024) * (torch.rand(17, 1) + 0.1)).bfloat16()


def four_bits(tensors, name, weight, kind, nested):
    codes, state = functional.quantize_4bit(weight, blocksize=64, compress_statistics=nested, quant_type=kind)
    key = f"{name}.{kind}" + (".nested" if nested else "")
    tensors[key + ".codes"], tensors[key + ".absmax"] = codes, state.absmax
    tensors[key + ".dequantised"] = functional.dequantize_4bit(codes, state)
    if nested:
        tensors[key + ".nested_absmax"], tensors[key + ".nested_code"] = state.state2.absmax, state.state2.code
        tensors[key + ".offset"] = state.offset.reshape(1)


def main():
    out = pathlib.Path(sys.argv[1])
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    torch.manual_seed(int(sys.argv[2]) if len(sys.argv) > 2 else 1)
    tensors = {}
    for name, weight in weights():
        tensors[name + ".weight"] = weight
        for kind in ("nf4", "fp4"):
            for nested in (False, True):
                four_bits(tensors, name, weight, kind, nested)
        tensors[name + ".int8.codes"], tensors[name + ".int8.scale"], _ = functional.int8_vectorwise_quant(weight.half())
    save_file({k: v.contiguous() for k, v in tensors.items()}, out / "cases.safetensors")
    (out / "versions.json").write_text(json.dumps(dict(bitsandbytes=bitsandbytes.__version__, torch=torch.__version__)) + "\n")


main()
