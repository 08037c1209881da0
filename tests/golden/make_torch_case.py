#!/usr/bin/env python3
"""Writes tests/golden/torch: a state dict of every element type and some odd layouts as torch.save wrote it, and its values. Needs torch."""
import collections
import json
import pathlib

import torch

folder = pathlib.Path(__file__).resolve().parent / "torch"
folder.mkdir(exist_ok=True)
base = torch.arange(24, dtype=torch.float32)
tensors = collections.OrderedDict(
    plain=torch.tensor([[1.5, -2.0, 3.25], [0.0, 1e-3, -7.0]]),
    transposed=base[:6].reshape(2, 3).t(),
    part=base.reshape(4, 6)[1:3, 2:5],
    shared=base[3:9],
    permuted=base.reshape(2, 3, 4).permute(2, 0, 1),
    scalar=torch.tensor(0.5),
    empty=torch.zeros(0, 4),
    parameter=torch.nn.Parameter(torch.tensor([1.0, 2.0], dtype=torch.float16)),
    bf16=torch.tensor([1.0, -0.5, 3.0], dtype=torch.bfloat16),
    f64=torch.tensor([0.25], dtype=torch.float64),
)
for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.bool):
    tensors[str(dtype).removeprefix("torch.")] = torch.tensor([1, 0, 1], dtype=dtype)
module = torch.nn.Linear(2, 1)
tensors["linear.weight"] = module.weight.detach()
state = collections.OrderedDict(tensors)
state._metadata = collections.OrderedDict([("", dict(version=1))])  # as Module.state_dict() has it
torch.save(state, folder / "state_dict.bin")
recorded = {name: dict(shape=list(t.shape), values=[float(x) for x in t.detach().contiguous().flatten().tolist()]) for name, t in tensors.items()}
(folder / "values.json").write_text(json.dumps(recorded) + "\n")

# The state of AdamW after two updates, in two groups, as a checkpoint of transformers holds it.
weight, bias = torch.nn.Parameter(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])), torch.nn.Parameter(torch.tensor([0.5, -0.5]))
optimizer = torch.optim.AdamW([dict(params=[weight], weight_decay=0.1), dict(params=[bias], weight_decay=0.0)], lr=0.01)
for factor in (1.0, -0.25):
    weight.grad, bias.grad = torch.full((2, 3), factor), torch.tensor([factor, 2 * factor])
    optimizer.step()
torch.save(optimizer.state_dict(), folder / "optimizer.pt")
moments = {f"state.{number}.{name}": value.flatten().tolist() for number, of in optimizer.state_dict()["state"].items() for name, value in of.items()}
(folder / "optimizer.json").write_text(json.dumps(moments) + "\n")
