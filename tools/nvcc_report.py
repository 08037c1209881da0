#!/usr/bin/env python3
"""What nvcc makes of the kernels: registers, spilled bytes, shared memory and size of each, by architecture. As CMake's launcher (nvcc_report.py
nvcc ARGUMENTS…) it runs the compiler and leaves OBJECT.kernels.json beside the object; with --table BUILD_DIR it prints all of them and ends with 1
where a kernel spills. ./dev cuda does both."""
import json
import pathlib
import re
import shutil
import struct
import subprocess
import sys


def code_sizes(cubin):
    """Bytes of the .text section of each kernel of an ELF file."""
    data = cubin.read_bytes()
    offset, = struct.unpack_from("<Q", data, 0x28)
    entry, count, names_at = struct.unpack_from("<HHH", data, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", data, offset + i * entry) for i in range(count)]
    names = headers[names_at][4]
    sizes = {}
    for name, _, _, _, _, size in headers:
        text = data[names + name:data.index(b"\0", names + name)].decode()
        if text.startswith(".text."):
            sizes[text[6:]] = size
    return sizes


def parse(text):
    """ptxas -v: {(architecture, symbol): {registers, spills, shared}}"""
    found, key = {}, None
    for line in text.splitlines():
        if entered := re.search(r"Compiling entry function '(\S+)' for '(\S+)'", line):
            key = (entered[2], entered[1])
            found[key] = {"registers": 0, "spills": 0}
        elif key and (spills := re.search(r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line)):
            found[key]["spills"] = max(int(spills[1]), int(spills[2]), int(spills[3]))
        elif key and (used := re.search(r"Used (\d+) registers", line)):
            found[key]["registers"] = int(used[1])
    return found


def compile_and_note(command):
    if "-o" not in command or not command[command.index("-o") + 1].endswith(".o") or "-c" not in command and "-dc" not in command:
        return subprocess.run(command).returncode
    target = pathlib.Path(command[command.index("-o") + 1])
    kept = target.with_suffix(".kept")
    shutil.rmtree(kept, ignore_errors=True)
    kept.mkdir(parents=True)
    run = subprocess.run([*command, "-Xptxas=-v", "--keep", f"--keep-dir={kept}"], capture_output=True, text=True)
    sys.stdout.write(run.stdout)
    noise = re.compile(r"ptxas info|bytes stack frame|^$")
    sys.stderr.write("".join(line + "\n" for line in run.stderr.splitlines() if not noise.search(line)))
    if run.returncode == 0:
        kernels = parse(run.stderr)
        for cubin in kept.glob("*.cubin"):  # NAME.sm_80.cubin or NAME.compute_80.cubin; of a single architecture NAME.cubin
            named = re.findall(r"(?:sm|compute)_(\w+)", cubin.name)
            architecture = f"sm_{named[-1]}" if named else next(iter(kernels))[0]
            for symbol, size in code_sizes(cubin).items():
                if (architecture, symbol) in kernels:
                    kernels[architecture, symbol]["bytes"] = size
        rows = [{"architecture": a, "symbol": s, **figures} for (a, s), figures in kernels.items()]
        target.with_name(target.name + ".kernels.json").write_text(json.dumps({"object": target.stat().st_size, "kernels": rows}))
    shutil.rmtree(kept, ignore_errors=True)
    return run.returncode


def names_of(symbols):
    run = subprocess.run(["c++filt"], input="\n".join(symbols), capture_output=True, text=True)
    short = []
    for name in run.stdout.splitlines():
        name = re.sub(r"\(anonymous namespace\)::|loraine::cuda::|_GLOBAL__N__\w+::|^void ", "", name)
        short.append(re.sub(r"\(.*", "", re.sub(r"\((?:int|bool)\)", "", name)))
    return dict(zip(symbols, short))


def table(folder):
    files = sorted(pathlib.Path(folder).rglob("*.kernels.json"))
    rows, total = [], 0
    for file in files:
        content = json.loads(file.read_text())
        total += content["object"]
        rows += content["kernels"]
    if not rows:
        print(f"no kernels were compiled in {folder}")
        return 1
    architectures = sorted({row["architecture"] for row in rows}, key=lambda a: int(re.search(r"\d+", a)[0]))
    names = names_of(sorted({row["symbol"] for row in rows}))
    by_name = {}
    for row in rows:
        by_name.setdefault(names[row["symbol"]], {})[row["architecture"]] = row
    width = max(len(name) for name in by_name) + 2
    print("registers / bytes of code of each kernel; * spills")
    print("".ljust(width), *(a.rjust(12) for a in architectures))
    spilling = 0
    for name, figures in sorted(by_name.items()):
        cells = []
        for a in architectures:
            row = figures.get(a)
            spilling += bool(row and row["spills"])
            cells.append(f"{row['registers']}/{row.get('bytes', 0)}{'*' if row['spills'] else ''}".rjust(12) if row else "–".rjust(12))
        print(name.ljust(width), *cells)
    for a in architectures:
        of_a = [row for row in rows if row["architecture"] == a]
        print(f"{a}: {len(of_a)} kernels, {sum(row.get('bytes', 0) for row in of_a)} bytes of code, at most {max(row['registers'] for row in of_a)} registers, "
              f"{sum(row['spills'] for row in of_a)} bytes on a stack")
    print(f"objects: {total} bytes in {len(files)} files")
    return 1 if spilling else 0


sys.exit(table(sys.argv[2]) if sys.argv[1] == "--table" else compile_and_note(sys.argv[1:]))
