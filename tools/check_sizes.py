#!/usr/bin/env python3
"""Warns about files over 600 lines (two files in one?). Called by ./dev lint; a warning fails nothing."""
import pathlib

root = pathlib.Path(__file__).resolve().parent.parent
limit = 600
paths = [p for p in (root / "loraine").rglob("*") if p.suffix in (".h", ".cpp", ".cu")]
for path in sorted(paths):
    lines = path.read_text().count("\n")
    if lines > limit:
        print(f"sizes: {path.relative_to(root)} has {lines} lines (over {limit})")
print(f"sizes: {len(paths)} files looked at")
