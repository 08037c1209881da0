#!/usr/bin/env python3
"""What bench/gpu.sh found: a table, and in the last line what is wrong, what is slow, and what to look at first. Argument: the folder of results;
--slowest N: the names of the N kernels of ours that are furthest below what the card reaches. Ends with 1 where something is wrong."""
import json
import pathlib
import sys

GOOD_OP, GOOD_STEP, MEMORY = 0.85, 0.90, 0.03  # shares of what the ceilings allow; planned memory against taken


def read(folder):
    parts = [line.split() for line in (folder / "parts.txt").read_text().splitlines()] if (folder / "parts.txt").exists() else []
    lines = [json.loads(line) for line in (folder / "bench.json").read_text().splitlines()] if (folder / "bench.json").exists() else []
    return {name: int(status) for name, status, _ in parts}, lines


def slowest(lines, n):
    ours = [line for line in lines if line["kind"] == "op" and "," not in line["name"] and line["share"] < GOOD_OP]
    return [line["name"] for line in sorted(ours, key=lambda line: line["share"])[:n]]


def main():
    arguments = sys.argv[1:]
    if arguments[0] == "--slowest":
        print("\n".join(slowest(read(pathlib.Path(arguments[2]))[1], int(arguments[1]))))
        return 0
    parts, lines = read(pathlib.Path(arguments[0]))
    card = next((line for line in lines if line["kind"] == "card"), {"name": "no card", "emulated": False})
    print(f"\n{card['name']}")
    wrong = [name for name, status in parts.items() if status not in (0, 77)]
    slow = []
    for line in lines:
        if line["kind"] == "ceilings":
            print(f"ceilings: copy {line['copy_tb_s']:.2f} TB/s, product {line['product_tf_s']:.0f} TF/s")
        if line["kind"] == "op":
            mark = "" if line["share"] >= GOOD_OP else "  <"
            print(f"{line['name']:32} {line['us']:10.1f} us {line['tb_s']:7.2f} TB/s {line['tf_s']:7.1f} TF/s {line['share']:6.2f}{mark}")
            if mark and not card["emulated"]:
                slow.append(f"{line['name']} {line['share']:.2f}")
        if line["kind"] == "step":
            name = f"step of {line['model']}, {line['rows']} rows, r {line['rank']}, recompute {line['recompute']}"
            if "skipped" in line:
                print(f"{name}: {line['skipped']} ({line['planned_gb']:.1f} GB)")
                continue
            print(f"{name}: {line['tokens_s']:.0f} tokens/s of {line['predicted_tokens_s']:.0f} ({line['share']:.2f}), {line['tf_s']:.0f} TF/s, "
                  f"{line['launches']} launches, {line['waits']} waits, memory {line['taken_gb']:.2f} of {line['planned_gb']:.2f} GB planned")
            if not line["loss"] == line["loss"] or abs(line["loss"]) > 1e4:
                wrong.append(f"the loss of the {name} is {line['loss']}")
            if line["waits"] > 1:
                wrong.append(f"the {name} waits {line['waits']} times")
            if line["taken_gb"] > line["planned_gb"] * (1 + MEMORY):
                wrong.append(f"the {name} takes more memory than was planned")
            if line["share"] < GOOD_STEP and not card["emulated"]:
                slow.append(f"{name} {line['share']:.2f}")
    if not any(line["kind"] == "step" and "skipped" not in line for line in lines):
        wrong.append("no step was measured")
    missing = [name for name, status in parts.items() if status == 77]
    verdict = "WRONG: " + "; ".join(wrong) if wrong else "SLOW: " + "; ".join(slow) if slow else "GOOD"
    first = f"; look first at {wrong[0]}.log" if wrong and wrong[0] in parts else f"; look first at {slow[0]}" if slow and not wrong else ""
    print(f"verdict: {verdict}{first}{'; not run: ' + ', '.join(missing) if missing else ''}{' (emulated: nothing of speed is said)' if card['emulated'] else ''}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
