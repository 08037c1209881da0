"""Reads and compares what recorded cases hold, and runs the program. Called by golden_cases.py, golden_variants.py and golden_runs.py."""
import array
import json
import os
import pathlib
import re
import struct
import subprocess

root = pathlib.Path(__file__).resolve().parent.parent
program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))
device = None  # of commands that have one; None: as the cases say
codes = {"F32": "f", "F64": "d", "I64": "q", "I32": "i"}


def read_tensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    tensors = {}
    for name, entry in header.items():
        if name != "__metadata__":
            first, last = entry["data_offsets"]
            values = array.array(codes[entry["dtype"]])
            values.frombytes(data[8 + size + first : 8 + size + last])
            tensors[name] = (entry["shape"], values)
    return tensors


def write_ids(path, tensors):
    header, body = {}, b""
    for name, rows in tensors.items():
        values = array.array("q", [value for row in rows for value in row])
        header[name] = {"dtype": "I64", "shape": [len(rows), len(rows[0])], "data_offsets": [len(body), len(body) + 8 * len(values)]}
        body += values.tobytes()
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + body)


def rows_of(tensor):
    (count, width), values = tensor
    return [list(values[i * width : (i + 1) * width]) for i in range(count)]


class NoGpuCode(RuntimeError):
    """What the program has no GPU code for, in its words."""


def loraine(*arguments, cwd=None):
    placed = ["--device", device] if device and arguments[0] in ("train", "trace", "chat", "eval") else []
    done = subprocess.run([program.resolve(), *map(str, arguments), *placed], capture_output=True, text=True, cwd=cwd)
    if "emulated GPU: " in done.stderr and " touches " in done.stderr:
        raise RuntimeError(f"loraine {arguments[0]} touched memory of the GPU that it may not")
    if done.returncode and "has no GPU code" in done.stderr:
        raise NoGpuCode(re.search(r"(?:error: )?(?:device: cuda: )?(?:model_type \w+: )?([^\n]*?),? (?:which )?has no GPU code", done.stderr)[1])
    if done.returncode:
        raise RuntimeError(f"loraine {arguments[0]} ended with {done.returncode}: {(done.stderr or done.stdout).strip().splitlines()[-1:]}")


def apart(ours, theirs, relative):
    """The largest difference; relative to the tensor's largest value where asked. Shapes and finiteness count too."""
    if ours[0] != theirs[0]:
        raise RuntimeError(f"shape {ours[0]}, recorded {theirs[0]}")
    worst = max((abs(a - b) for a, b in zip(ours[1], theirs[1])), default=0.0)
    if any(a != a for a in ours[1]):
        raise RuntimeError("NaN")
    return worst / max(max(abs(b) for b in theirs[1]), 1e-30) if relative else worst


def logits_apart(ours, theirs, mask):
    (_, _, width), a = ours
    if ours[0] != theirs[0]:
        raise RuntimeError(f"logits {ours[0]}, recorded {theirs[0]}")
    worst = 0.0
    for row, seen in enumerate(mask[1]):
        if seen:  # what stands in padded rows is nobody's result
            worst = max(worst, max(abs(x - y) for x, y in zip(a[row * width : (row + 1) * width], theirs[1][row * width : (row + 1) * width])))
    return worst
