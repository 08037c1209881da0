#!/usr/bin/env python3
"""Writes tests/golden/gguf/blocks.safetensors: blocks of ggml's types and what the package gguf (0.19) makes of them. Of each type TYPE:
TYPE.blocks U8 [n, bytes of a block], random but for scales of moderate size, in all of which every entry of the type's grid occurs;
TYPE.values F32 [2, elements], the first two blocks; TYPE.hash U8 [8], FNV-1a over the bytes of all values, little endian."""
import pathlib

import numpy
from gguf import GGMLQuantizationType, quants
from gguf.constants import GGML_QUANT_SIZES
from safetensors.numpy import save_file

# Where the blocks have scales in half precision; entries of their grids that a block names.
types = {"Q4_0": [0], "Q4_1": [0, 2], "Q5_0": [0], "Q5_1": [0, 2], "Q8_0": [0], "Q4_K": [0, 2], "Q5_K": [0, 2], "Q6_K": [208], "Q2_K": [80, 82],
         "Q3_K": [108], "IQ1_S": [0], "IQ1_M": [], "IQ2_XXS": [0], "IQ2_XS": [0], "IQ2_S": [0], "IQ3_XXS": [0], "IQ3_S": [0], "IQ4_NL": [0],
         "IQ4_XS": [0], "TQ1_0": [52], "TQ2_0": [64], "MXFP4": []}
random = numpy.random.default_rng(20)


def set_entries(name, blocks):
    """Every entry of the grid once, one after the other, as each format spells its number."""
    count = len(blocks)
    if name == "IQ2_XXS":
        for i in range(8):
            blocks[:, 2 + 8 * i : 6 + 8 * i] = numpy.arange(count * 32).reshape(count, 8, 4)[:, i] % 256
    elif name == "IQ3_XXS":
        blocks[:, 2:66] = numpy.arange(count * 64).reshape(count, 64) % 256
    elif name == "IQ2_XS":
        words = numpy.ascontiguousarray(blocks[:, 2:66]).view("<u2")
        blocks[:, 2:66] = (words & 0xFE00 | numpy.arange(count * 32).reshape(count, 32) % 512).astype("<u2").view(numpy.uint8)
    elif name in ("IQ2_S", "IQ3_S"):
        each = 32 if name == "IQ2_S" else 64
        entries = numpy.arange(count * each).reshape(count, each) % (1024 if name == "IQ2_S" else 512)
        blocks[:, 2 : 2 + each] = entries & 255
        blocks[:, 66:74] = ((entries >> 8).reshape(count, 8, -1) << (numpy.arange(each // 8) * (64 // each))).sum(-1)
    elif name == "IQ1_S":
        entries = numpy.arange(count * 32).reshape(count, 8, 4) % 2048
        blocks[:, 2:34] = (entries & 255).reshape(count, 32)
        words = numpy.ascontiguousarray(blocks[:, 34:50]).view("<u2") & 0xF000 | ((entries >> 8) << (numpy.arange(4) * 3)).sum(-1)
        blocks[:, 34:50] = words.astype("<u2").view(numpy.uint8)
    elif name == "IQ1_M":  # and the scale in the top four bits of its words
        scale = numpy.float16(0.0123).view(numpy.uint16)
        words = numpy.ascontiguousarray(blocks[:, 48:56]).view("<u2")
        blocks[:, 48:56] = (words & 0x0FFF | (scale >> (numpy.arange(4) * 4) & 15) << 12).astype("<u2").view(numpy.uint8)
    elif name == "MXFP4":
        blocks[:, 0] = numpy.concatenate([[0, 1, 2, 250], random.integers(110, 140, count - 4)])


def fnv(data):
    value = 0xCBF29CE484222325
    for byte in data:
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return value


tensors = {}
for name, halves in types.items():
    kind = GGMLQuantizationType[name]
    elements, size = GGML_QUANT_SIZES[kind]
    blocks = random.integers(0, 256, (64 if name == "IQ1_S" else 32 if name == "IQ2_S" else 16, size), dtype=numpy.uint8)
    for at in halves:
        blocks[:, at : at + 2] = random.uniform(-0.01, 0.01, len(blocks)).astype(numpy.float16)[:, None].view(numpy.uint8)
    set_entries(name, blocks)
    values = quants.dequantize(blocks, kind).astype(numpy.float32).reshape(len(blocks), elements)
    assert numpy.isfinite(values).all(), name
    tensors[f"{name}.blocks"] = blocks
    tensors[f"{name}.values"] = values[:2]
    tensors[f"{name}.hash"] = numpy.frombuffer(fnv(values.astype("<f4").tobytes()).to_bytes(8, "little"), numpy.uint8)
save_file(tensors, pathlib.Path(__file__).parent / "gguf/blocks.safetensors")
