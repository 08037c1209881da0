#!/usr/bin/env python3
"""Writes tests/golden/gguf/quantised.safetensors: rows of numbers and the blocks that ggml makes of them. GGML_LIBRARY names libggml-base.so (of
llama.cpp, or of the package llama-cpp-python). values F32 [rows, 256]; TYPE U8 [rows, bytes of 256 values], made without an importance matrix."""
import ctypes
import os
import pathlib

import numpy
from safetensors.numpy import save_file

types = {"Q4_0": (2, 144), "Q4_1": (3, 160), "Q5_0": (6, 176), "Q5_1": (7, 192), "Q8_0": (8, 272), "Q4_K": (12, 144), "Q5_K": (13, 176), "Q6_K": (14, 210)}
random = numpy.random.default_rng(7)
rows = [random.normal(0, 0.05, 256) for _ in range(12)] + [random.uniform(-1, 1, 256), random.standard_t(2, 256), random.laplace(0, 3, 256)]
rows += [numpy.zeros(256), numpy.full(256, 0.25), numpy.full(256, -0.25), numpy.abs(random.normal(0, 1, 256)), -numpy.abs(random.normal(0, 1, 256)) - 1]
rows += [random.normal(0, 1e-9, 256), random.normal(0, 1e-20, 256), numpy.arange(256) - 128.0, numpy.where(numpy.arange(256) == 77, 9.0, random.normal(0, 1e-3, 256))]
rows += [numpy.repeat(random.normal(0, 1, 16), 16), random.integers(-2, 3, 256) / 4, numpy.where(numpy.arange(256) < 128, 0, random.normal(0, 1, 256))]
bf16 = random.normal(0, 0.02, (5, 256)).astype(numpy.float32).view(numpy.uint32) & 0xFFFF0000
values = numpy.concatenate([numpy.stack(rows).astype(numpy.float32), bf16.view(numpy.float32)])

ggml = ctypes.CDLL(os.environ["GGML_LIBRARY"])
ggml.ggml_quantize_chunk.restype = ctypes.c_size_t
tensors = {"values": values}
for name, (number, size) in types.items():
    blocks = numpy.zeros((len(values), size), numpy.uint8)
    done = ggml.ggml_quantize_chunk(ctypes.c_int(number), values.ctypes.data_as(ctypes.c_void_p), blocks.ctypes.data_as(ctypes.c_void_p), ctypes.c_int64(0),
                                    ctypes.c_int64(len(values)), ctypes.c_int64(256), None)
    assert done == blocks.nbytes, name
    tensors[name] = blocks
save_file(tensors, pathlib.Path(__file__).parent / "gguf/quantised.safetensors")
