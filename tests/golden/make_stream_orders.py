#!/usr/bin/env python3
"""Writes tests/golden/stream_orders.json with datasets: rows 100 * set + row of streamed sets, in the order of three epochs, for every way of
mixing. Run by hand: python3 tests/golden/make_stream_orders.py"""
import itertools
import json
import pathlib

from datasets import Dataset, concatenate_datasets, interleave_datasets


def rows(sets, epoch):
    sets.set_epoch(epoch)
    return [x["r"] for x in sets]


cases = []
for sizes, shards, (mixing, drawn), buffer, seed in itertools.product(
        ([7], [7, 3], [9, 4, 6]), (1, 2), (("concat", False), ("interleave_under", False), ("interleave_over", False), ("interleave_under", True), ("interleave_over", True)),
        (1, 4, 100), (11, 42)):
    if (len(sizes) == 1 and mixing != "concat") or (drawn and seed == 42):
        continue
    probs = None if not drawn else [0.3, 0.7] if len(sizes) == 2 else [0.2, 0.5, 0.3]
    sets = [Dataset.from_dict({"r": [100 * k + i for i in range(n)]}).to_iterable_dataset(num_shards=shards) for k, n in enumerate(sizes)]
    stopping = {"interleave_under": "first_exhausted", "interleave_over": "all_exhausted"}
    mixed = sets[0] if len(sets) == 1 else concatenate_datasets(sets) if mixing == "concat" else interleave_datasets(
        sets, probabilities=probs, seed=seed, stopping_strategy=stopping[mixing])
    mixed = mixed.shuffle(buffer_size=buffer, seed=seed)
    cases.append(dict(sizes=sizes, shards=shards, mixing=mixing, probs=probs, buffer=buffer, seed=seed, epochs=[rows(mixed, epoch) for epoch in (0, 1, 2)]))
(pathlib.Path(__file__).resolve().parent / "stream_orders.json").write_text("[\n" + ",\n".join(json.dumps(case) for case in cases) + "\n]\n")
