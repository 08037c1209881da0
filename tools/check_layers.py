#!/usr/bin/env python3
"""Checks every #include "loraine/MODULE/..." against the table in docs/design.md ("Who may include whom").
Called by ./dev lint; prints one line per forbidden include and exits 1 if there is any."""
import pathlib
import re
import sys

root = pathlib.Path(__file__).resolve().parent.parent


def allowed_modules():
    text = (root / "docs/design.md").read_text()
    section = text.split("## Who may include whom", 1)[1].split("\n## ", 1)[0]
    rows = [[cell.strip() for cell in line.strip().strip("|").split("|")] for line in section.splitlines() if line.startswith("|")][2:]
    allowed = {}
    for row in rows:
        names = [name.strip() for name in row[0].split(",")]
        targets = row[1]
        for name in names:
            if targets.startswith("any"):
                allowed[name] = None
            else:
                allowed[name] = {name} | {t.strip() for t in targets.split(",") if t.strip() not in ("–", "-", "")}
    return allowed


def may_include(targets, path):
    """A module's name stands for all its rooms."""
    return any(path.startswith(target + "/") for target in targets)


def main():
    allowed = allowed_modules()
    bad = checked = 0
    for path in sorted((root / "loraine").rglob("*")):
        if path.suffix not in (".h", ".cpp", ".cu"):
            continue
        parts = path.relative_to(root / "loraine").parts
        module = "/".join(parts[:2]) if "/".join(parts[:2]) in allowed else parts[0]  # a room with a row of its own, or the module
        if module not in allowed:
            print(f"{path.relative_to(root)}: module '{module}' is not in the table of docs/design.md")
            bad += 1
            continue
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match = re.match(r'\s*#\s*include\s+[<"]loraine/([a-z_/0-9]+/)', line)
            if not match:
                continue
            checked += 1
            if allowed[module] is not None and not may_include(allowed[module], match.group(1)):
                print(f"{path.relative_to(root)}:{number}: {module} may not include {match.group(1).rstrip('/')} (docs/design.md)")
                bad += 1
    print(f"layers: {checked} includes checked, {bad} forbidden")
    return 1 if bad or not checked else 0


sys.exit(main())
