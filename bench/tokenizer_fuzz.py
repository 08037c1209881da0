"""Random texts through loraine's tokenizer and the `tokenizers` library: ids (special tokens added or not) and decoding must be equal.

python bench/tokenizer_fuzz.py --program build/bench_tokenizer [--texts 20000] [--seed 1] TOKENIZER.json...
Prints the differences (at most 20 a file) and how many texts were compared; exits with 1 when there was one.
"""
import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import unicodedata

os.environ["TOKENIZERS_PARALLELISM"] = "false"
import tokenizers  # noqa: E402

SCRIPTS = [(0x41, 0x5A), (0x61, 0x7A), (0xC0, 0x24F), (0x370, 0x3FF), (0x400, 0x52F), (0x530, 0x58F), (0x590, 0x5FF), (0x600, 0x6FF),
           (0x900, 0x97F), (0x980, 0x9FF), (0xB80, 0xBFF), (0xE00, 0xE7F), (0xF00, 0xFFF), (0x1000, 0x109F), (0x10A0, 0x10FF),
           (0x1100, 0x11FF), (0x1780, 0x17FF), (0x1E00, 0x1EFF), (0x1F00, 0x1FFF), (0x2000, 0x206F), (0x2070, 0x209F), (0x20A0, 0x20CF),
           (0x2100, 0x21FF), (0x2200, 0x22FF), (0x2460, 0x24FF), (0x2580, 0x27BF), (0x3000, 0x303F), (0x3040, 0x30FF), (0x4E00, 0x9FFF),
           (0xAC00, 0xD7A3), (0xF900, 0xFAFF), (0xFB00, 0xFDFF), (0xFE00, 0xFE6F), (0xFF00, 0xFFEF), (0x10000, 0x100FF),
           (0x1D400, 0x1D7FF), (0x1F300, 0x1FAFF), (0x20000, 0x2A6DF), (0x2F800, 0x2FA1F), (0xE0000, 0xE01EF)]
SPACES = [" ", "  ", "\t", "\n", "\r", "\r\n", "\v", "\f", "\x1c", "\x1d", "\x1e", "\x1f", "\x85", "\xa0", "\u1680", "\u180e", "\u2000",
          "\u2009", "\u200a", "\u200b", "\u2028", "\u2029", "\u202f", "\u205f", "\u3000", "\ufeff", "\u2581", "\u2581\u2581"]
CONTRACTIONS = ["'s", "'S", "'t", "'re", "'RE", "'Ve", "'m", "'LL", "'d", "'\u017f", "\u2019s", "'", "''", "'x"]
EMOJI = ["\U0001F468\u200d\U0001F469\u200d\U0001F467", "\U0001F1E9\U0001F1EA", "\u2764\ufe0f", "\U0001F44D\U0001F3FD", "\U0001F600"]
WORDS = ("the of and to in is that for model training gradient adapter rank def return import self None printf std::vector <html> https:// "
         "naïve café Straße 你好 世界 机器学习 的 是 我们 こんにちは カタカナ 한국어 привет мир مرحبا שלום नमस्ते สวัสดี 1234 3.14 2,000 x86_64 "
         "foo_bar camelCase I'm don't we'll WON'T").split()


def ranges_of_categories(wanted):
    return [chr(c) for c in range(0x110000) if not 0xD800 <= c < 0xE000 and unicodedata.category(chr(c)) in wanted]


MARKS = ranges_of_categories({"Mn", "Mc", "Me"})
NUMBERS = ranges_of_categories({"Nd", "Nl", "No"})
CONTROLS = [chr(c) for c in list(range(0x20)) + list(range(0x7F, 0xA0))] + ["\u200e", "\u202e", "\u2066", "\ufffd", "\ufffe", "\uffff"]


def any_char(r):
    while True:
        c = r.randrange(0x110000) if r.random() < 0.3 else r.randrange(0x30000)
        if not 0xD800 <= c < 0xE000:
            return chr(c)


def piece(r, specials, tokens):
    kind = r.randrange(16)
    if kind == 0:
        return any_char(r)
    if kind == 1:
        low, high = r.choice(SCRIPTS)
        return "".join(chr(r.randint(low, high)) for _ in range(r.randint(1, 8)))
    if kind == 2:
        return r.choice(SPACES) * r.choice([1, 1, 1, 2, 3, 7])
    if kind == 3:
        return r.choice(CONTRACTIONS)
    if kind == 4:
        return r.choice(EMOJI)
    if kind == 5:
        return r.choice("aeiouAEonkKxがか각ㄱ") + "".join(r.choice(MARKS) for _ in range(r.randint(1, 4)))
    if kind == 6:
        return "".join(r.choice(NUMBERS if r.random() < 0.3 else "0123456789") for _ in range(r.randint(1, 7)))
    if kind == 7:
        return r.choice(CONTROLS)
    if kind == 8:
        s = r.choice(specials) if specials else "<s>"
        return s if r.random() < 0.7 else s[: r.randint(1, len(s))]
    if kind == 9:
        return r.choice("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") * r.choice([1, 1, 2, 3, 10])
    if kind == 10:
        return r.choice(tokens)
    if kind == 11 and r.random() < 0.1:
        return r.choice([" ", "a", "é", "中", "\n", "0", "=", "\U0001F600", "\t", "ab", "! "]) * r.randint(20, 300)
    if kind == 12 and r.random() < 0.1:  # one long word of few parts
        parts = [r.choice(["a", "aa", "b", "ab", "=", "-", "é", "中", "国", "0", " ", "\n", r.choice(tokens), any_char(r)]) for _ in range(3)]
        return "".join(r.choice(parts) for _ in range(r.randint(50, 600)))
    return r.choice(WORDS) + r.choice([" ", " ", " ", "", "\n", ", ", ". "])


def random_text(r, specials, tokens):
    return "".join(piece(r, specials, tokens) for _ in range(r.choice([1, 2, 3, 5, 8, 13, 30])))


def fuzz(program, path, count, seed):
    library = tokenizers.Tokenizer.from_file(path)
    library.no_truncation()
    added = library.get_added_tokens_decoder()
    specials = [t.content for t in added.values()]
    vocabulary = sorted(library.get_vocab(with_added_tokens=False))
    pieces = [library.decode([library.token_to_id(t)]) or t for t in vocabulary[:: max(1, len(vocabulary) // 30000)]]
    r = random.Random(seed)
    size = library.get_vocab_size(with_added_tokens=True)
    cases = []
    with tempfile.NamedTemporaryFile("w+", suffix=".jsonl") as requests:
        for k in range(count):
            text, special = random_text(r, specials, pieces), bool(k % 2)
            ids = library.encode(text, add_special_tokens=special).ids
            shown = ids if k % 4 else [r.randrange(size) for _ in range(r.randint(1, 12))]
            cases.append((text, special, ids, shown))
            requests.write(json.dumps({"text": text, "add_special_tokens": special, "ids": shown}) + "\n")
        requests.flush()
        with open(requests.name) as stdin:
            answers = subprocess.run([program, path, "--lines"], stdin=stdin, capture_output=True, text=True, check=True).stdout.splitlines()
    assert len(answers) == count, (len(answers), count)
    wrong = 0
    for (text, special, ids, shown), line in zip(cases, answers):
        answer = json.loads(line)
        found = []
        if answer["ids"] != ids:
            found.append(("ids", answer["ids"], ids))
        for name, skip in (("decoded", False), ("decoded_skip", True)):
            expected = library.decode(shown, skip_special_tokens=skip)
            if answer[name] != expected:
                found.append((name, answer[name], expected))
        wrong += bool(found)
        if found and wrong <= 20:
            print(json.dumps({"file": path, "text": text, "add_special_tokens": special, "shown": shown, "differs": found}))
    print(f"{path}: {count} texts, {sum(len(c[0].encode()) for c in cases)} bytes, {wrong} differ")
    return wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--texts", type=int, default=20000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("files", nargs="+")
    a = parser.parse_args()
    return 1 if sum(fuzz(a.program, f, a.texts, a.seed) for f in a.files) else 0


if __name__ == "__main__":
    sys.exit(main())
