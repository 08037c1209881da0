#!/usr/bin/env python3
"""Writes tests/golden/arrow with pyarrow and datasets: the same rows as streams and files, compressed and not, and folders as
`save_to_disk` leaves them. Run by hand: python3 tests/golden/make_arrow_cases.py"""
import json
import pathlib

import datasets
import pyarrow as pa

here = pathlib.Path(__file__).resolve().parent / "arrow"
here.mkdir(exist_ok=True)
message = pa.struct([("role", pa.string()), ("content", pa.string())])
columns = {
    "text": pa.array(["one", "", None, "vier \u4e94 \"six\"\n"], pa.string()),
    "large": pa.array(["a", None, "b", "c"], pa.large_string()),
    "n": pa.array([1, -2, None, 2**62], pa.int64()),
    "small": pa.array([1, 2, 3, 255], pa.uint8()),
    "big": pa.array([2**64 - 1, 0, 1, None], pa.uint64()),
    "share": pa.array([0.5, None, -2.0, 1e300], pa.float64()),
    "half": pa.array([0.25, 1.5, None, 3.0], pa.float32()),
    "yes": pa.array([True, False, None, True], pa.bool_()),
    "nothing": pa.nulls(4),
    "ids": pa.array([[1, 2], [], None, [3]], pa.list_(pa.int32())),
    "long": pa.array([[1], [2, 3], [], None], pa.large_list(pa.int64())),
    "fixed": pa.array([[1, 2], [3, 4], None, [5, 6]], pa.list_(pa.int16(), 2)),
    "messages": pa.array([[{"role": "user", "content": "hi"}], [], None, [{"role": "a", "content": None}, {"role": "b", "content": "c"}]], pa.list_(message)),
    "day": pa.array([0, 1, None, 3], pa.date32()),
}
table = pa.table(columns)
rows = table.set_column(table.schema.get_field_index("day"), "day", table["day"].cast(pa.int32())).to_pylist()
(here / "rows.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def write(name, table, opens, **options):
    with opens(str(here / name), table.schema, options=pa.ipc.IpcWriteOptions(**options)) as writer:
        writer.write_table(table, max_chunksize=3)


write("stream.arrow", table, pa.ipc.new_stream)
write("legacy.arrow", table, pa.ipc.new_stream, use_legacy_format=True, metadata_version=pa.ipc.MetadataVersion.V4)
write("file.arrow", table, pa.ipc.new_file)
write("zstd.arrow", table, pa.ipc.new_stream, compression="zstd")
write("lz4.refused", table, pa.ipc.new_stream, compression="lz4")
write("dictionary.refused", pa.table({"d": pa.array(["a", "b", "a"]).dictionary_encode()}), pa.ipc.new_stream)
write("union.refused", pa.table({"u": pa.UnionArray.from_sparse(pa.array([0, 1], pa.int8()), [pa.array([1, 2]), pa.array(["a", "b"])])}), pa.ipc.new_stream)
write("empty.arrow", pa.table({"text": pa.array([], pa.string())}), pa.ipc.new_stream)

ids = [[5, 6, 7], [8, 9]]
plain = datasets.Dataset.from_dict({"input_ids": ids, "attention_mask": [[1] * len(x) for x in ids], "labels": [[-100, 6, 7], [-100, 9]], "images": [None, None]})
packed = datasets.Dataset.from_dict({"input_ids": [[5, 6, 7, 8, 9, 0, 0, 0]], "attention_mask": [[1, 1, 1, 2, 2, 0, 0, 0]], "position_ids": [[0, 1, 2, 0, 1, 0, 0, 0]],
                                     "labels": [[-100, 6, 7, -100, 9, -100, -100, -100]]})
datasets.DatasetDict(train=plain, validation_b=packed).save_to_disk(str(here / "prepared"))
write("pairs.arrow", pa.table({"question": ["say one", "say two"], "answer": ["one", "two"], "n": [1, 2]}), pa.ipc.new_file)
