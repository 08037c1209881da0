#!/usr/bin/env python3
"""Importance matrices beside llama.cpp's and transformers': the sums that `loraine export` computes against those of hooks on transformers' linear layers, and the tensors
of every type that it writes with them against those of llama_model_quantize with the same matrix, byte for byte; a model in parts against the whole. Called by tools/interop.sh;
needs torch, transformers, gguf and llama-cpp-python, and does nothing without them. LORAINE_PROGRAM names the program."""
import ctypes
import importlib.util
import json
import pathlib
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tests/support"))
import interop_checks
import tiny_model as tiny
from interop_checks import check

TYPES = dict(q4_0=2, q4_1=3, q5_0=8, q5_1=9, q8_0=7, q4_k_s=14, q4_k_m=15, q5_k_s=16, q5_k_m=17, q6_k=18)
chunks, length = 6, 64


def main():
    missing = [name for name in ("llama_cpp", "gguf", "torch", "transformers") if not importlib.util.find_spec(name)]
    if missing:
        return print(f"skip  interop_gguf_imatrix: {', '.join(missing)} are not there")
    import gguf
    import llama_cpp
    import numpy
    import torch
    import transformers
    from safetensors.numpy import load_file, save_file

    def tensors(path):
        return {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}

    def quantised(source, target, kind, matrix):
        """llama-quantize's own code, with the matrix as it takes it: sums by counts."""
        values = [(name, (sums / matrix[f"{name}.counts"].data.reshape(-1)[0]).astype(numpy.float32).reshape(-1)) for name, sums in
                  ((tensor.name[:-8], tensor.data) for tensor in matrix.values() if tensor.name.endswith(".in_sum2"))]
        entries = (llama_cpp.llama_model_imatrix_data * (len(values) + 1))()
        for entry, (name, data) in zip(entries, values):
            entry.name, entry.data, entry.size = name.encode(), data.ctypes.data_as(ctypes.POINTER(ctypes.c_float)), data.size
        parameters = llama_cpp.llama_model_quantize_default_params()
        parameters.ftype, parameters.nthread, parameters.imatrix = kind, 1, ctypes.cast(entries, ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
        return llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(parameters))

    with tempfile.TemporaryDirectory() as holder:
        work = pathlib.Path(holder)
        model = tiny.write_model(work / "model", vocab=259, channels=256, inner=512, layers=9, heads=4, kv_heads=2)
        tiny.write_byte_tokenizer(model)
        weights = load_file(model / "model.safetensors")  # random layers as large as the stream would answer otherwise at every rounding
        save_file({name: value * (0.1 if name.startswith("model.layers.") and "norm" not in name else 1) for name, value in weights.items()}, model / "model.safetensors")
        text = " ".join(f"{n} stones lie under {n * n % 97} rivers" for n in range(60))
        (work / "text.txt").write_text(text + "\n")

        def export(into, *more):
            code, said = tiny.run("export", "--model_name_or_path", model, "--export_dir", work / into, "--export_format", "gguf", *more)
            return work / into if code == 0 else sys.exit(said)

        calibrated = ("--export_quantization_dataset", work / "text.txt", "--export_quantization_nsamples", chunks, "--export_quantization_maxlen", length)
        plain = export("f32", "--gguf_type", "f32") / "model-f32.gguf"
        first = export("q4_k_m", "--gguf_type", "q4_k_m", *calibrated)
        matrix = tensors(first / "imatrix.gguf")

        ids = transformers.AutoTokenizer.from_pretrained(model)(text)["input_ids"][: chunks * length]
        reference = transformers.AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)
        sums = {}
        for name, module in reference.named_modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_pre_hook(lambda _, given, name=name: sums.__setitem__(name, sums.get(name, 0) + given[0].double().pow(2).sum((0, 1))))
        with torch.no_grad():
            for at in range(0, len(ids), length):
                reference(torch.tensor([ids[at : at + length]]))
        names = {"attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj", "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj",
                 "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
        worst, seen = 0, 0
        for layer in range(9):
            for short, long in names.items():
                ours, theirs = matrix[f"blk.{layer}.{short}.weight.in_sum2"].data.reshape(-1), sums[f"model.layers.{layer}.{long}"].numpy()
                worst, seen = max(worst, (abs(ours - theirs) / theirs.max()).max()), seen + 1
                worst = max(worst, abs(matrix[f"blk.{layer}.{short}.weight.counts"].data.reshape(-1)[0] - len(ids)))
        check(f"the sums of {seen} matrices beside transformers': apart by {worst:.1e} of the largest", seen * 2 == len(matrix) and worst <= 1e-4, "more than 1e-4, or other tensors")

        for kind, number in TYPES.items():
            ours = tensors(export(kind, "--gguf_type", kind, "--gguf_imatrix", first / "imatrix.gguf") / f"model-{kind}.gguf") if kind != "q4_k_m" else tensors(first / f"model-{kind}.gguf")
            code = quantised(plain, work / f"{kind}.gguf", number, matrix)
            theirs = tensors(work / f"{kind}.gguf")
            other = [name for name in theirs if theirs[name].tensor_type != ours[name].tensor_type or theirs[name].data.tobytes() != ours[name].data.tobytes()]
            check(f"{kind} with an importance matrix: {len(theirs)} tensors as llama_model_quantize makes them", code == 0 and not other and len(ours) == len(theirs), f"{other[:5]}")

        keys = json.loads((model / "config.json").read_text())
        print(f"      (model of {keys['num_hidden_layers']} layers, {len(ids)} tokens)")
    return 1 if interop_checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
