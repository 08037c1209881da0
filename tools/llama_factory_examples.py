#!/usr/bin/env python3
"""Runs LLaMA-Factory's own example files with a tiny model and says which run and why others do not.

usage: tools/llama_factory_examples.py LLAMA_FACTORY QWEN3 LLAMA [PART]

LLAMA_FACTORY: its source folder, with examples/ and data/; QWEN3, LLAMA: folders of tiny models, which stand for whatever the files name.
PART: only files whose path has it. Nothing but the model and the length of the run is changed. Exit 1 where a file ends in a crash."""
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

program = os.environ.get("LORAINE_PROGRAM", "build/loraine")
SHORT = ["max_steps=2", "max_samples=6", "cutoff_len=96", "save_steps=2", "num_train_epochs=1"]


def command(path, text):
    if "/merge_lora/" in path or "export_dir" in text and "/v1/" not in path:
        return "export"
    if "/v1/" in path and "export" in path:
        return "export"
    return "chat" if "/inference/" in path else "train"


def main():
    source, qwen, llama = (pathlib.Path(a).resolve() for a in sys.argv[1:4])
    part = sys.argv[4] if len(sys.argv) > 4 else ""
    work = pathlib.Path(tempfile.mkdtemp(prefix="llama_factory_examples_"))
    for name in ("examples", "data"):
        shutil.copytree(source / name, work / name)
    # Adapters and merged models come first from the files that make them.
    order = {"train": 0, "export": 1, "chat": 2}
    files = sorted(str(p.relative_to(work)) for p in (work / "examples").rglob("*.yaml") if "accelerate" not in str(p))
    files = [f for f in files if part in f and not f.endswith("tokens_cfg.yaml")]
    texts = {f: (work / f).read_text() for f in files}
    files.sort(key=lambda f: order[command(f, texts[f])])
    ran, failed = 0, 0
    for file in files:
        what = command(file, texts[file])
        model = llama if "llama" in file.lower() else qwen
        key = "model" if "/v1/" in file else "model_name_or_path"
        words = [] if key + ": saves" in texts[file] else [f"{key}={model}"]
        words += ["overwrite_output_dir=true"] if what != "chat" else []
        words += SHORT if what == "train" and "/v1/" not in file else ["max_steps=2", "cutoff_len=96"] if what == "train" else []
        run = subprocess.run([os.path.abspath(program), what, file, *words], cwd=work, input="Hi\nexit\n", capture_output=True, text=True,
                             timeout=900, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        last = [line for line in run.stderr.splitlines() if line.strip()]
        error = next((i for i, line in enumerate(last) if line.startswith("error")), None)
        reason = "" if run.returncode == 0 else " ".join(last[error:error + 3] if error is not None else last[-2:])
        ran += run.returncode == 0
        failed += run.returncode < 0 or run.returncode > 64
        print(f"{'ran' if run.returncode == 0 else f'exit {run.returncode}':8s} {file}  {reason[:300]}", flush=True)
    print(f"{ran} of {len(files)} ran")
    shutil.rmtree(work)
    return 1 if failed or not files else 0


sys.exit(main())
