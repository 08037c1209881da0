"""Speed of loraine's tokenizer and of the `tokenizers` library, one thread each, in one run and on the same texts.

python bench/tokenizer.py --program build/bench_tokenizer --data FOLDER [--rounds 5] [--hostile] TOKENIZER.json...
(also a tokenizer.json.xz). The texts are English, Chinese and code of 2.5 MB each (corpora.py). Both sides see a text whole and, for
the library, also line by line, of which the faster counts; ids must be equal. Processor time, best and first of the rounds: the first one
begins without any remembered word. --hostile: a million and two million of one character, time per byte.
"""
import argparse
import json
import lzma
import os
import subprocess
import sys
import tempfile
import time

os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["RAYON_NUM_THREADS"] = "1"
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import corpora  # noqa: E402

HOSTILE = {"spaces": " ", "a": "a", "é": "é", "emoji": "\U0001F600", "newlines": "\n", "e with marks": "e\u0323\u0301", "中": "中", "digits": "7"}


def fingerprint(ids):
    h = 14695981039346656037
    for i in ids:
        h = ((h ^ i) * 1099511628211) & (2**64 - 1)
    return h


def seconds_of(work):
    start = time.process_time()
    result = work()
    return time.process_time() - start, result


def run_program(program, tokenizer, files, rounds):
    out = subprocess.run([program, tokenizer, "--repeats", str(rounds), *files], capture_output=True, text=True, check=True).stdout
    lines = [json.loads(line) for line in out.splitlines()]
    return lines[0]["load_seconds"], lines[1:]


def compare(program, name, path, texts, rounds):
    import tokenizers
    library_load, library = seconds_of(lambda: tokenizers.Tokenizer.from_file(path))
    load, results = run_program(program, path, list(texts.values()), rounds)
    print(f"{name}: loaded in {load:.3f} s, the library in {library_load:.3f} s")
    for kind, ours in zip(texts, results):
        with open(texts[kind], encoding="utf-8", newline="") as f:
            text = f.read()
        whole, encoding = seconds_of(lambda: library.encode(text, add_special_tokens=False))
        lines = text.splitlines(keepends=True)
        by_line, _ = seconds_of(lambda: library.encode_batch_fast(lines, add_special_tokens=False))
        same = fingerprint(encoding.ids) == ours["fingerprint"]
        mb = ours["bytes"] / 1e6
        theirs = mb / min(whole, by_line)
        best, first = mb / min(ours["seconds"]), mb / ours["seconds"][0]
        print(f"  {kind:8} {best:6.1f} MB/s, first {first:6.1f}; library {theirs:5.2f} ({mb / whole:.2f} whole, {mb / by_line:.2f} by line); "
              f"ratio {best / theirs:5.1f}, first {first / theirs:5.1f}; ids {'equal' if same else 'DIFFER'}", flush=True)


def hostile(program, path, folder):
    files = {}
    for name, unit in HOSTILE.items():
        for million in (1, 2):
            file = os.path.join(folder, f"{name}-{million}.txt")
            with open(file, "w", encoding="utf-8", newline="") as f:
                f.write(unit * (million * 1_000_000))
            files[name, million] = file
    _, results = run_program(program, path, list(files.values()), 3)
    per_byte = {key: min(r["seconds"]) / r["bytes"] * 1e9 for key, r in zip(files, results)}
    for name in HOSTILE:
        one, two = per_byte[name, 1], per_byte[name, 2]
        print(f"  {name:12} {one:6.1f} ns a byte at a million, {two:6.1f} at two ({two / one:.2f}x); {1000 / two:5.1f} MB/s", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--data", required=True, help="LLaMA-Factory's demo data")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--hostile", action="store_true")
    parser.add_argument("files", nargs="+")
    a = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        texts = corpora.build(a.data, folder)
        for file in a.files:
            name = os.path.basename(os.path.dirname(file)) if os.path.basename(file).startswith("tokenizer.json") else os.path.basename(file)
            path = file
            if file.endswith(".xz"):
                path = os.path.join(folder, "tokenizer.json")
                with lzma.open(file) as packed, open(path, "wb") as f:
                    f.write(packed.read())
            if a.hostile:
                print(name)
                hostile(a.program, path, folder)
            else:
                compare(a.program, name, path, texts, a.rounds)


if __name__ == "__main__":
    main()
