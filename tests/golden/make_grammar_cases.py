#!/usr/bin/env python3
"""Random JSON schemas with documents and jsonschema's verdict on each, for tests/golden/grammar_test.cpp. Needs jsonschema[format].

One line a schema: {"schema": …, "documents": [[text, valid, canonical], …]}. A canonical document has the properties in the schema's order and
holds nothing that a grammar may leave out (properties that no schema names, several spellings of a character): a grammar has to take it. Of the
others it may refuse valid ones, but must take no invalid one. usage: make_grammar_cases.py [FILE]"""
import importlib.metadata
import json
import pathlib
import random
import sys

import jsonschema

rng = random.Random(20261130)
WORDS = ["", "a", "b", "ab", "abc", "x y", "é", "日本", "\"q\"", "back\\slash", "line\nend", "0", "12", "2024-02-29", "2023-02-29", "10.0.0.1", "a@b.org",
         "123e4567-e89b-12d3-a456-426614174000", "12:30:00Z", "2024-12-31T23:59:59+01:00", "true", "😀😀"]
PATTERNS = [("^[a-c]+$", ["a", "abc", "cab"]), ("^\\d{2,4}$", ["12", "2024"]), ("^(foo|bar)?$", ["", "foo", "bar"]), ("^[^\\s\"]{1,3}$", ["é", "ab", "a\\b"]),
            ("^x(-[0-9])*$", ["x", "x-1-2"])]
FORMATS = {"date": "2024-02-29", "time": "12:30:00Z", "date-time": "2024-12-31T23:59:59Z", "uuid": "123e4567-e89b-12d3-a456-426614174000", "ipv4": "10.0.0.1", "email": "a@b.org"}
NAMES = ["a", "b", "name", "x y", "é", "q\"", "id"]


class Made:
    """A schema and a function that makes a canonical value of it."""

    def __init__(self, schema, value):
        self.schema, self.value = schema, value


def text():
    kind = rng.randrange(5)
    if kind == 0:
        pattern, examples = rng.choice(PATTERNS)
        return Made({"type": "string", "pattern": pattern}, lambda: rng.choice(examples))
    if kind == 1:
        name = rng.choice(list(FORMATS))
        return Made({"type": "string", "format": name}, lambda: FORMATS[name])
    if kind == 2:
        least = rng.randrange(3)
        most = least + rng.randrange(4)
        fitting = [w for w in WORDS if least <= len(w) <= most] or ["a" * least]
        schema = {"type": "string"}
        if least or rng.random() < 0.5:
            schema["minLength"] = least
        schema["maxLength"] = most
        return Made(schema, lambda: rng.choice(fitting))
    return Made({"type": "string"}, lambda: rng.choice(WORDS))


def number():
    kind = rng.randrange(4)
    if kind == 0:
        return Made({"type": "number"}, lambda: rng.choice([0, -1, 1.5, -0.25, 1e20, 3e-7, 123456]))
    least, most = sorted(rng.choice([-1000, -99, -10, -1, 0, 1, 5, 9, 10, 11, 99, 100, 101, 4095, 123456]) for _ in range(2))
    schema = {"type": "integer"}
    low, high = least, most
    if rng.random() < 0.7:
        if rng.random() < 0.3 and least < most:
            schema["exclusiveMinimum"] = least
            low = least + 1
        else:
            schema["minimum"] = least
    else:
        low = -10**9
    if rng.random() < 0.7:
        schema["maximum"] = most
    else:
        high = 10**9
    return Made(schema, lambda: rng.choice([low, high, rng.randint(low, high)]))


def listed():
    values = rng.sample([1, "a", None, 2.5, True, "é\n", [1, "b"], {"k": None}, 0, ""], rng.randint(1, 4))
    return Made({"enum": values} if len(values) > 1 or rng.random() < 0.5 else {"const": values[0]}, lambda: rng.choice(values))


def array(depth):
    if rng.random() < 0.3:
        prefix = [make(depth + 1) for _ in range(rng.randint(1, 3))]
        rest = make(depth + 1)
        schema = {"type": "array", "prefixItems": [m.schema for m in prefix]}
        closed = rng.random() < 0.4
        schema["items"] = False if closed else rest.schema
        least = rng.randint(0, len(prefix))
        if least:
            schema["minItems"] = least

        def value():
            n = rng.randint(least, len(prefix) + (0 if closed else 2))
            return [(prefix[i] if i < len(prefix) else rest).value() for i in range(n)]

        return Made(schema, value)
    item = make(depth + 1)
    schema = {"type": "array", "items": item.schema}
    least, most = rng.randrange(3), 4
    if least or rng.random() < 0.2:
        schema["minItems"] = least
    if rng.random() < 0.5:
        most = least + rng.randrange(3)
        schema["maxItems"] = most
    return Made(schema, lambda: [item.value() for _ in range(rng.randint(least, max(least, most)))])


def objects(depth):
    names = rng.sample(NAMES, rng.randint(0, 4))
    members = {name: make(depth + 1) for name in names}
    required = [name for name in names if rng.random() < 0.5]
    schema = {"type": "object", "properties": {name: m.schema for name, m in members.items()}}
    if required:
        schema["required"] = required
    extra = None
    kind = rng.randrange(3)
    if kind == 0:
        schema["additionalProperties"] = False
    elif kind == 1:
        extra = make(depth + 1)
        schema["additionalProperties"] = extra.schema

    def value():
        out = {name: m.value() for name, m in members.items() if name in required or rng.random() < 0.5}
        if extra and rng.random() < 0.5:
            out["other"] = extra.value()
        return out

    return Made(schema, value)


def union(depth):
    kinds = rng.sample([number, text, lambda: Made({"type": "null"}, lambda: None), lambda: array(depth + 1), lambda: objects(depth + 1)], rng.randint(2, 3))
    parts = [kind() for kind in kinds]
    return Made({rng.choice(["anyOf", "oneOf"]): [p.schema for p in parts]}, lambda: rng.choice(parts).value())


def merged(depth):
    a, b = objects(depth + 1), objects(depth + 1)
    for m in (a, b):
        m.schema.pop("additionalProperties", None)
    names = list(a.schema["properties"])
    b.schema["properties"] = {k: v for k, v in b.schema["properties"].items() if k not in names}
    b.schema["required"] = [k for k in b.schema.get("required", []) if k not in names]
    if not b.schema["required"]:
        del b.schema["required"]

    def value():
        first, second = a.value(), b.value()
        first.pop("other", None)
        return first | {k: v for k, v in second.items() if k in b.schema["properties"]}

    return Made({"allOf": [a.schema, b.schema]}, value)


def make(depth=0):
    simple = [text, number, listed, lambda: Made({"type": "boolean"}, lambda: rng.random() < 0.5), lambda: Made({"type": ["null", "integer"]}, lambda: rng.choice([None, 7]))]
    if depth >= 3 or (depth and rng.random() < 0.4):
        return rng.choice(simple)()
    return rng.choice([objects, array, union, merged])(depth)


def recursive():
    leaf = rng.choice([text, number])()
    schema = {"$ref": "#/$defs/tree", "$defs": {"tree": {"type": "object", "properties": {"value": leaf.schema, "children": {"type": "array", "items": {"$ref": "#/$defs/tree"}}},
                                                         "required": ["value"], "additionalProperties": False}}}

    def value(depth=0):
        out = {"value": leaf.value()}
        if depth < 3 and rng.random() < 0.6:
            out["children"] = [value(depth + 1) for _ in range(rng.randrange(3))]
        return out

    return Made(schema, value)


def changed(value):
    """The value with something else in some place."""
    if isinstance(value, dict) and value and rng.random() < 0.8:
        key = rng.choice(list(value))
        kind = rng.randrange(3)
        out = dict(value)
        if kind == 0:
            del out[key]
        elif kind == 1:
            out["unknown"] = 1
        else:
            out[key] = changed(out[key])
        return out
    if isinstance(value, list) and value and rng.random() < 0.8:
        i = rng.randrange(len(value))
        return rng.choice([value[:i] + value[i + 1:], value + [value[i]], value[:i] + [changed(value[i])] + value[i + 1:]])
    if isinstance(value, str) and rng.random() < 0.6:
        return rng.choice([value + "a", value[:-1], value.upper(), "!" + value])
    if isinstance(value, (int, float)) and not isinstance(value, bool) and rng.random() < 0.6:
        return rng.choice([value + 1, value - 1, -value, value * 10, value + 0.5])
    return rng.choice([None, True, 0, 17, -5, 1.5, "a", "", [], {}, [1], {"a": 1}, "2024-02-30", 99999999])


def written(value):
    style = rng.randrange(3)
    if style == 0:
        return json.dumps(value, ensure_ascii=False)
    if style == 1:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return json.dumps(value, ensure_ascii=False, indent=2)


def main():
    file = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "grammar" / "schemas.jsonl")
    file.parent.mkdir(exist_ok=True)
    lines, valid, invalid = [], 0, 0
    while len(lines) < 1000:
        made = recursive() if rng.random() < 0.05 else make()
        schema = made.schema
        jsonschema.Draft202012Validator.check_schema(schema)
        judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
        documents = []
        for _ in range(3):
            value = made.value()
            if judge.is_valid(value):  # of oneOf two may hold
                documents.append([written(value), True, True])
        for _ in range(4):
            value = made.value()
            for _ in range(rng.randint(1, 2)):
                value = changed(value)
            documents.append([written(value), judge.is_valid(value), False])
        seen = {}
        for text_, is_valid, canonical in documents:
            seen.setdefault(text_, [text_, is_valid, canonical])
            seen[text_][2] |= canonical
        line = json.dumps({"schema": schema, "documents": list(seen.values())}, ensure_ascii=False, separators=(",", ":"))
        if len(line) > 900:
            continue
        valid += sum(d[1] for d in seen.values())
        invalid += sum(not d[1] for d in seen.values())
        lines.append(line)
    file.write_text("\n".join(lines) + "\n")
    print(f"{len(lines)} schemas, {valid} valid documents, {invalid} invalid, {file.stat().st_size} bytes, jsonschema {importlib.metadata.version('jsonschema')}")


main()
