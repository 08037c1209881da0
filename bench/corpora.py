"""Texts for tokenizer.py, built from what the machine has: English and Chinese prose, code. Varied, no paragraph twice."""
import gettext
import glob
import json
import os


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from _strings(v)
    elif isinstance(value, list):
        for v in value:
            yield from _strings(v)


def _data_files(folder, names):
    for name in names:
        path = os.path.join(folder, name)
        if not os.path.exists(path):
            continue
        with open(path, encoding="utf-8") as f:
            if name.endswith(".txt"):
                yield from (line + "\n" for line in f.read().splitlines())
            elif name.endswith(".jsonl"):
                for line in f:
                    yield from _strings(json.loads(line))
            else:
                yield from _strings(json.load(f))


def _translations(language):
    for path in sorted(glob.glob(f"/usr/share/locale/{language}/LC_MESSAGES/*.mo")):
        try:
            with open(path, "rb") as f:
                yield from (v for k, v in sorted(gettext.GNUTranslations(f)._catalog.items(), key=str) if k)
        except (OSError, UnicodeDecodeError, ValueError):
            continue


def _sources():
    for pattern in ("/usr/lib/python3*/*.py", "/usr/include/c++/*/bits/*.h", "/usr/include/*.h"):
        for path in sorted(glob.glob(pattern)):
            try:
                with open(path, encoding="utf-8") as f:
                    yield f.read()
            except (OSError, UnicodeDecodeError):
                continue


def _unique(pieces, limit, keep=lambda text: True):
    seen, out, size = set(), [], 0
    for text in pieces:
        if text in seen or not text.strip() or not keep(text):
            continue
        seen.add(text)
        out.append(text if text.endswith("\n") else text + "\n")
        size += len(out[-1].encode())
        if size >= limit:
            break
    return "".join(out)


def _chinese(text):
    return sum("\u4e00" <= c <= "\u9fff" for c in text) * 3 > len(text)


def build(data, out, limit=2_500_000):
    """Writes english.txt, chinese.txt, code.txt under `out`; returns {kind: path}."""
    os.makedirs(out, exist_ok=True)
    english = ["wiki_demo.txt", "c4_demo.jsonl", "alpaca_en_demo.json", "dpo_en_demo.json"]
    texts = {
        "english": _unique(_data_files(data, english), limit, lambda t: len(t) > 40),
        "chinese": _unique((t for source in (_data_files(data, ["alpaca_zh_demo.json"]), _translations("zh_CN"), _translations("zh_TW"))
                            for t in source), limit, _chinese),
        "code": _unique(_sources(), limit),
    }
    paths = {}
    for kind, text in texts.items():
        paths[kind] = os.path.join(out, kind + ".txt")
        with open(paths[kind], "w", encoding="utf-8", newline="") as f:
            f.write(text)
    return paths
