"""Small data sets as LLaMA-Factory encoded them (encode.jsonl.xz), through `loraine data`: ids, labels and where packed samples begin, line by line. A case is a group of
lines that begin alike ("template/…"). Called by golden.py."""
import collections
import csv
import json
import lzma
import os
import pathlib
import subprocess

from golden_files import program

refused = 0                  # lines that are refused as LLaMA-Factory refuses them
left = collections.Counter()  # lines that are not run, by reason
lines = {}            # of each case


def cases(top):
    found = []
    for file in sorted(top.rglob("encode.jsonl.xz")):
        groups = collections.defaultdict(list)
        for line in lzma.open(file, "rt"):
            case = json.loads(line)
            groups[case["case"].split("/")[0]].append(case)
        for name, group in groups.items():
            lines[file.parent / "encode" / name] = group
            found.append(file.parent / "encode" / name)
    return found


def write_rows(path, kind, rows):
    if kind == "csv":
        with open(path, "w", newline="") as file:
            table = csv.writer(file)
            table.writerow(rows[0])
            table.writerows([["" if value is None else value for value in row.values()] for row in rows])
    elif kind == "txt":
        path.write_text("".join((row if isinstance(row, str) else row["text"]) + "\n" for row in rows))
    elif kind == "jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        path.write_text(json.dumps(rows))


def tokenizer(name, shared, work):
    folder = work / name
    if not folder.exists():
        folder.mkdir()
        for file in (shared / "tokenizers" / name).iterdir():
            if file.suffix == ".xz":
                (folder / file.stem).write_bytes(lzma.open(file).read())
            elif file.is_file():
                (folder / file.name).write_bytes(file.read_bytes())
        if not (folder / "config.json").exists():
            (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def apart(mine, theirs):
    """What differs first, or nothing."""
    if len(mine) != len(theirs):
        return f"{len(mine)} examples, recorded {len(theirs)}"
    for i, (got, wanted) in enumerate(zip(mine, theirs)):
        for key, values in wanted.items():
            if key == "kto_tags":
                key = "kto_tag"
            if key in ("attention_mask", "position_ids") or key.endswith("attention_mask"):
                continue
            if got.get(key) != values:
                return f"{key} of example {i}: {str(got.get(key))[:200]}, recorded {str(values)[:200]}"
        if "position_ids" in wanted:
            trained = max((at + 1 for at, position in enumerate(wanted["position_ids"]) if position), default=0)
            begin = [at for at in range(trained) if wanted["position_ids"][at] == 0]
            if got["starts"][:len(begin)] != begin:
                return f"starts of example {i}: {got['starts']}, recorded {begin}"
    return None


def run_line(case, work, shared):
    """Yields a figure where the line is run."""
    global refused
    if case["stage"] == "predict":
        left["prompts for generation (data_tests)"] += 1
        return
    if any(entry["file"] == "parquet" for entry in case["datasets"]):
        left["Parquet files that pandas would have to write (data_tests)"] += 1
        return
    if case["template"] is None and case["stage"] != "pt":
        left["slots derived from a model's template, in whose place loraine renders it (data_tests)"] += 1
        return
    info = {}
    for entry in case["datasets"]:
        name = f"{entry['name']}.{entry['file']}"
        write_rows(work / name, entry["file"], entry["rows"])
        info[entry["name"]] = entry["info"] | {"file_name": name}
    (work / "dataset_info.json").write_text(json.dumps(info))
    settings = dict(model_name_or_path=str(tokenizer(case["tokenizer"], shared, work)), stage=case["stage"], dataset=",".join(info), dataset_dir=str(work),
                    skip_bad_rows=100) | ({"template": case["template"]} if case["template"] else {}) | case["options"]
    (work / "data.json").write_text(json.dumps(settings))
    environment = dict(os.environ)
    if "today" in case:  # of the machine's time zone
        environment |= {"TZ": "UTC", "SOURCE_DATE_EPOCH": subprocess.run(["date", "-u", "-d", case["today"], "+%s"], capture_output=True, text=True, check=True).stdout.strip()}
    out = work / "encoded.jsonl"
    out.unlink(missing_ok=True)
    done = subprocess.run([program.resolve(), "data", work / "data.json", "--json", out], capture_output=True, text=True, env=environment)
    if "error" in case:
        if done.returncode not in (2, 3):
            raise RuntimeError(f"{case['case']} ended with {done.returncode}, recorded {case['error'][:100]}")
        refused += 1
        return
    if done.returncode:
        raise RuntimeError(f"{case['case']} ended with {done.returncode}: {done.stderr.strip().splitlines()[-2:]}")
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    sets = case["result"] if isinstance(case["result"], dict) else {"train": case["result"]}
    for name in ("train", "eval"):
        difference = apart([row for row in rows if row["set"] == name], sets.get(name, []))
        if difference:
            raise RuntimeError(f"{case['case']}, {name}: {difference}")
    yield "encoded lines apart", 0


def run_case(case, work):
    shared = case.parent.parent.parent.parent
    wrong = []
    for line in lines[case]:
        try:
            yield from run_line(line, work, shared)
        except RuntimeError as error:
            wrong.append(str(error))
    if wrong:
        raise RuntimeError(f"{len(wrong)} of {len(lines[case])}: " + "; ".join(wrong[:3]))
