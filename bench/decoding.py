#!/usr/bin/env python3
"""Generation of loraine beside llama.cpp (llama-cpp-python) on the same GGUF file: tokens/s of reading a prompt and of decoding, and their ratio.

usage: PYTHON bench/decoding.py [--threads 2] [--rounds 3] [--prompt_tokens 256] [--new_tokens 48] [--json FILE] MODEL.gguf     PYTHON has llama_cpp

One sequence, batch 1. The two take turns, each in a process of its own, so that what else runs on the machine meets both; the best prompt and the best
token of all rounds count on either side. loraine's rows are whatever `loraine bench` measures on the file."""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))


def llama_round(model, threads, prompt_tokens, new_tokens):
    import llama_cpp

    llama = llama_cpp.Llama(model, n_ctx=prompt_tokens + new_tokens + 8, n_batch=prompt_tokens, n_ubatch=prompt_tokens, n_threads=threads, n_threads_batch=threads,
                            verbose=False)
    prompt = [i * 7919 % llama.n_vocab() for i in range(prompt_tokens)]
    best_prompt = best_token = float("inf")
    for attempt in range(3):
        llama.reset()
        begin = time.perf_counter()
        llama.eval(prompt)
        if attempt > 0:  # the first one touches the memory
            best_prompt = min(best_prompt, time.perf_counter() - begin)
        for i in range(new_tokens):
            begin = time.perf_counter()
            llama.eval([prompt[i % prompt_tokens]])
            if attempt > 0:
                best_token = min(best_token, time.perf_counter() - begin)
    print(json.dumps({"prefill": prompt_tokens / best_prompt, "decode": 1 / best_token, "version": f"llama-cpp-python {llama_cpp.__version__}"}))


def loraine_round(options):
    with tempfile.TemporaryDirectory() as folder:
        out = pathlib.Path(folder) / "bench.json"
        subprocess.run([program, "bench", "--model_name_or_path", options.model, "--tokens", "0", "--repeats", "2", "--prompt_tokens", str(options.prompt_tokens),
                        "--new_tokens", str(options.new_tokens), *(["--dtype", options.dtype] if options.dtype else []), "--json", out], check=True,
                       stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": str(options.threads)})
        return json.loads(out.read_text())


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--prompt_tokens", type=int, default=256)
    parser.add_argument("--new_tokens", type=int, default=48)
    parser.add_argument("--dtype", help="loraine's types, a comma list; left out: those of loraine bench")
    parser.add_argument("--json", type=pathlib.Path, help="file that gets the figures")
    parser.add_argument("--llama", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.llama:
        return llama_round(options.model, options.threads, options.prompt_tokens, options.new_tokens)
    ours, theirs = {}, {"prefill": 0, "decode": 0}
    for _ in range(options.rounds):
        done = subprocess.run([sys.executable, __file__, "--llama", "--threads", str(options.threads), "--prompt_tokens", str(options.prompt_tokens), "--new_tokens",
                               str(options.new_tokens), options.model], capture_output=True, text=True)
        if done.returncode:
            sys.exit(f"the round of llama.cpp failed; is llama-cpp-python installed for {sys.executable}?\n{done.stderr[-1500:]}")
        there = json.loads(done.stdout.splitlines()[-1])
        theirs = {"version": there["version"]} | {name: max(theirs[name], there[name]) for name in ("prefill", "decode")}
        here = loraine_round(options)
        for g in here["generation"]:
            best = ours.setdefault(g["dtype"], {"prefill": 0, "decode": 0, "adapter_decode": 0})
            for name in best:
                best[name] = max(best[name], g[name + "_tokens_per_second"])
    rows = [{"side": "llama.cpp", **{name: theirs[name] for name in ("prefill", "decode")}}]
    rows += [{"side": f"loraine, {dtype}", **best} for dtype, best in ours.items()]
    print("| | prefill tokens/s | ratio | decode tokens/s | ratio | with an adapter |\n|---|---|---|---|---|---|")
    for row in rows:
        with_adapter = f"{row['adapter_decode']:.1f}" if "adapter_decode" in row else ""
        print(f"| {row['side']} | {row['prefill']:.1f} | {row['prefill'] / theirs['prefill']:.2f} | {row['decode']:.1f} | {row['decode'] / theirs['decode']:.2f} | {with_adapter} |")
    print(f"\n{here['instruction_set']}, {options.threads} threads; {theirs['version']}; {pathlib.Path(options.model).name}")
    if options.json:
        options.json.write_text(json.dumps({"instruction_set": here["instruction_set"], "threads": options.threads, "load": round(os.getloadavg()[0], 1), "model": pathlib.Path(options.model).name,
                                            "version": theirs["version"], "rows": rows}, indent=1) + "\n")


main()
