#!/usr/bin/env python3
"""Draws docs/images/*.png from the figures under docs/images/data, as bench/scaling.py, bench/data_size.py and bench/decoding.py leave them.

usage: PYTHON bench/plots.py     PYTHON has matplotlib; what has not been measured is left out, and said"""
import json
import pathlib

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt  # noqa: E402
from PIL import Image  # noqa: E402

root = pathlib.Path(__file__).resolve().parent.parent
images = root / "docs/images"
COLOURS = {"f32": "#1f5fa8", "bf16": "#c4562a"}


def style(axes, x_label, y_label, xs=None, log=True):
    if log:
        axes.set_xscale("log", base=2 if xs else 10)
    if xs:
        axes.set_xticks(xs, [str(x) for x in xs])
        axes.minorticks_off()
    axes.set_xlabel(x_label)
    axes.set_ylabel(y_label)
    axes.set_ylim(bottom=0)
    axes.grid(color="#dddddd", linewidth=0.6)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def title(points):
    """The machine, and whether other work ran beside what was measured."""
    most = max(p["load"] - p["threads"] for p in points)
    return points[0]["machine"] + (f", other work running (load {max(p['load'] for p in points)})" if most > 1 else "")


def save(figure, name):
    figure.tight_layout()
    figure.savefig(images / name, dpi=80, metadata={"Software": None})
    plt.close(figure)
    with Image.open(images / name) as drawn:  # a few kB: lines need few colours
        small = drawn.convert("RGB").quantize(24)
    small.save(images / name, optimize=True)
    print(f"docs/images/{name}: {(images / name).stat().st_size / 1000:.0f} kB")


def by_dtype(points):
    return {dtype: [p for p in points if p["dtype"] == dtype] for dtype in dict.fromkeys(p["dtype"] for p in points)}


def steps(points, key, x_label, name):
    """tokens/s, and the share of what oneDNN reaches, against one thing."""
    figure, (speed, share) = plt.subplots(1, 2, figsize=(8.4, 3.2))
    xs = list(dict.fromkeys(p[key] for p in points))
    places = dict(zip(xs, range(len(xs)))) if isinstance(xs[0], str) else None
    for dtype, own in by_dtype(points).items():
        x = [places[p[key]] if places else p[key] for p in own]
        speed.plot(x, [p["tokens_per_second"] for p in own], "o-", color=COLOURS[dtype], label=dtype)
        share.plot(x, [100 * p["share"] for p in own], "o-", color=COLOURS[dtype], label=f"{dtype}, by wall clock")
        share.plot(x, [100 * p["cpu_share"] for p in own], "o--", color=COLOURS[dtype], alpha=0.5, label=f"{dtype}, by processor time")
    for axes, label in ((speed, "tokens/s"), (share, "% of oneDNN's own rate")):
        style(axes, x_label, label, None if places else xs, not places)
        if places:
            axes.set_xticks(list(places.values()), list(places))
        axes.legend(frameon=False, fontsize=8)
    share.axhline(85, color="#888888", linewidth=0.8)
    figure.suptitle(title(points), fontsize=9)
    save(figure, name)


def lengths(points):
    """Time per token against the length, and what the count of operations says it should be, from the shortest."""
    figure, (time, memory) = plt.subplots(1, 2, figsize=(8.4, 3.2))
    xs = list(dict.fromkeys(p["tokens"] for p in points))
    for dtype, own in by_dtype(points).items():
        x = [p["tokens"] for p in own]
        time.plot(x, [1e3 / p["tokens_per_second"] for p in own], "o-", color=COLOURS[dtype], label=dtype)
        model = [1e3 * p["flops_per_token"] / own[0]["flops_per_second"] for p in own]
        time.plot(x, model, ":", color=COLOURS[dtype], label=f"{dtype}, FLOPs per token at the rate of {x[0]}")
        memory.plot(x, [p["peak_bytes"] / 2**30 for p in own], "o-", color=COLOURS[dtype], label=dtype)
    style(time, "tokens in one sequence", "ms per token", xs)
    style(memory, "tokens in one sequence", "peak, GiB", xs)
    for axes in (time, memory):
        axes.legend(frameon=False, fontsize=8)
        axes.tick_params(axis="x", labelsize=8)
    figure.suptitle(title(points), fontsize=9)
    save(figure, "length.png")


def data_sizes(report):
    figure, (time, memory) = plt.subplots(1, 2, figsize=(8.4, 3.2))
    sizes = report["sizes"]
    x = [s["rows"] for s in sizes]
    time.plot(x, [s["us_per_token"] for s in sizes], "o-", color=COLOURS["f32"], label="a token of a step")
    time.plot(x, [1e6 * s["encoded_cpu_s"] / s["tokens"] for s in sizes], "o-", color=COLOURS["bf16"], label="start, reading and encoding, a token")
    memory.plot(x, [s["peak_bytes"] / 2**20 for s in sizes], "o-", color=COLOURS["f32"], label="peak")
    memory.plot(x, [8 * s["tokens"] / 2**20 for s in sizes], "o:", color=COLOURS["bf16"], label="ids and labels")
    style(time, "rows of the data set", "µs of processor time")
    style(memory, "rows of the data set", "MiB")
    memory.set_yscale("log")
    memory.set_ylim(1, 3 * max(max(s["peak_bytes"], 8 * s["tokens"]) for s in sizes) / 2**20)
    for axes in (time, memory):
        axes.legend(frameon=False, fontsize=8)
    save(figure, "data_size.png")


def decoding(report):
    figure, both = plt.subplots(1, 2, figsize=(8.4, 2.6))
    sides = [row["side"] for row in report["rows"]]
    for axes, what in zip(both, ("prefill", "decode")):
        axes.barh(sides, [row[what] for row in report["rows"]], color=["#888888"] + [COLOURS["f32"]] * (len(sides) - 1))
        axes.invert_yaxis()
        axes.set_xlabel(f"{what}, tokens/s")
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    busy = f", other work running (load {report['load']})" if report["load"] > report["threads"] + 1 else ""
    figure.suptitle(f"{report['model']}, {report['instruction_set']}, {report['threads']} threads{busy}", fontsize=9)
    save(figure, "decoding.png")


def read(name):
    path = images / "data" / name
    if not path.exists():
        print(f"{path.relative_to(root)} is not there: nothing drawn of it")
        return {}
    return json.loads(path.read_text())


def main():
    scaling = read("scaling.json")
    for curve, label in (("tokens", "tokens per micro-batch"), ("threads", "threads"), ("rank", "rank"), ("size", "model shape")):
        if curve in scaling:
            steps(scaling[curve], curve, label, f"{curve}.png")
    if "length" in scaling:
        lengths(scaling["length"])
    if sizes := read("data_size.json"):
        data_sizes(sizes)
    if report := read("decoding.json"):
        decoding(report)


main()
