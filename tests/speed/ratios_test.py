#!/usr/bin/env python3
"""Fails when a training step or decoding has become more than a tenth slower against oneDNN's own products, or a plain read of the weights, in
the same run. No time is asserted: what is compared is a ratio of processor times of one thread, taken in alternating rounds (`loraine bench`),
with the one that tests/speed/ratios.json has for this instruction set and processor. Run by ctest (label speed).

usage: python3 tests/speed/ratios_test.py [--record]

--record measures and writes the ratios of this machine into ratios.json: after a change that makes something faster, and on a processor that has
none yet, with nothing else running: a plain read is at its fastest then, and the ratios of decoding are at their lowest (0.72 for bf16 where a
busy machine has 0.86). What else runs on the machine scatters the ratios: the median of all rounds counts, and while it is too low, up to three times as many more
are run before the test fails."""
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(root / "tests/support"))
import tiny_model as tiny

recorded = pathlib.Path(__file__).with_name("ratios.json")
ROUNDS, ATTEMPTS, LOSS = 7, 4, 0.10
SKIPPED = 77  # what ctest takes for a skipped test
shape = dict(vocab=8192, channels=576, inner=1536, layers=4, heads=9, kv_heads=3)  # four blocks of SmolLM2-135M


def processor():
    """What ratios depend on beside the instruction set: caches and memory."""
    fields = {}
    for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        fields.setdefault(name.strip(), value.strip())
    return f"{fields.get('vendor_id', 'unknown')} family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"


def bench(model, path, folder):
    """(instruction set, ratios of all rounds) of one path: 'step f32', 'decode bf16', …"""
    what, dtype = path.split()
    size = ["--tokens", "256", "--new_tokens", "0"] if what == "step" else ["--tokens", "0", "--prompt_tokens", "32", "--new_tokens", "24"]
    out = folder / "bench.json"
    subprocess.run([tiny.program, "bench", "--model_name_or_path", model, "--dtype", dtype, "--repeats", str(ROUNDS), *size, "--json", out], check=True,
                   stdout=subprocess.DEVNULL, env=os.environ | {"OMP_NUM_THREADS": "1"})
    report = json.loads(out.read_text())
    return report["instruction_set"], report["training" if what == "step" else "generation"][0]["round_cpu_shares"]


def main():
    record = sys.argv[1:] == ["--record"]
    if sys.argv[1:] and not record:
        sys.exit(__doc__)
    baselines = json.loads(recorded.read_text()) if recorded.exists() else {}
    failed, ratios, key, known = False, {}, None, None
    with tempfile.TemporaryDirectory() as holder:
        folder = pathlib.Path(holder)
        model = tiny.write_model(folder / "model", **shape)
        for path in ("step f32", "step bf16", "decode f32", "decode bf16"):
            rounds = []
            for attempt in range(ATTEMPTS):
                name, more = bench(model, path, folder)
                key = f"{name}, {processor()}"
                known = baselines.get(key)
                if known is None and not record:
                    print(f"no ratios are recorded for {key}, so nothing is compared; known: {', '.join(baselines) or 'none'}\n"
                          f"to record this machine's, with nothing else running: python3 tests/speed/ratios_test.py --record")
                    return SKIPPED
                rounds += more
                if record and attempt < 2:
                    continue
                if record or statistics.median(rounds) >= (1 - LOSS) * known[path]:
                    break
            ratios[path] = round(statistics.median(rounds), 3)
            if record:
                print(f"{path}: {ratios[path]}, {len(rounds)} rounds from {min(rounds):.3f} to {max(rounds):.3f}")
                continue
            change = ratios[path] / known[path] - 1
            print(f"{path}: {ratios[path]:.3f}, recorded {known[path]:.3f} ({change:+.1%}), median of {len(rounds)} rounds")
            if change < -LOSS:
                failed = True
                print(f"  more than {LOSS:.0%} slower than recorded; `loraine bench --profile true` shows where a step's time goes")
            elif change > LOSS:
                print("  faster than recorded: python3 tests/speed/ratios_test.py --record keeps the gain")
    if record:
        baselines[key] = ratios
        recorded.write_text(json.dumps(dict(sorted(baselines.items())), indent=1) + "\n")
        print(f"recorded for {key} in {recorded}")
    return 1 if failed else 0


sys.exit(main())
