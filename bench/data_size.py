#!/usr/bin/env python3
"""What a data set's size costs: seconds before the first step, rows/s of reading and encoding, peak memory, processor time per
token of a step.

usage: python3 bench/data_size.py --tokenizer FOLDER [--rows 1000,10000,100000,1000000] [--steps 50] [--format jsonl] [--json FILE]

Writes alpaca data sets (the same rows on every machine), and runs `loraine train` on each with a tiny model of random weights, which takes the
tokenizer of FOLDER. Steps and batches are the same for all sizes, so what differs is the data's alone."""
import argparse
import json
import lzma
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import threading
import time

root = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root / "tests/support"))
import tiny_model  # noqa: E402

SYLLABLES = "ba con der es fi gra hol in ju ker lo men no or per qui ra ster tion un ver wa xe yon zu".split()


def words_of(count=6000):
    """Made-up words, the short ones first: as in prose, the first are drawn most."""
    n = len(SYLLABLES)
    one = list(SYLLABLES)
    two = [a + b for a in SYLLABLES for b in SYLLABLES]
    three = [two[(i * 7919) % (n * n)] + SYLLABLES[i % n] for i in range(count)]
    return (one + two + three)[:count]


def drawn(state):
    """The next of a row of numbers below 2^31, the same everywhere."""
    while True:
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        yield state >> 33


def phrases(count=20000):
    """Pieces of 10 words; the earlier a word stands in the list, the more often it is drawn."""
    words, numbers = words_of(), drawn(12345)
    return [" ".join(words[int((next(numbers) / 2**31) ** 3 * len(words))] for _ in range(10)) for _ in range(count)]


def rows(count):
    """Rows of 20 to 120 words: instruction, every third with an input, and output."""
    pieces, numbers = phrases(), drawn(54321)
    for i in range(count):
        picked = [pieces[next(numbers) % len(pieces)] for _ in range(2 + next(numbers) % 11)]
        first = (len(picked) + 3) // 4
        second = first + (1 if i % 3 == 0 and first + 1 < len(picked) else 0)
        yield {"instruction": f"{picked[0]} {i}? " + " ".join(picked[1:first]), "input": " ".join(picked[first:second]), "output": " ".join(picked[second:]) + "."}


def write_rows(folder, count, form):
    folder.mkdir()
    with open(folder / f"rows.{form}", "w") as file:
        for i, row in enumerate(rows(count)):
            head = "" if form == "jsonl" else "[\n" if i == 0 else ",\n"
            file.write(head + json.dumps(row) + ("\n" if form == "jsonl" else ""))
        if form == "json":
            file.write("\n]\n")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": f"rows.{form}"}}))
    return (folder / f"rows.{form}").stat().st_size


def write_model(folder, tokenizer):
    packed = tokenizer / "tokenizer.json.xz"
    text = lzma.open(packed, "rt").read() if packed.exists() else (tokenizer / "tokenizer.json").read_text()
    tokens = json.loads(text)
    highest = max([*tokens["model"]["vocab"].values(), *(added["id"] for added in tokens["added_tokens"])])
    tiny_model.write_model(folder, vocab=highest + 1, channels=32, inner=64, layers=2, heads=4, kv_heads=2)
    (folder / "tokenizer.json").write_text(text)
    shutil.copy(tokenizer / "tokenizer_config.json", folder)


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def run(model, data, out, steps):
    """Figures of one training run; the moments come from what it prints: the data's table (encoded), the planned peak (step 1 is next)."""
    command = [tiny_model.program, "train", "--stage", "sft", "--do_train", "true", "--finetuning_type", "lora", "--model_name_or_path", model, "--dataset", "rows",
               "--dataset_dir", data, "--output_dir", out, "--template", "alpaca", "--lora_rank", "8", "--lora_target", "all", "--learning_rate", "1e-4",
               "--per_device_train_batch_size", "2", "--gradient_accumulation_steps", "1", "--max_steps", steps, "--logging_steps", steps // 5, "--save_strategy", "no",
               "--include_num_input_tokens_seen", "non_padding", "--cutoff_len", "512"]
    moments, tokens, processor = {}, [], []

    def watch(stream, name):
        for line in stream:
            for word in ("training data", "memory forecast"):
                if word in line:
                    moments.setdefault(word, time.monotonic() - begin)
                    processor.append(cpu_seconds(process.pid))
            fields = line.replace("│", " ").split()
            if name == "err" and fields[:1] == ["tokens"] and not tokens:
                tokens.append(int(fields[-1].replace(",", "")))

    def watch_steps():
        """(tokens done, processor seconds) at every line of the log"""
        log = out / "trainer_log.jsonl"
        while not over.wait(0.005):
            lines = log.read_text().splitlines() if log.exists() else []
            if len(lines) > len(marks):
                marks.append((json.loads(lines[len(marks)])["total_tokens"], cpu_seconds(process.pid)))

    marks, over = [], threading.Event()
    begin = time.monotonic()
    process = subprocess.Popen(list(map(str, command)), stdout=subprocess.PIPE, stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True)
    watchers = [threading.Thread(target=watch, args=(process.stdout, "out")), threading.Thread(target=watch, args=(process.stderr, "err")),
                threading.Thread(target=watch_steps)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers[:2]:
        watcher.join()  # the streams end with the process, which stays to be looked at until it is waited for
    over.set()
    watchers[2].join()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit(f"loraine train ended with {process.returncode}; run it by hand: {' '.join(map(str, command))}")
    if len(marks) < 2:
        sys.exit("the steps were over before they could be looked at; --steps 200 makes more")
    (first, before), (last, after) = marks[0], marks[-1]
    return {"encoded_s": moments["training data"], "before_first_step_s": moments["memory forecast"], "encoded_cpu_s": min(processor), "tokens": tokens[0],
            "peak_bytes": usage.ru_maxrss << 10, "us_per_token": 1e6 * (after - before) / (last - first)}


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tokenizer", required=True, type=pathlib.Path, help="folder with tokenizer.json (or tokenizer.json.xz) and tokenizer_config.json")
    parser.add_argument("--rows", default="1000,10000,100000,1000000")
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--format", choices=["json", "jsonl"], default="jsonl")
    parser.add_argument("--json", type=pathlib.Path, help="file that gets the figures")
    options = parser.parse_args()
    print("| rows | file MB | ids MB | encoded after s | by processor time | rows per processor second | before step 1, s | peak MiB | bytes per id | µs per token |\n|---|---|---|---|---|---|---|---|---|---|")
    report = {"format": options.format, "steps": options.steps, "threads": os.environ.get("OMP_NUM_THREADS", str(os.cpu_count())), "sizes": []}
    with tempfile.TemporaryDirectory() as holder:
        work = pathlib.Path(holder)
        write_model(work / "model", options.tokenizer)
        base = None
        for count in map(int, options.rows.split(",")):
            data = work / f"data{count}"
            size = write_rows(data, count, options.format)
            f = run(work / "model", data, work / f"out{count}", options.steps) | {"rows": count, "file_bytes": size}
            shutil.rmtree(data)
            base = base or f
            grown = (f["peak_bytes"] - base["peak_bytes"]) / max(1, f["tokens"] - base["tokens"])
            report["sizes"].append(f)
            print(f"| {count} | {size / 1e6:.1f} | {8e-6 * f['tokens']:.1f} | {f['encoded_s']:.2f} | {f['encoded_cpu_s']:.2f} | {count / f['encoded_cpu_s']:.0f} | {f['before_first_step_s']:.2f} | "
                  f"{f['peak_bytes'] >> 20} | {grown:.1f} | {f['us_per_token']:.2f} |", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


if __name__ == "__main__":
    main()
