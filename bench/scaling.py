#!/usr/bin/env python3
"""How a training step scales: tokens/s and share of oneDNN's rate against tokens per micro-batch, threads, rank, sequence length, model size.

usage: python3 bench/scaling.py [--only tokens,threads,rank,length,size] [--repeats 3] [--dtype f32,bf16] [--json docs/images/data/scaling.json]

Every point is a run of `loraine bench` with random weights of SmolLM2-135M's shape (model size: of three shapes, written to a temporary folder, 2.5 GB for
the largest). bench/plots.py draws the file, with the load of the machine (all threads
that were ready, the measured ones too) at the end of the points. --json keeps what the file has of curves that are not measured."""
import argparse
import json
import os
import pathlib
import random
import struct
import subprocess
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))

SHAPES = {
    "135M": dict(vocab_size=49152, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9, num_key_value_heads=3),
    "360M": dict(vocab_size=49152, hidden_size=960, intermediate_size=2560, num_hidden_layers=32, num_attention_heads=15, num_key_value_heads=5),
    "1B": dict(vocab_size=128256, hidden_size=2048, intermediate_size=8192, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8),
}


def write_model(folder, shape):
    """A Llama with tied embeddings in bf16: numbers below 0.1 from one block that repeats, norms of ones."""
    C, F, D = shape["hidden_size"], shape["intermediate_size"], 64
    sizes = {"model.embed_tokens.weight": [shape["vocab_size"], C], "model.norm.weight": [C]}
    for layer in range(shape["num_hidden_layers"]):
        at = f"model.layers.{layer}."
        kv, q = shape["num_key_value_heads"] * D, shape["num_attention_heads"] * D
        sizes |= {at + "self_attn.q_proj.weight": [q, C], at + "self_attn.k_proj.weight": [kv, C], at + "self_attn.v_proj.weight": [kv, C],
                  at + "self_attn.o_proj.weight": [C, q], at + "mlp.gate_proj.weight": [F, C], at + "mlp.up_proj.weight": [F, C],
                  at + "mlp.down_proj.weight": [C, F], at + "input_layernorm.weight": [C], at + "post_attention_layernorm.weight": [C]}
    header, offset = {}, 0
    for name, size in sizes.items():
        count = size[0] * (size[1] if len(size) > 1 else 1)
        header[name] = {"dtype": "BF16", "shape": size, "data_offsets": [offset, offset + 2 * count]}
        offset += 2 * count
    draw = random.Random(1)
    block = b"".join(struct.pack("<H", struct.unpack("<I", struct.pack("<f", draw.uniform(-0.05, 0.05)))[0] >> 16) for _ in range(65521))
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    folder.mkdir()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for entry in header.values():
            left = entry["data_offsets"][1] - entry["data_offsets"][0]
            piece = struct.pack("<H", 0x3F80) * (left // 2) if len(entry["shape"]) == 1 else block
            while left > 0:
                file.write(piece[:left])
                left -= len(piece)
    config = dict(architectures=["LlamaForCausalLM"], model_type="llama", max_position_embeddings=8192, rms_norm_eps=1e-5, rope_theta=100000.0, head_dim=D,
                  tie_word_embeddings=True, hidden_act="silu", bos_token_id=1, eos_token_id=2, torch_dtype="bfloat16")
    (folder / "config.json").write_text(json.dumps(config | shape))


def bench(options, *, threads=None, **arguments):
    """The figures of training steps, with what was varied."""
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        words = [word for name, value in ({"new_tokens": 0, "repeats": options.repeats, "dtype": options.dtype} | arguments).items() for word in (f"--{name}", str(value))]
        environment = os.environ | ({"OMP_NUM_THREADS": str(threads)} if threads else {})
        subprocess.run([program, "bench", *words, "--json", out], check=True, stdout=subprocess.DEVNULL, env=environment)
        report = json.loads(out.read_text())
    kept = ("dtype", "tokens", "rank", "tokens_per_second", "flops_per_token", "flops_per_second", "library_flops_per_second", "share", "cpu_share", "peak_bytes")
    points = [{name: entry[name] for name in kept} | {"threads": report["threads"]} for entry in report["training"]]
    for p in points:
        print(f"{report['instruction_set']}, {p['threads']} threads: {p['dtype']}, {p['tokens']} tokens, rank {p['rank']}: {p['tokens_per_second']:.1f} tokens/s, "
              f"{1e-9 * p['flops_per_second']:.1f} GFLOP/s, {100 * p['share']:.0f} % of oneDNN ({100 * p['cpu_share']:.0f} % by processor time), {p['peak_bytes'] >> 20} MiB", flush=True)
    return [p | {"machine": f"{report['instruction_set']}, {os.cpu_count()} cores", "load": round(os.getloadavg()[0], 1)} for p in points]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="tokens,threads,rank,length,size")
    parser.add_argument("--tokens", default="64,128,256,512,1024,2048")
    parser.add_argument("--threads", help="a comma list; left out: 1, 2, 4, … up to all cores")
    parser.add_argument("--ranks", default="4,8,16,32,64,128,256")
    parser.add_argument("--lengths", default="1024,2048,4096,8192,16384")
    parser.add_argument("--sizes", default="135M,360M,1B")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--dtype", default="f32,bf16")
    parser.add_argument("--json", type=pathlib.Path, default=root / "docs/images/data/scaling.json")
    options = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    threads = options.threads or ",".join(str(2**i) for i in range(cores.bit_length()) if 2**i <= cores)
    report = json.loads(options.json.read_text()) if options.json.exists() else {}
    for curve in options.only.split(","):
        points = []
        if curve == "tokens":
            points += bench(options, tokens=options.tokens)
        elif curve == "threads":
            for n in threads.split(","):
                points += bench(options, threads=n, tokens=512)
        elif curve == "rank":
            for rank in options.ranks.split(","):
                points += bench(options, tokens=512, rank=rank)
        elif curve == "length":
            for length in options.lengths.split(","):
                points += bench(options, tokens=length, repeats=1)
        elif curve == "size":
            for size in options.sizes.split(","):
                with tempfile.TemporaryDirectory() as folder:
                    write_model(pathlib.Path(folder) / "model", SHAPES[size])
                    points += [p | {"size": size} for p in bench(options, tokens=512, repeats=1, model_name_or_path=pathlib.Path(folder) / "model")]
        else:
            parser.error(f"--only has '{curve}', expected tokens, threads, rank, length or size")
        report[curve] = points
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
