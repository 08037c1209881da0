#!/usr/bin/env python3
"""Records tests/golden/eval/text_scores.jsonl: what jieba, rouge_chinese and nltk give, put together as LLaMA-Factory puts them.
Needs jieba 0.42.1, rouge_chinese 1.0.3, nltk 3.9. Chinese rows are scored with their characters as words (jieba's dictionary is left out)."""
import json
import pathlib
import random
import re

import jieba
from nltk.translate.bleu_score import SmoothingFunction, sentence_bleu
from rouge_chinese import Rouge

han = re.compile("[\u4e00-\u9fd5]")
# Characters as words: every Chinese entry leaves the dictionary, and the model that joins unknown ones is not asked.
jieba.initialize()
jieba.dt.FREQ = {word: count for word, count in jieba.dt.FREQ.items() if not han.search(word)}
jieba.finalseg.__dict__["__cut"] = list


def scores(predicted, reference):
    ours, theirs = list(jieba.cut(predicted)), list(jieba.cut(reference))
    if not " ".join(ours).split() or not " ".join(theirs).split():
        found = {name: {"f": 0.0} for name in ("rouge-1", "rouge-2", "rouge-l")}
    else:
        found = Rouge().get_scores(" ".join(ours), " ".join(theirs))[0]
    row = {name: round(value["f"] * 100, 4) for name, value in found.items()}
    row["bleu-4"] = round(sentence_bleu([list(reference)], list(predicted), smoothing_function=SmoothingFunction().method3) * 100, 4)
    return ours, row


pairs = [
    ("The cat sat on the mat.", "The cat sat on the mat."), ("the the the the", "the cat"), ("", "something"), ("something", ""), ("", ""), ("   ", "x"),
    ("a", "a"), ("ab", "ba"), ("Is it? Yes! No.", "It is? Yes... no"), ("wait...... what?", "wait ......what......"), ("dots ....... and ............. more", "dots ...... and"),
    ("C++ and C# at AT&T, not c++11 or FAT&T", "c# c++ AT&T"), ("3.14% of 100.5 e.g. U.S.A. v1.2.3 50%", "3.14 % of 100,5 e. g. USA v1.2 50 %"),
    ("first line\nsecond line\n\n \n third", "first line\n\nsecond"), ("tab\tand\r\nreturn\u3000wide\u00a0hard", "tab and return wide hard"),
    ("caf\u00e9 na\u00efve \u00fcber \u00df", "cafe naive uber ss"), ("\u201cQuoted?\u201d he said. \u201cYes.\u201d", "\"Quoted?\" he said"), ("emoji \U0001f600\U0001f600 \u2026\u2026 end", "emoji \U0001f600 \u2026 end"),
    ("\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002\u6211\u4eec\u53bb\u516c\u56ed\u5427\uff01", "\u4eca\u5929\u7684\u5929\u6c14\u4e0d\u9519\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002"), ("\u7528C++\u5199\u7684v2.0\u7a0b\u5e8f\uff1f", "\u7528C#\u5199\u7684v2.0\u7a0b\u5e8f\u3002"),
    ("snake_case kebab-case a+b=c #tag &amp; x_1", "snake case kebab case a + b"), ("word " * 30, "word " * 7 + "other " * 9),
]
draw = random.Random(11)
vocabulary = ["the", "a", "model", "loss", "is", "0.5", "12%", "(see", "x)", "and", "not", "then,", "low.", "why?", "......", "\n", "\u6a21\u578b", "\u635f\u5931\uff0c", "r-16", "B_1"]
for _ in range(40):
    text = [draw.choice(vocabulary) for _ in range(draw.randrange(1, 25))]
    other = [w if draw.random() < 0.7 else draw.choice(vocabulary) for w in text if draw.random() < 0.9] or ["x"]
    pairs.append((" ".join(text), " ".join(other)))

out = pathlib.Path(__file__).resolve().parent / "eval/text_scores.jsonl"
with open(out, "w", encoding="utf-8") as file:
    for predicted, reference in pairs:
        words, row = scores(predicted, reference)
        file.write(json.dumps({"predicted": predicted, "reference": reference, "words": words, **row}, ensure_ascii=False) + "\n")
print(len(pairs), "pairs in", out)
