#!/usr/bin/env python3
"""HQQ's own codes, scales, zeros and dequantised weights of small matrices, for quant/hqq_golden_test.cpp. Run by hand: needs torch and hqq.

usage: make_hqq_cases.py OUT_DIR [SEED]        float32, CPU, one thread
cases.safetensors: weight.I F32, and per case CASE = WEIGHT_BITS_AXIS_GROUPSIZE: CASE.codes U8 [elements, in the weight's order], CASE.scale, CASE.zero,
CASE.dequantised F32.
"""
import pathlib
import sys

import torch
from hqq.core.quantize import Quantizer
from safetensors.torch import save_file


def main():
    out, seed = pathlib.Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 5
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    weights = [torch.randn(16, 32) * 0.05, torch.randn(24, 40) * 0.02]
    weights[0][3, :16] = 0.25  # a group of equal values, and one of small ones
    weights[0][5] *= 1e-4
    tensors = {f"weight.{i}": weight for i, weight in enumerate(weights)}
    for index, group_size in ((0, 16), (1, 24)):  # of 40 columns: groups go over the ends of rows
        for bits in (8, 4, 3, 2, 1):
            for axis in (0, 1):
                weight = weights[index]
                codes, meta = Quantizer.quantize(weight, bits, group_size=group_size, round_zero=bits == 4, axis=axis, compute_dtype=torch.float32, device="cpu")
                rows = group_size if axis == 0 else weight.numel() // group_size
                unpacked = Quantizer.unpack[meta["packing"]](codes, dtype=torch.uint8)[:rows]
                name = f"{index}_{bits}_{axis}_{group_size}"
                dequantised = Quantizer.dequantize(codes, {**meta, "compute_dtype": torch.float32})
                tensors |= {f"{name}.codes": unpacked.reshape(-1), f"{name}.scale": meta["scale"].reshape(-1), f"{name}.zero": meta["zero"].reshape(-1), f"{name}.dequantised": dequantised}
    out.mkdir(parents=True, exist_ok=True)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, out / "cases.safetensors")


main()
