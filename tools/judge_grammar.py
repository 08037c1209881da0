#!/usr/bin/env python3
"""Has the texts of grammars judged by others: jsonschema says whether each text that a grammar lets through satisfies its schema, xgrammar
whether it takes the documents that ours takes. By hand: needs jsonschema[format], optionally xgrammar, and the program bench_grammar.

usage: judge_grammar.py BENCH_GRAMMAR TOKENIZER_JSON [SCHEMAS] [TEXTS]   (default: 200 schemas of the recorded cases, 5 texts of each)"""
import json
import pathlib
import subprocess
import sys

import jsonschema

root = pathlib.Path(__file__).resolve().parent.parent
program, tokenizer = sys.argv[1:3]
count, texts = (int(a) for a in (sys.argv[3:5] + ["200", "5"][len(sys.argv[3:5]):]))
schemas = [json.loads(line)["schema"] for line in (root / "tests/golden/grammar/schemas.jsonl").read_text().splitlines()[:count]]
lines = "".join(json.dumps(s) + "\n" for s in schemas)
answers = subprocess.run([program, tokenizer, "--sample", str(texts)], input=lines, text=True, capture_output=True, check=True).stdout.splitlines()
assert len(answers) == len(schemas), (len(answers), len(schemas))
good = bad = refused = 0
samples = []
for schema, line in zip(schemas, answers):
    answer = json.loads(line)
    if isinstance(answer, dict):
        refused += 1
        print("refused:", answer["error"], json.dumps(schema)[:200])
        continue
    judge = jsonschema.Draft202012Validator(schema, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    for text in answer:
        try:
            valid = judge.is_valid(json.loads(text))
        except ValueError:
            valid = False
        # of two schemas of oneOf both may hold: a grammar takes it as anyOf
        valid = valid or "oneOf" in json.dumps(schema) and jsonschema.Draft202012Validator(json.loads(json.dumps(schema).replace('"oneOf"', '"anyOf"'))).is_valid(json.loads(text))
        good, bad = good + valid, bad + (not valid)
        samples.append((schema, text))
        if not valid:
            print("INVALID:", text[:300], "of", json.dumps(schema)[:300])
print(f"jsonschema: {good} of {good + bad} texts valid, {refused} schemas refused")

try:
    import xgrammar
except ImportError as missing:
    print("xgrammar is not there:", missing)
    sys.exit(bad > 0)
same = differs = failed = 0
for schema, text in samples:
    try:
        grammar = xgrammar.Grammar.from_json_schema(json.dumps(schema), strict_mode=True, any_whitespace=True)
        takes = xgrammar.testing._is_grammar_accept_string(grammar, text)
    except Exception as error:  # what it does not support
        failed += 1
        continue
    same, differs = same + takes, differs + (not takes)
    if not takes and differs <= 10:
        print("xgrammar refuses:", text[:200], "of", json.dumps(schema)[:200])
print(f"xgrammar {getattr(xgrammar, '__version__', '')}: takes {same} of the {same + differs} texts, fails on {failed}")
sys.exit(bad > 0)
