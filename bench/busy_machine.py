#!/usr/bin/env python3
"""Speed of decoding and training beside other work, against alone: a loop that never sleeps is held to every core, as `taskset -c N` holds it.

usage: bench/busy_machine.py [--rounds 3] [--loops 1] [--tokens 256] [--new_tokens 48] [--json FILE] [MODEL]

Each round measures alone and then beside the loops, so that what else runs meets both. One loop per core leaves the program half of the machine; the mark is
0.4 of its speed alone. What counts is the mean rate of a whole run and not its best moment, so the times are those of processes (the start, which is the same in
both, taken off by a run without work)."""
import argparse
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass\n"


def seconds(what, options, repeats):
    """Wall time of `repeats` rounds of decoding or of training steps."""
    work = ["--tokens", "0", "--prompt_tokens", "16", "--new_tokens", str(options.new_tokens)] if what == "decoding" else ["--tokens", str(options.tokens), "--new_tokens", "0"]
    with tempfile.TemporaryDirectory() as folder:
        begin = time.perf_counter()
        subprocess.run([program, "bench", *(["--model_name_or_path", options.model] if options.model else []), "--dtype", options.dtype, *work, "--repeats", str(repeats), "--json",
                        str(pathlib.Path(folder) / "out.json")], check=True, stdout=subprocess.DEVNULL)
        return time.perf_counter() - begin


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--loops", type=int, default=1, help="on every core")
    parser.add_argument("--tokens", type=int, default=256)
    parser.add_argument("--new_tokens", type=int, default=48)
    parser.add_argument("--dtype", default="f32")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    report = {"load": round(os.getloadavg()[0], 1), "cores": len(os.sched_getaffinity(0)), "loops": options.loops}
    for what, few, many in (("decoding", 1, 5), ("training", 1, 3)):
        shares = []
        for _ in range(options.rounds):
            rates = []
            for busy in (False, True):
                loops = [subprocess.Popen([sys.executable, "-c", BUSY, str(core)]) for core in sorted(os.sched_getaffinity(0)) for _ in range(options.loops if busy else 0)]
                try:
                    short = seconds(what, options, few)
                    rates.append(1 / max(seconds(what, options, many) - short, 1e-9))
                finally:
                    for loop in loops:
                        loop.kill()
                        loop.wait()
            shares.append(rates[1] / rates[0])
        report[what] = round(statistics.median(shares), 3)
        print(f"{what}: {report[what]:.2f} of the speed alone (rounds: {', '.join(f'{share:.2f}' for share in shares)})", flush=True)
    if options.json:
        options.json.write_text(json.dumps(report, indent=1) + "\n")


main()
