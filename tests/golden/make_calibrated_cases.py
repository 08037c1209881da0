#!/usr/bin/env python3
"""Writes tests/golden/calibrated/gptq.safetensors: a matrix, the Hessian of inputs to it, and what gptqmodel 7.7's GPTQ makes of them on the CPU.
weight F32 [48, 144]; hessian F32 [144, 144]; for bits B in 2, 3, 4, 8, plain_B and aware_B (act_group_aware): dequantised F32 [48, 144]; scales_… F32
[48, 5]. Groups of 32, the last of 16; damp 0.1; blocks as long as groups."""
import pathlib

import numpy
import torch
from gptqmodel.quantization import QuantizeConfig
from gptqmodel.quantization.gptq import GPTQ
from safetensors.torch import save_file

torch.manual_seed(3)
random = numpy.random.default_rng(11)
mix = random.normal(0, 1, (20, 144)) * random.lognormal(0, 1, 144)
inputs = torch.tensor(random.normal(0, 1, (700, 20)) @ mix + 0.3 * random.normal(0, 1, (700, 144)), dtype=torch.float32)
inputs[:, 37] = 0
weight = torch.tensor(random.normal(0, 0.05, (48, 144)), dtype=torch.float32)
tensors = {"weight": weight, "hessian": inputs.T @ inputs / 700}
for bits in (2, 3, 4, 8):
    for name, aware in (("plain", False), ("aware", True)):
        layer = torch.nn.Linear(144, 48, bias=False)
        layer.weight.data = weight.clone()
        gptq = GPTQ(layer, QuantizeConfig(bits=bits, group_size=32, sym=True, desc_act=False, act_group_aware=aware, damp_percent=0.1))
        gptq.quantizer.configure(perchannel=True)
        gptq.add_batch(inputs.unsqueeze(0), layer(inputs.unsqueeze(0)))
        found = gptq.quantize(blocksize=32)
        tensors[f"{name}_{bits}"], tensors[f"scales_{name}_{bits}"] = found[0].float().contiguous(), found[1].float().contiguous()
        assert torch.equal(found[3], torch.arange(144) // 32)
save_file(tensors, pathlib.Path(__file__).parent / "calibrated/gptq.safetensors")
