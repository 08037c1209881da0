#!/usr/bin/env python3
"""Writes tests/golden/gguf/weighted.safetensors: the blocks that ggml makes of the values of quantised.safetensors with an importance matrix, importance F32
[256], of every row. GGML_LIBRARY as for make_gguf_quantise_cases.py."""
import ctypes
import os
import pathlib

import numpy
from safetensors.numpy import load_file, save_file

types = {"Q4_0": (2, 144), "Q4_1": (3, 160), "Q5_0": (6, 176), "Q5_1": (7, 192), "Q8_0": (8, 272), "Q4_K": (12, 144), "Q5_K": (13, 176), "Q6_K": (14, 210)}
folder = pathlib.Path(__file__).parent / "gguf"
values = load_file(folder / "quantised.safetensors")["values"]
importance = numpy.random.default_rng(5).lognormal(0, 1.5, 256).astype(numpy.float32)
importance[40:44] = 0
ggml = ctypes.CDLL(os.environ["GGML_LIBRARY"])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
tensors = {"importance": importance}
for name, (number, size) in types.items():
    blocks = numpy.zeros((len(values), size), numpy.uint8)
    done = ggml.ggml_quantize_chunk(ctypes.c_int(number), values.ctypes.data_as(ctypes.c_void_p), blocks.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0),
                                    ctypes.c_int64(len(values)), ctypes.c_int64(256), importance.ctypes.data_as(ctypes.c_void_p))
    assert done == blocks.nbytes, name
    tensors[name] = blocks
save_file(tensors, folder / "weighted.safetensors")
