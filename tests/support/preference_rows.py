"""Rows of preferences and of judged answers, for runs of stages dpo, kto and rm: the answers that are preferred end in xxx."""
import json
import random


def write_preferences(data, count, longest):
    """The sets `prefer` and `judged` of `count` rows, with words of 3 to `longest` letters, into the folder `data` and its dataset_info.json."""
    draw = random.Random(5)
    word = lambda: "".join(draw.choice("abcdefgh") for _ in range(draw.randrange(3, longest + 1)))
    rows = [(f"say {word()}", word() + "xxx", word()) for _ in range(count)]
    write_set(data, "prefer", [{"instruction": q, "chosen": good, "rejected": bad} for q, good, bad in rows], ranking=True, columns=dict(prompt="instruction", chosen="chosen", rejected="rejected"))
    write_set(data, "judged", [{"instruction": q, "output": good if i % 2 else bad, "good": i % 2 == 1} for i, (q, good, bad) in enumerate(rows)],
              columns=dict(prompt="instruction", response="output", kto_tag="good"))


def write_set(data, name, rows, **entry):
    (data / f"{name}.json").write_text(json.dumps(rows))
    info = json.loads((data / "dataset_info.json").read_text())
    info[name] = dict(file_name=f"{name}.json", **entry)
    (data / "dataset_info.json").write_text(json.dumps(info))
