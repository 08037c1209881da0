#!/usr/bin/env python3
"""Refuses two types of one name in one namespace: linked into one program, one of them takes the other's place without a word. Called by ./dev lint."""
import collections
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent
places = collections.defaultdict(list)
for path in sorted((root / "loraine").rglob("*")):
    if path.suffix not in (".h", ".cpp", ".cu"):
        continue
    inside = []  # namespaces; None: one without a name
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if opened := re.match(r"namespace(?: ([\w:]+))? \{", line):
            inside.append(opened[1])
        elif line.startswith("}  // namespace") and inside:
            inside.pop()
        elif (defined := re.match(r"(?:struct|class|enum class|union) (\w+)(?: final)?(?: :[^{;]*)? \{", line)) and None not in inside:
            places["::".join([*inside, defined[1]])].append(f"{path.relative_to(root)}:{number}")
twice = {name: where for name, where in places.items() if len(where) > 1}
for name, where in twice.items():
    print(f"names: {name} is defined more than once: {', '.join(where)}")
print(f"names: {len(places)} types, {len(twice)} defined more than once")
sys.exit(bool(twice))
