#!/usr/bin/env python3
"""Compares how build/loraine reads GGUF files with llama.cpp's own converters, on the small models of the recorded cases. Called by
tools/interop.sh; needs torch and transformers, and LLAMA_CPP: a folder with llama.cpp's conversion/ and gguf-py/ (else they are taken from
the source package of llama-cpp-python).

    interop_gguf.py [--golden DIR] [CASE ...]

Of every case: tensors (what `loraine convert` writes from the F32 file, against the folder: 0, norms that are stored + 1: 1e-6), logits of the
F32 file against the folder (1e-5), logits of the Q8_0 file against its own unpacked weights (1e-4); and, where the package llama-cpp-python is
installed, logits of the F32 file against llama.cpp's own, as a part of the largest (`by_llama_cpp`). And the F32 file that `loraine export` writes
of the folder, where its family is written: tensors (exact; 1e-6 for factors of rotations) and the architecture's keys against those of the converter's."""
import argparse
import contextlib
import io
import json
import importlib.util
import logging
import os
import pathlib
import re
import subprocess
import sys
import tarfile
import tempfile

os.environ["HF_HUB_OFFLINE"] = "1"
root = pathlib.Path(__file__).resolve().parent.parent
program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))


def converters():
    """The folder with llama.cpp's converters, or None after a line that says why."""
    given = os.environ.get("LLAMA_CPP")
    folder = pathlib.Path(given) if given else pathlib.Path(sys.prefix) / "llama_cpp"
    if not given and not (folder / "conversion").is_dir():
        pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        with tempfile.TemporaryDirectory() as place:
            done = subprocess.run(pip + ["install", "scikit-build-core"], capture_output=True)
            done = done.returncode or subprocess.run(
                pip + ["download", "--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--dest", place, "llama-cpp-python"], capture_output=True).returncode
            for package in pathlib.Path(place).glob("*.tar.gz"):
                with tarfile.open(package) as source:
                    for member in source:
                        path = member.name.split("/vendor/llama.cpp/")[-1]
                        if member.isfile() and re.match(r"(conversion|gguf-py)/", path):
                            (folder / path).parent.mkdir(parents=True, exist_ok=True)
                            (folder / path).write_bytes(source.extractfile(member).read())
    if not (folder / "conversion").is_dir():
        return print(f"skip  interop_gguf: no llama.cpp converters in {folder} and the package llama-cpp-python is not there")
    sys.path[:0] = [str(folder), str(folder / "gguf-py")]
    return folder


# What config.json can say and a GGUF cannot, in llama.cpp's rule; and keys of published files that transformers 5 writes no more.
def plain(config, text):
    kind, rope, layers = text["model_type"], text.get("rope_parameters") or {}, text.get("num_hidden_layers", 0)
    head_dim = text.get("head_dim") or text.get("hidden_size", 0) // text.get("num_attention_heads", 1)
    pattern = lambda n: ["full_attention" if (layer + 1) % n == 0 else "sliding_attention" for layer in range(layers)]
    if kind in ("gemma2", "gemma3_text"):
        text["query_pre_attn_scalar"] = head_dim
    if kind in ("gemma3_text", "cohere2"):
        text["layer_types"] = pattern({"gemma3_text": 6, "cohere2": 4}[kind])
    if kind == "cohere2":
        text["rotary_pct"] = 1.0
    if kind == "smollm3":
        text["no_rope_layers"] = [int((layer + 1) % 4 != 0) for layer in range(layers)]
    if kind in ("starcoder2", "mistral", "mixtral", "phi3", "ministral3") and text.get("sliding_window"):
        text["sliding_window"] = None
    if rope.get("rope_type") == "dynamic" and not kind.startswith("hunyuan"):
        text["rope_parameters"] = {"rope_type": "default", "rope_theta": rope["rope_theta"]}
    if kind == "gpt_neox":
        text["rotary_pct"] = rope["partial_rotary_factor"]
    if kind == "granite_swa":
        text["layer_rope_theta"] = [rope["rope_theta"]] * layers
    if kind == "granitemoehybrid":
        text["layer_types"] = [{"full_attention": "attention", "linear_attention": "mamba"}.get(one, one) for one in text["layer_types"]]
        text["num_experts_per_tok"] = text["num_experts_per_tok"] if text.get("num_local_experts") else 0
    if kind == "falcon_h1":
        text["head_dim"] = head_dim
    if kind == "kimi_linear":  # as published: layers are counted from 1
        number = lambda kind: [layer + 1 for layer in range(layers) if text["layer_types"][layer] == kind]
        text["linear_attn_config"] = {"full_attn_layers": number("full_attention"), "kda_layers": number("linear_attention"), "num_heads": text["linear_num_heads"],
                                      "head_dim": text["linear_head_dim"], "short_conv_kernel_size": text["linear_conv_kernel_dim"]}
        text["first_k_dense_replace"] = text["mlp_layer_types"].count("dense")
    if kind == "hunyuan_v1_moe":
        text["moe_intermediate_size"] = [text["intermediate_size"]] * layers
        text["num_shared_expert"] = [1] * layers
        text["num_shared_expert"] = [1] * layers
        text["moe_topk"] = [text["moe_topk"]] * layers if isinstance(text["moe_topk"], int) else text["moe_topk"]
    if kind.startswith("hunyuan"):
        text["max_position_embeddings"], rope["rope_theta"] = 32768, 10000.0
    if kind in ("gemma4_text", "qwen3_5_text", "qwen3_5_moe_text", "qwen3_next") and "vocab_size" in text:
        text.setdefault("tie_word_embeddings", config.get("tie_word_embeddings", False))
    if kind in ("deepseek_v3", "glm4_moe_lite", "youtu", "dots1", "minimax_m2"):
        text.setdefault("scoring_func", "sigmoid")
    if kind == "glm4_moe_lite" and "mlp_layer_types" in text:
        text["first_k_dense_replace"] = text["mlp_layer_types"].count("dense")
    if kind == "bamba":
        text.setdefault("attn_rotary_emb", int(rope.get("partial_rotary_factor", 1) * head_dim))
    if kind == "mistral4":
        rope.pop("llama_4_scaling_beta", None)
    if kind == "minicpm3":
        text["scale_emb"], text["scale_depth"], text["dim_model_base"] = 12, 1.4, 256
    if kind == "llama4_text":
        text["attention_chunk_size"], text["floor_scale"], text["attn_scale"] = 8192, 8192, 0.1
        text["no_rope_layers"] = [int((layer + 1) % 4 != 0) for layer in range(layers)]
        text["layer_types"] = ["chunked_attention" if rotates else "full_attention" for rotates in text["no_rope_layers"]]
    if kind == "phimoe":
        text["sliding_window"] = None
        rope.setdefault("original_max_position_embeddings", text["max_position_embeddings"])
    if kind in ("qwen3_5_text", "qwen3_5_moe_text"):
        rope.setdefault("mrope_section", [11, 11, 10])
    if rope.get("mrope_section") and 2 * sum(rope["mrope_section"]) > rope.get("partial_rotary_factor", 1) * head_dim:
        pairs = int(rope.get("partial_rotary_factor", 1) * head_dim) // 2
        rope["mrope_section"] = [(pairs + 2) // 3, (pairs + 1) // 3, pairs // 3]
    if kind in ("qwen3_moe", "qwen2_moe"):
        text["norm_topk_prob"] = kind == "qwen3_moe"


def as_converted(text):
    """The converters take the rotated part of hidden_size / heads, whatever head_dim is, and chatglm's knows its epsilon by another name."""
    if text["model_type"] == "glm":
        text["rms_norm_eps"] = 1e-5
    if text["model_type"] in ("glm", "nemotron"):
        text["rope_parameters"]["partial_rotary_factor"] *= text["hidden_size"] / text["num_attention_heads"] / text["head_dim"]


# What some families are called there.
architectures = {"phimoe": "PhiMoEForCausalLM", "mistral4": "Mistral3ForConditionalGeneration"}


def as_gemma3n(given, text):
    """The same weights, again and again, in the only sizes that llama.cpp has: 4 streams, 256 inputs of each layer, LAuReL of rank 64; and wide
    MLPs, since it divides by one less when it takes the deviation of their gates."""
    import numpy

    width, layers, vocabulary, inner = 256, text["num_hidden_layers"], text["vocab_size"], 2304
    sizes = {"correction_coefs": (4, 4), "prediction_coefs": (16, 4), "modality_router": (4, None), "linear_left": (64, None), "linear_right": (None, 64),
             "mlp.gate_proj": (inner, None), "mlp.up_proj": (inner, None), "mlp.down_proj": (None, inner), "per_layer_input_gate": (width, None), "per_layer_projection.weight": (None, width), "post_per_layer_input_norm": (None,),
             "per_layer_model_projection": (layers * width, None), "per_layer_projection_norm": (width,), "embed_tokens_per_layer": (vocabulary, layers * width)}
    kept = {}
    for name, value in given.items():
        shape = next((shape for part, shape in sizes.items() if part in name), value.shape)
        shape = [new or old for new, old in zip(shape, value.shape)]
        kept[name] = numpy.pad(value, [(0, new - old) for new, old in zip(shape, value.shape)], "wrap")
        if "altup" in name and "projections.0." in name:
            kept.update({name.replace(".0.", f".{i}."): numpy.ascontiguousarray(numpy.roll(value, i, 0)) for i in (1, 2)})
    for layer in range(layers - text["num_kv_shared_layers"], layers):  # as published: with keys and values, which llama.cpp wants there; here they are used
        for part in ("k_proj", "v_proj", "k_norm"):
            kept[f"model.layers.{layer}.self_attn.{part}.weight"] = numpy.roll(kept[f"model.layers.0.self_attn.{part}.weight"], layer, 0)
    text.update(intermediate_size=[inner] * layers, activation_sparsity_pattern=[0.95] * layers, num_kv_shared_layers=0, layer_types=["full_attention" if (layer + 1) % 5 == 0 else "sliding_attention" for layer in range(layers)])
    text.update(altup_num_inputs=4, hidden_size_per_layer_input=width, laurel_rank=64, vocab_size_per_layer_input=vocabulary)
    return kept


def altered(folder, text):
    """Writes the folder's weights anew where llama.cpp's code has no room for the case's shape: layers without experts, fewer keys than heads."""
    from safetensors.numpy import save_file

    dense, of_keys = text.get("mlp_only_layers"), text.get("num_key_value_heads")
    if text["model_type"] == "qwen2_moe" and dense:
        sparse = next(layer for layer in range(text["num_hidden_layers"]) if layer not in dense)
        kept = {name: value for name, value in weights(folder).items() if not re.search(rf"layers\.({'|'.join(map(str, dense))})\.mlp", name)}
        for layer in dense:
            kept.update({name.replace(f"layers.{sparse}.", f"layers.{layer}."): value for name, value in kept.items() if f"layers.{sparse}.mlp." in name})
        text["mlp_only_layers"] = []
    elif text["model_type"] == "olmoe" and of_keys != text["num_attention_heads"]:
        each = text["num_attention_heads"] // of_keys
        kept = {name: value.reshape(of_keys, -1).repeat(each, 0).reshape(-1, *value.shape[1:]) if re.search(r"self_attn\.(k|v)_(proj|norm)", name) else value
                for name, value in weights(folder).items()}
        text["num_key_value_heads"] = text["num_attention_heads"]
    elif text["model_type"] == "gemma3n_text":
        kept = as_gemma3n(weights(folder), text)
    else:
        return
    for file in [*folder.glob("*.safetensors"), *folder.glob("*.index.json")]:
        file.unlink()
    save_file(kept, folder / "model.safetensors", {"format": "pt"})


def prepared(model, folder):
    """The case's model with the config of `plain` and a vocabulary of names, which some converters look at."""
    folder.mkdir()
    for file in model.iterdir():
        (folder / file.name).symlink_to(file)
    config = json.loads((model / "config.json").read_text())
    text = config.get("text_config", config)
    plain(config, text)
    altered(folder, text)
    config["architectures"] = [architectures.get(config["model_type"], config["architectures"][0])]
    tokens = {f"t{i}": i for i in range(text["vocab_size"])}
    for name, value in {"config.json": config, "tokenizer.json": {"added_tokens": [], "model": {"type": "BPE", "vocab": tokens, "merges": []}}, "tokenizer_config.json": {}}.items():
        (folder / name).unlink(missing_ok=True)
        (folder / name).write_text(json.dumps(value))
    return folder


def convert(folder, to, kind):
    """By llama.cpp's converter, without a tokenizer."""
    import gguf
    import torch
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    types = {"f32": gguf.LlamaFileType.ALL_F32, "q8_0": gguf.LlamaFileType.MOSTLY_Q8_0}
    read, load = json.loads((folder / "config.json").read_text()), ModelBase.load_hparams
    def complete(known, also):
        inner = {key: complete(known[key], also[key]) for key in known if isinstance(known[key], dict) and isinstance(also.get(key), dict)}
        return {**also, **known, **inner}

    def without_vocabulary(self):
        self.gguf_writer.add_tokenizer_model("no_vocab")
        if f"{self.gguf_writer.arch}.vocab_size" not in self.gguf_writer.kv_data[0]:
            self.gguf_writer.add_vocab_size(self.hparams["vocab_size"])

    ModelBase.load_hparams = staticmethod(lambda *given, **named: complete(load(*given, **named), read))  # AutoConfig leaves out keys it does not know
    try:
        found = get_model_class(get_model_architecture(ModelBase.load_hparams(folder, False), ModelType.TEXT), mmproj=False)
        for base in {base for one in (found, *vars(found).values()) if isinstance(one, type) for base in one.__mro__}:
            if "set_vocab" in vars(base):
                base.set_vocab = without_vocabulary
        with torch.inference_mode(), contextlib.redirect_stderr(io.StringIO()):
            found(folder, types[kind], to, eager=True).write()
    finally:
        ModelBase.load_hparams = staticmethod(load)


class Refused(Exception):
    pass


def loraine(*arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode:
        raise Refused((done.stderr or done.stdout).strip().splitlines()[0])


def logits(model, batch, place):
    from safetensors.numpy import load_file

    loraine("trace", "--model_name_or_path", model, "--batch", batch, "--output", place / "out.safetensors")
    return load_file(place / "out.safetensors")["logits"]


# The largest difference to llama.cpp's own logits that is allowed, as a part of the largest logit: its f32, but for what it looks up in
# tables of half precision (GELU, and SiLU inside its state-space layers). Cases that it computes in another way on purpose are named.
def by_llama_cpp(case):
    if case == "gemma3n":  # all its gates but the largest are cut off, which makes more of the tables' roundings
        return 1e-2
    return 3e-3 if case == "phi" or case.startswith(("gemma", "gpt_neox", "starcoder2")) else 1e-4


other_in_llama_cpp = {"bamba": "it turns other columns where a part of each head turns",
                      "phimoe": "it takes a softmax where the family has its sparse mixer"}


def of_llama_cpp(model, batch, place):
    """Its logits; None without the package; text where it does not take the model."""
    from safetensors.numpy import load_file

    if not importlib.util.find_spec("llama_cpp"):
        return None
    out = place / "llama_cpp.safetensors"
    done = subprocess.run([sys.executable, root / "tools/llama_cpp_logits.py", model, batch, out], capture_output=True, text=True)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if re.search("error|assert|GGML_ASSERT|exception|failed", line)]
        return (lines or done.stderr.splitlines() or ["ended"])[0][:160]
    return load_file(out)["logits"]


def llama_cpp_difference(case, ours, theirs, batch):
    """A note and whether it is within the limit."""
    import numpy
    from safetensors.numpy import load_file

    if theirs is None or isinstance(theirs, str):
        return "" if theirs is None else f", llama.cpp: {theirs}", True
    kept = load_file(batch)["attention_mask"].astype(bool)
    ours, theirs = ours[kept], theirs[kept]
    far = float(numpy.abs(ours - theirs).max() / numpy.abs(theirs).max())
    if case in other_in_llama_cpp:
        return f", llama.cpp {far:.1e} ({other_in_llama_cpp[case]})", True
    return f", llama.cpp {far:.1e}", far <= by_llama_cpp(case)


# Read under other names, or with other values that come to the same.
other_tensors = {"bamba": "is read as granitemoehybrid", "falcon_h1": "has its multipliers in the weights"}


def weights(folder):
    from safetensors.numpy import load_file

    return {name: value for file in sorted(folder.glob("*.safetensors")) for name, value in load_file(file).items()}


def tensor_difference(case, folder):
    """The largest difference, and a line on names that are not on both sides (towers are left out)."""
    import numpy

    here, there = {re.sub(r"^language_model\.(model\.|(?=lm_head))", lambda m: m[1], name).replace("model.language_model.", "model."): value
                   for name, value in weights(case).items()}, weights(folder)
    here = {name: value for name, value in here.items() if not re.search("vision|multi_modal|visual", name)}
    for name in [name for name in here if name.endswith("shared_mlp.input_linear.weight") and name not in there]:  # Granite 4 without experts is Granite
        layer = name.split("shared_mlp")[0] + "mlp."
        here[layer + "gate_proj.weight"], here[layer + "up_proj.weight"] = numpy.split(here.pop(name), 2)
        here[layer + "down_proj.weight"] = here.pop(name.replace("input_linear", "output_linear"))
    lacking = sorted(set(here) ^ set(there))
    shapes = [name for name in set(here) & set(there) if here[name].shape != there[name].shape]
    worst = max((float(numpy.abs(here[name] - there[name]).max()) for name in set(here) & set(there) if name not in shapes), default=0)
    note = f" names on one side: {', '.join(lacking[:3])} ({len(lacking)})" if lacking else ""
    return worst, note + (f" shapes differ: {shapes[0]} ({len(shapes)})" if shapes else "")


# Keys that the converters write and that say nothing (or what is the default), or differ by what the case lacks.
not_compared = re.compile(r"\.(vocab_size|rope\.scaling\.type|attention\.(key|value)_length)$")


def written_difference(folder, place):
    """A note on the file that loraine writes of the folder against the converter's F32 file, and whether they agree; empty where it is not written."""
    import numpy
    from gguf import GGUFReader

    bare = place / "bare"
    bare.mkdir()
    for file in folder.iterdir():
        if not file.name.startswith("tokenizer"):
            (bare / file.name).symlink_to(file.resolve())
    try:
        loraine("export", "--model_name_or_path", bare, "--export_dir", place / "written", "--export_format", "gguf", "--gguf_type", "f32")
    except Refused as refusal:
        known = re.search("is not written|llama.cpp computes|has no place|in another form|with more parts", str(refusal))
        return f", not written: {str(refusal)[:90]}", bool(known)
    ours, theirs = GGUFReader(place / "written/model-f32.gguf"), GGUFReader(place / "f32.gguf")
    here, there = ({tensor.name: numpy.array(tensor.data) for tensor in one.tensors} for one in (ours, theirs))
    if set(here) != set(there):
        return f", written: names on one side: {', '.join(sorted(set(here) ^ set(there))[:3])}", False
    shapes = [name for name in here if here[name].shape != there[name].shape]
    if shapes:
        return f", written: {shapes[0]} has another shape", False
    worst = max(float(numpy.abs(here[name] - there[name]).max()) for name in here)
    architecture = theirs.get_field("general.architecture").contents()
    fields = [{name: one.get_field(name).contents() for name in one.fields if name.startswith(architecture + ".") and not not_compared.search(name)} for one in (ours, theirs)]
    usual = {architecture + ".rope.freq_base": 10000.0}  # what llama.cpp takes where a file does not say
    other = [name for name in set(fields[0]) | set(fields[1]) if fields[0].get(name, usual.get(name)) != fields[1].get(name, usual.get(name))]
    note = f" keys {', '.join(f'{name} {fields[0].get(name)} {fields[1].get(name)}' for name in sorted(other)[:3])}" if other else ""
    return f", written {worst:.1e}{note}", worst <= 1e-6 and not other


def one(case, place):
    """The case's line and whether all is well."""
    import numpy

    folder, batch = prepared(case / "model", place / "model"), case / "base.safetensors"
    try:
        for kind in ("f32", "q8_0"):
            convert(folder, place / f"{kind}.gguf", kind)
    except (NotImplementedError, KeyError, ValueError, AssertionError, TypeError) as error:
        return f"llama.cpp's converter does not take it: {type(error).__name__} {str(error)[:80]}", None
    try:
        loraine("convert", place / "f32.gguf", place / "f32")
    except Refused as refusal:
        return f"not read: {str(refusal)[:200]}", None
    config = json.loads((folder / "config.json").read_text())
    as_converted(config.get("text_config", config))
    (folder / "config.json").write_text(json.dumps(config))
    worst, note = (0, " " + other_tensors[case.name]) if case.name in other_tensors else tensor_difference(folder, place / "f32")
    good, line = worst <= 1e-6 and (not note or case.name in other_tensors), f"tensors {worst:.1e}{note}"
    try:
        whole = logits(folder, batch, place)
    except Refused as refusal:
        return f"{line}, the folder itself: {str(refusal)[:120]}", good
    try:
        of_file = logits(place / "f32.gguf", batch, place)
        f32 = float(numpy.abs(of_file - whole).max())
        loraine("convert", place / "q8_0.gguf", place / "q8_0")
        halves = json.loads((place / "q8_0/config.json").read_text())["torch_dtype"] != "float32"  # no row divides by 32
        q8_0 = 0 if halves else float(numpy.abs(logits(place / "q8_0.gguf", batch, place) - logits(place / "q8_0", batch, place)).max())
    except Refused as refusal:
        return f"{line}, {refusal}", False
    wrote, same = written_difference(folder, place)
    note, near = llama_cpp_difference(case.name, of_file, of_llama_cpp(place / "f32.gguf", batch, place), batch)
    return f"{line}, logits F32 {f32:.1e}, Q8_0 {'-' if halves else format(q8_0, '.1e')}{note}{wrote}", good and near and same and f32 <= 1e-5 and q8_0 <= 1e-4


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--golden", type=pathlib.Path, default=root.parent / "shared/golden/peft")
    parser.add_argument("cases", nargs="*")
    arguments = parser.parse_args()
    if not arguments.golden.is_dir():
        return print(f"skip  interop_gguf: no recorded cases in {arguments.golden}")
    if not converters():
        return None
    logging.disable(logging.WARNING)
    names = arguments.cases or sorted(model.parent.name for model in arguments.golden.glob("*/model"))
    counts = {True: 0, False: 0, None: 0}
    for name in names:
        if not arguments.cases and re.search(r"_(experts|all_linear|aux)$", name):
            continue  # the same models
        with tempfile.TemporaryDirectory() as place:
            line, good = one(arguments.golden / name, pathlib.Path(place))
        counts[good] += 1
        print(f"{ {True: 'ok', False: 'FAIL', None: '-'}[good]:4} {name}: {line}", flush=True)
    print(f"{counts[True]} agree, {counts[False]} do not, {counts[None]} are not read")
    return counts[False]


sys.exit(main())
