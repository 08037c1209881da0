#!/usr/bin/env python3
"""Writes tests/golden/parquet: small Parquet files by pyarrow, and beside them their rows as JSON lines, as pyarrow reads them back
(rows.jsonl: of all files that have none of their own).
Needs pyarrow. The recorded files were made with the version that stands in their footers."""
import json
import pathlib

import pyarrow as pa
import pyarrow.parquet as pq

out = pathlib.Path(__file__).resolve().parent / "parquet"
out.mkdir(exist_ok=True)

messages = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
rows = []
for i in range(60):
    rows.append(dict(
        id=i, text=None if i % 7 == 3 else f"Zeile {i}: ü € 汉字 \"quoted\"\n\\ {'long ' * (i % 9)}", label=i % 3, score=None if i % 5 == 0 else i / 8, kept=i % 2 == 0,
        messages=None if i % 11 == 5 else [] if i % 11 == 6 else [dict(role=["user", "assistant"][j % 2], content=None if j == 3 else f"m{i}.{j}") for j in range(i % 5)],
        pairs=None if i % 6 == 1 else [[f"q{k}", f"a{k}"][: 1 + (i + k) % 2] for k in range(i % 4)],
        inner=None if i % 4 == 2 else dict(a=i, b=dict(c=None if i % 8 == 0 else str(i))), ids=list(range(i % 6))))
schema = pa.schema([("id", pa.int64()), ("text", pa.string()), ("label", pa.int32()), ("score", pa.float64()), ("kept", pa.bool_()), ("messages", messages),
                    ("pairs", pa.list_(pa.list_(pa.string()))), ("inner", pa.struct([("a", pa.int64()), ("b", pa.struct([("c", pa.string())]))])),
                    ("ids", pa.list_(pa.int64()))])


def write(name, table, rows_name=None, **options):
    pq.write_table(table, out / f"{name}.parquet", **options)
    back = pq.read_table(out / f"{name}.parquet").to_pylist()
    (out / f"{rows_name or name}.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in back))


table = pa.Table.from_pylist(rows, schema)
for codec in ("none", "snappy", "gzip", "zstd", "lz4"):
    for version in ("1.0", "2.0"):
        write(f"{codec}_v{version[0]}", table, "rows", compression=codec, data_page_version=version, row_group_size=23, data_page_size=512, write_statistics=False)
write("plain", table, "rows", compression="snappy", use_dictionary=False)
texts = ["text", "messages.list.element.role", "messages.list.element.content", "pairs.list.element.list.element", "inner.b.c"]
for name in ("DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY"):
    write(name.lower(), table, "rows", compression="none", use_dictionary=False, data_page_version="2.0", data_page_size=4096,
          column_encoding={text: name for text in texts} | {n: "DELTA_BINARY_PACKED" for n in ("id", "label", "inner.a", "ids.list.element")})
write("large_types", pa.table({"a": pa.array(["x", None, "z"], pa.large_string()), "b": pa.array([[1], [], None], pa.large_list(pa.int8())),
                               "u": pa.array([0, 2**63, 2**64 - 1], pa.uint64()), "s": pa.array([-1, 0, 1], pa.int16()),
                               "f": pa.array([0.5, None, -2.25], pa.float32())}))
wide = [0, -1, 2**63 - 1, -(2**63), 5, 5, 5] + [(i * 7919) % 1009 - 500 for i in range(300)]
write("delta_numbers", pa.table({"a": pa.array(wide, pa.int64()), "b": pa.array([w % 2**31 for w in wide], pa.int32())}), use_dictionary=False, compression="none",
      column_encoding={"a": "DELTA_BINARY_PACKED", "b": "DELTA_BINARY_PACKED"})
write("map", pa.table({"m": pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int64()))}))
write("empty", table.slice(0, 0))
