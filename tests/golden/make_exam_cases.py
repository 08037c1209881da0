#!/usr/bin/env python3
"""Records tests/golden/eval/exam/*: small examinations in the published layouts and what LLaMA-Factory's Evaluator does with them: the prompts
it asks and, with a model folder (argument 1), its results.json. Its dataset scripts no longer load with datasets 4, so the CSV files are
read here as those scripts read them. Needs llamafactory 0.9.5, pandas. Usage: make_exam_cases.py MODEL TEMPLATE"""
import json
import pathlib
import sys
import tempfile

import pandas
from datasets import Dataset, DatasetDict
from llamafactory.eval import evaluator, template

here = pathlib.Path(__file__).resolve().parent / "eval/exam"
subjects = {
    "mmlu": {"anatomy": ("anatomy", "Other"), "astronomy": ("astronomy", "STEM"), "sociology": ("sociology", "Social Sciences")},
    "ceval": {"logic": ("逻辑学", "Humanities"), "law": ("法学", "Humanities")},
    "cmmlu": {"agronomy": ("农学", "Other")},
}


def questions(subject, part, count):
    return [[f'Question {i} of {subject}, "{part}"?\nSecond line', f"first {i}", f"second, {i}", f"third {i}", f"4.5{i}", "ABCD"[(i * 7 + len(part)) % 4]] for i in range(count)]


def write():
    for task, names in subjects.items():
        folder = here / task
        (folder).mkdir(parents=True, exist_ok=True)
        (folder / "mapping.json").write_text(json.dumps({k: {"name": n, "category": c} for k, (n, c) in names.items()}, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        for name in names:
            for part, count in (("test", 4), ("dev", 3)) + ((("val", 2),) if task != "cmmlu" else ()):
                frame = pandas.DataFrame(questions(name, part, count), columns=["question", "A", "B", "C", "D", "answer"])
                inside = folder / ("data" if task == "mmlu" else "") / part
                inside.mkdir(parents=True, exist_ok=True)
                if task == "mmlu":
                    frame.to_csv(inside / f"{name}_{part}.csv", header=False, index=False)
                elif task == "ceval":
                    frame.insert(0, "id", range(count))
                    if part == "test":
                        frame = frame.drop(columns=["answer"])
                    else:
                        frame["explanation"] = "because, so"
                    frame.to_csv(inside / f"{name}_{part}.csv", index=False)
                else:
                    frame.columns = ["Question", "A", "B", "C", "D", "Answer"]
                    frame.to_csv(inside / f"{name}.csv")


def load(path, name, **_):
    task, folder = pathlib.Path(path).name, pathlib.Path(path)
    sets = {}
    for split, part in (("test", "test"), ("validation", "val"), ("train", "dev")):
        if task == "mmlu":
            frame = pandas.read_csv(folder / "data" / part / f"{name}_{part}.csv", header=None, dtype=str)
            frame.columns = ["question", "A", "B", "C", "D", "answer"]
        elif task == "ceval":
            frame = pandas.read_csv(folder / part / f"{name}_{part}.csv", encoding="utf-8", dtype=str)
            if "answer" not in frame:
                frame["answer"] = ""
        elif part == "val":
            continue
        else:
            frame = pandas.read_csv(folder / part / f"{name}.csv", header=0, index_col=0, encoding="utf-8", dtype=str).rename(columns={"Question": "question", "Answer": "answer"})
        sets[split] = Dataset.from_list(frame.to_dict(orient="records"))
    return DatasetDict(sets)


write()
evaluator.load_dataset = load
prompts = []
format_example = template.EvalTemplate.format_example


def recorded(self, **words):
    messages = format_example(self, **words)
    prompts.append([m["content"] for m in messages])
    return messages


template.EvalTemplate.format_example = recorded
cases = []
for task, lang, shots in (("mmlu_test", "en", 2), ("mmlu_validation", "en", 5), ("ceval_validation", "zh", 1), ("cmmlu_test", "zh", 0)):
    prompts.clear()
    with tempfile.TemporaryDirectory() as folder:
        one = evaluator.Evaluator(dict(model_name_or_path=sys.argv[1], template=sys.argv[2], task=task, task_dir=str(here), lang=lang, n_shot=shots,
                                       batch_size=3, save_dir=folder + "/out", trust_remote_code=True))
        one.eval()
        results = json.loads(pathlib.Path(folder, "out/results.json").read_text())
        log = pathlib.Path(folder, "out/results.log").read_text()
    cases.append({"task": task, "lang": lang, "n_shot": shots, "prompts": list(prompts), "results": results, "log": log})
(here / "cases.json").write_text(json.dumps({"model": pathlib.Path(sys.argv[1]).name, "template": sys.argv[2], "cases": cases}, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
