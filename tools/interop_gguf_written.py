#!/usr/bin/env python3
"""Has llama.cpp (the package llama-cpp-python) load what `loraine export` writes: a model of every type of weight, and an adapter. Logits are compared with those that
loraine computes from the same file. Called by tools/interop.sh; needs numpy and safetensors, and does nothing without llama_cpp. LORAINE_PROGRAM names the program."""
import importlib.util
import pathlib
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tests/support"))
import interop_checks
import tiny_model as tiny
from interop_checks import check

# The largest difference, as a part of the largest logit. llama.cpp rounds what it multiplies with weights of 16 bits to that type, and to blocks of 8 bits with others.
TYPES = {"f32": 1e-5, "f16": 5e-3, "bf16": 5e-2, **dict.fromkeys("q8_0 q4_0 q4_1 q5_0 q5_1 q4_k_s q4_k_m q5_k_s q5_k_m q6_k".split(), 2e-1)}


def main():
    if not importlib.util.find_spec("llama_cpp"):
        return print("skip  interop_gguf_written: the package llama-cpp-python is not there")
    import numpy
    from safetensors.numpy import load_file, save_file

    with tempfile.TemporaryDirectory() as holder:
        work = pathlib.Path(holder)
        model = tiny.write_model(work / "model", vocab=259, channels=256, inner=512, heads=4, kv_heads=2)
        tiny.write_byte_tokenizer(model)
        adapter = work / "adapter"
        code, text = tiny.run(*tiny.train_arguments(model, tiny.write_rows(work / "data", vocab=259), adapter, max_steps=6))
        if code:
            sys.exit(text)
        ids = numpy.random.default_rng(1).integers(3, 259, (2, 24))
        batch = work / "batch.safetensors"
        save_file({"input_ids": ids, "attention_mask": numpy.ones_like(ids), "labels": ids}, batch)

        def export(kind, into, *more):
            code, text = tiny.run("export", "--model_name_or_path", model, "--export_dir", into, "--export_format", kind, *more)
            return next(into.glob("*.gguf")) if code == 0 else sys.exit(text)

        def of_loraine(path, *more):
            code, text = tiny.run("trace", "--model_name_or_path", path, "--batch", batch, "--output", work / "ours.safetensors", *more)
            return load_file(work / "ours.safetensors")["logits"] if code == 0 else sys.exit(text)

        def of_llama_cpp(*paths):
            done = subprocess.run([sys.executable, root / "tools/llama_cpp_logits.py", paths[0], batch, work / "theirs.safetensors", *paths[1:]], capture_output=True, text=True)
            return load_file(work / "theirs.safetensors")["logits"] if done.returncode == 0 else done.stderr[-300:]

        def compare(what, ours, theirs, limit):
            if isinstance(theirs, str):
                return check(what, False, theirs)
            far = abs(ours - theirs).max() / abs(theirs).max()
            check(f"{what}: logits apart by {far:.1e} of the largest, the same first token at {(ours.argmax(-1) == theirs.argmax(-1)).mean():.3f}", far <= limit, f"more than {limit}")

        for kind, limit in TYPES.items():
            path = export("gguf", work / kind, "--gguf_type", kind, "--adapter_name_or_path", adapter)
            compare(kind, of_loraine(path), of_llama_cpp(path), limit)
        base, beside = export("gguf", work / "base", "--gguf_type", "f32"), export("gguf_adapter", work / "lora", "--gguf_type", "f32", "--adapter_name_or_path", adapter)
        compare("an adapter over its base", of_loraine(model, "--adapter_name_or_path", adapter), of_llama_cpp(base, beside), TYPES["f32"])
    return 1 if interop_checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
