#!/usr/bin/env python3
"""Turns jieba's dictionary and model of unknown words into the table that loraine/eval/word_table.cpp compiles in. Run by the build:
word_table.py FOLDER_OF_JIEBA TABLE. Exits 1 on files that are not those of jieba 0.42.1, which LLaMA-Factory cuts words with.

The table, little-endian, each part at a multiple of 8: words, characters, sum of all frequencies (u64 each); log-probabilities of the states
B E M S at the start [4], from state to state [4][4], of the characters U+4E00 to U+9FD5 in each state [20950][4] (f64); the first word that begins
with character c or a later one [0x10001], where each word's characters begin [words + 1], frequencies [words] (u32); characters
[characters] (u16). Words are sorted by code point."""
import array
import ast
import hashlib
import pathlib
import struct
import sys

expected = "876878f71cb64222c175a551bf27df9d43bd130e49b0a4dd7f473ec802e9f9a9"
states = "BEMS"
impossible = -3.14e100  # jieba's logarithm of 0
first_han, last_han = 0x4E00, 0x9FD5


class Bad(Exception):
    pass


def read_words(path):
    """word → frequency. Of a word that stands twice the last frequency counts, and both belong to the sum."""
    words, total = {}, 0
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if not line.strip():
            continue
        try:
            word, frequency = line.decode("utf-8").strip().split(" ")[:2]
            words[word] = int(frequency)
        except ValueError:
            raise Bad(f"{path}, line {number}: is {line[:60]!r}, expected a word and its frequency") from None
        if not 0 < words[word] < 1 << 32 or max(word) > "\uffff":
            raise Bad(f"{path}, line {number}: a frequency from 1 to 2^32 - 1 and characters up to U+FFFF are expected, found {line[:60]!r}")
        total += words[word]
    if not words:
        raise Bad(f"{path}: holds no word")
    return words, total


def read_literal(path):
    """The value that a module assigns to P. Nothing of it is run."""
    try:
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.Assign) and [getattr(target, "id", None) for target in node.targets] == ["P"]:
                return ast.literal_eval(node.value)
    except (SyntaxError, ValueError) as error:
        raise Bad(f"{path}: {error}, expected a Python literal") from None
    raise Bad(f"{path}: assigns nothing to P")


def part(kind, values):
    numbers = array.array(kind, values)
    if sys.byteorder == "big":
        numbers.byteswap()
    data = numbers.tobytes()
    return data + b"\0" * (-len(data) % 8)


def table(folder):
    frequencies, total = read_words(folder / "dict.txt")
    start, transition, emission = (read_literal(folder / f"finalseg/prob_{name}.py") for name in ("start", "trans", "emit"))
    words = sorted(frequencies)
    starts, first, at = [0], [], 0
    for word in words:
        starts.append(starts[-1] + len(word))
    for c in range(0x10001):
        while at < len(words) and ord(words[at][0]) < c:
            at += 1
        first.append(at)
    try:
        numbers = [start[state] for state in states]
        numbers += [transition[state].get(after, impossible) for state in states for after in states]
        numbers += [emission[state].get(chr(c), impossible) for c in range(first_han, last_han + 1) for state in states]
        reals = part("d", numbers)
    except (KeyError, TypeError, AttributeError) as error:
        raise Bad(f"{folder}/finalseg: {error!r}, expected probabilities of the states B, E, M and S") from None
    return (struct.pack("<QQQ", len(words), starts[-1], total) + reals + part("I", first) + part("I", starts) + part("I", [frequencies[word] for word in words]) +
            part("H", [ord(c) for word in words for c in word]))


def main(folder, out):
    try:
        data = table(pathlib.Path(folder))
        found = hashlib.sha256(data).hexdigest()
        if found != expected:
            raise Bad(f"{folder}: its words or probabilities differ from those of jieba 0.42.1 (the table's SHA-256 is {found}, expected {expected})")
    except (OSError, Bad) as error:
        print(f"{error}\nname the folder of jieba 0.42.1 with -DLORAINE_JIEBA=FOLDER, or build without it: -DLORAINE_JIEBA=OFF", file=sys.stderr)
        return 1
    pathlib.Path(out).write_bytes(data)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
