"""Small models in the formats of other quantisers, and what they are worth in full. Standard library only; the formats themselves are compared with their
own libraries in tests/golden/quantised."""
import json
import math
import shutil
import struct

import tiny_model as tiny

size = 8  # columns of a group


def half(value):
    return struct.unpack("<e", struct.pack("<e", value))[0]


def words(values):
    """Whole numbers of 4 bits to words of 32, the lowest bits first."""
    return b"".join(struct.pack("<I", sum(code << (4 * i) for i, code in enumerate(values[at : at + 8]))) for at in range(0, len(values), 8))


def in_groups(rows):
    """Codes with the zero 8, and a scale for each group of a row."""
    scales = [[half(max(map(abs, row[at : at + size])) / 7) or 1.0 for at in range(0, len(row), size)] for row in rows]
    codes = [[min(15, max(0, round(value / scale[c // size]) + 8)) for c, value in enumerate(row)] for row, scale in zip(rows, scales)]
    full = [[(code - 8) * scale[c // size] for c, code in enumerate(row)] for row, scale in zip(codes, scales)]
    return codes, scales, full


def halves(values):
    return struct.pack(f"<{len(values)}e", *values)


def gptq(module, rows):
    codes, scales, full = in_groups(rows)
    out, columns, groups = len(rows), len(rows[0]), len(rows[0]) // size
    streams = [words(row) for row in codes]
    qweight = b"".join(stream[at : at + 4] for at in range(0, columns // 2, 4) for stream in streams)
    return {
        f"{module}.qweight": ("I32", [columns // 8, out], qweight), f"{module}.qzeros": ("I32", [groups, out // 8], words([7] * out) * groups),
        f"{module}.scales": ("F16", [groups, out], halves([scale[g] for g in range(groups) for scale in scales])),
        f"{module}.g_idx": ("I32", [columns], struct.pack(f"<{columns}i", *(c // size for c in range(columns)))),
    }, full


def awq(module, rows):
    codes, scales, full = in_groups(rows)
    out, columns, groups = len(rows), len(rows[0]), len(rows[0]) // size
    order = [at + n for at in range(0, out, 8) for n in (0, 2, 4, 6, 1, 3, 5, 7)]
    return {
        f"{module}.qweight": ("I32", [columns, out // 8], b"".join(words([codes[o][c] for o in order]) for c in range(columns))),
        f"{module}.qzeros": ("I32", [groups, out // 8], words([8] * out) * groups),
        f"{module}.scales": ("F16", [groups, out], halves([scale[g] for g in range(groups) for scale in scales])),
    }, full


def compressed(module, rows):
    codes, scales, full = in_groups(rows)
    out, columns = len(rows), len(rows[0])
    return {
        f"{module}.weight_packed": ("I32", [out, columns // 8], b"".join(map(words, codes))), f"{module}.weight_shape": ("I64", [2], struct.pack("<2q", out, columns)),
        f"{module}.weight_scale": ("F16", [out, columns // size], halves([value for scale in scales for value in scale])),
    }, full


e4m3 = [math.ldexp(code & 7, -9) if code < 8 else math.ldexp(8 + (code & 7), (code >> 3) - 10) for code in range(127)]


def fp8(module, rows):
    scale = struct.unpack("<f", struct.pack("<f", max(abs(value) for row in rows for value in row) / 448))[0]
    codes = [[min(range(127), key=lambda code: abs(e4m3[code] - abs(value) / scale)) | (128 if value < 0 else 0) for value in row] for row in rows]
    full = [[math.copysign(e4m3[code & 127], 127.5 - code) * scale for code in row] for row in codes]
    return {
        f"{module}.weight": ("F8_E4M3", [len(rows), len(rows[0])], bytes(code for row in codes for code in row)),
        f"{module}.weight_scale_inv": ("F32", [1, 1], struct.pack("<f", scale)),
    }, full


group = dict(targets=["Linear"], weights=dict(num_bits=4, type="int", strategy="group", group_size=size, symmetric=True))
kinds = {
    "gptq": (gptq, dict(quant_method="gptq", bits=4, group_size=size, desc_act=False, sym=True, checkpoint_format="gptq"), "GPTQ in 4 bits"),
    "awq": (awq, dict(quant_method="awq", bits=4, group_size=size, version="gemm", zero_point=True), "AWQ in 4 bits"),
    "fp8": (fp8, dict(quant_method="fp8", activation_scheme="dynamic", weight_block_size=[128, 128]), "FP8, activations in full"),
    "int4": (compressed, dict(quant_method="compressed-tensors", format="pack-quantized", config_groups={"group_0": group}, quantization_status="compressed", ignore=["lm_head"]), "INT4"),
}


def write(kind, model, quantised, full):
    """The model quantised, and what its weights are then worth, as two folders."""
    pack, config, _ = kinds[kind]
    packed, plain = {}, {}
    for name, (shape, values) in tiny.read_safetensors(model / "model.safetensors").items():
        if name.endswith("_proj.weight"):
            rows = [list(values[at : at + shape[1]]) for at in range(0, len(values), shape[1])]
            tensors, worth = pack(name.removesuffix(".weight"), rows)
            packed.update(tensors)
            plain[name] = ("F32", shape, struct.pack(f"<{len(values)}f", *(value for row in worth for value in row)))
        else:
            packed[name] = plain[name] = ("F32", shape, values.tobytes())
    for folder, tensors in ((quantised, packed), (full, plain)):
        shutil.copytree(model, folder)
        tiny.write_safetensors(folder / "model.safetensors", tensors)
    settings = json.loads((quantised / "config.json").read_text())
    (quantised / "config.json").write_text(json.dumps(settings | {"quantization_config": config}))
