#!/usr/bin/env python3
"""Checks GPU kernels against the rules of docs/cuda.md that can be seen in the text: raw words of CUDA stand in kernels/cuda/nvidia/ alone, kernel
files include nothing of CUDA, no header outside names a type of CUDA, every kernel file has its test. Called by ./dev lint."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
RAW = re.compile(r"__shfl\w*|__shared__|__constant__|\basm\b|\batomic\w*|<<<|__ballot\w*|__CUDA\w*|__ldg|__half\b|__nv_bfloat16|\bcuda[A-Z]\w*|"
                 r"\bcooperative_groups\b|__syncthreads_\w+|\bemulate::")
CONDITION = re.compile(r"^\s*#\s*(?:if|ifdef|ifndef|elif)\b")
CUDA_NAME = re.compile(r"\bcuda[A-Z]\w*|cuda_runtime|__global__|__device__|\bcublas\w*|\bcudnn\w*")
bad = 0


def complain(path, number, text):
    global bad
    bad += 1
    print(f"kernels: {path.relative_to(root)}:{number}: {text}")


def code_of(line):
    return re.sub(r'"(?:[^"\\]|\\.)*"', '""', line.split("//", 1)[0])


kernels = sorted((root / "loraine").rglob("*.cu"))
beside = {h for k in kernels for h in k.parent.glob("*.h") if re.search(r'loraine/kernels/cuda/device\.h"', h.read_text())}
for path in [*kernels, *sorted(beside - {root / "loraine/kernels/cuda/device.h"})]:
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if found := RAW.search(code_of(line)):
            complain(path, number, f"'{found[0]}' is a word of CUDA that only kernels/cuda/device.h and its dialects may use")
        if CONDITION.match(line):
            complain(path, number, "a kernel does not ask who compiles it")
        if (included := re.match(r'\s*#\s*include\s+([<"])([^>"]+)', line)) and included[1] == "<" and not re.fullmatch(r"[a-z_]+", included[2]):
            complain(path, number, f"includes <{included[2]}>; kernels include loraine/kernels/cuda/device.h and nothing of CUDA")
for path in kernels:
    rooms = list(path.parent.glob("*_cuda_test.cpp"))
    launched = set(re.findall(r"^void (\w+_cuda)\(", path.read_text(), re.M))
    tested = "\n".join(p.read_text() for p in rooms)
    for op in sorted(launched):
        if not re.search(rf"\b{op}\(", tested):
            complain(path, 1, f"{op} is called by no *_cuda_test.cpp beside it")
for path in sorted((root / "loraine").rglob("*.h")):
    if path in beside or "kernels/cuda" in path.as_posix():
        continue
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if found := CUDA_NAME.search(code_of(line)):
            complain(path, number, f"'{found[0]}' is CUDA's; its names stay in the files that are compiled for it")
print(f"kernels: {len(kernels)} files looked at, {bad} words that do not belong there")
sys.exit(bool(bad))
