#!/usr/bin/env python3
"""Makes tokenizers/: small tokenizers in files other than tokenizer.json, and what the libraries whose files they are encode and decode.

usage: make_tokenizer_cases.py OUT_FOLDER [--large]   (needs sentencepiece, tiktoken, mistral-common, transformers 5, tokenizers, protobuf)

Each folder holds the tokenizer's files and cases.jsonl. A line: {"text", "ids", "around" (with special tokens added), "decoded"}, or
{"ids", "decoded"} for ids that no text gives. Where a library's own ids and those of transformers' conversion are both known, a text on
which they differ ends the script, unless the text holds a special token, which the libraries themselves take for plain text.
--large makes, instead, folders too large for a repository: the files that mistral_common brings, and SentencePiece's own nmt_nfkc.
"""
import base64
import json
import os
import pathlib
import random
import shutil
import sys
import unicodedata

os.environ["HF_HUB_OFFLINE"] = "1"
import sentencepiece
import tiktoken
from mistral_common.tokens.tokenizers.tekken import Tekkenizer
from sentencepiece import sentencepiece_model_pb2
from tiktoken._educational import bpe_train
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoTokenizer
from transformers import convert_slow_tokenizer as convert
from transformers.tokenization_utils_base import generate_merges

LARGE = "--large" in sys.argv
PROSE = """The lamp over the kitchen table hummed while she counted the coins again: 3, 12, 47, and one that was not a coin at all.
Rain came in from the west. It rained on the harbour, on the café, on the two boats that nobody had moved since March.
"You can't mend it," he said, "but you'll learn how it's made." They'd heard that before; they were not sure it was true.
def area(width, height):
    return width * height  # square metres
for i in range(10):
\tprint(i, area(i, i + 1))
数到第三遍的时候，灯灭了。雨从西边来，落在港口，落在没有人的船上。她说：“我们明天再数吧。”
Der Regen fiel auf die Straße; die Bäume über dem Fluss rührten sich nicht. Цифры на монетах стёрлись, но звук остался тем же.
""".strip("\n")

TEXTS = ["", " ", "  ", "   ", "\n", "\n\n", "\n\n\n\n", "\t", " \t \n ", "\r\n", "a", " a", "a ", "  a  b  ", "rain", " rain", "rain ", "The lamp", "the  lamp",
         "the\nlamp", "\nrain", "rain\n", "rain\n\nrain", "123", "1234567", " 12 345", "3.14", "can't you'll IT'S", "don’t", "x = {'a': [1, 2]}", "café", "cafe\u0301",
         "naïve Straße", "数到第三遍", " 雨 从 西边", "雨rain雨", "漢字かなカナ한글", "😀", "😀😀 👩‍👩‍👧 🇩🇪", "👍🏽!", "\u0000", "\u0001\u0002\u001b[0m", "\u007f\u0080\u009f",
         "\u00a0a\u00a0", "\u3000雨\u3000", "\u200b\u200d\ufeff", "▁", "▁▁", "▁a", " ▁ a", "a▁b", "a ▁", "<0x41>", "<0x0A>a", "</s>", "a</s>b", "<s>rain", " <s> rain </s> x",
         "<unk>", "a<unk>b", "<pad>", "<|endoftext|>", "<|im_start|>user\nHi<|im_end|>", "<start_of_turn>user\n", "[INST] rain [/INST]", "<sep>", "a<sep>b", "a <sep> b<sep>",
         "Ａｂｃ１２", "ﬁne ﬂow", "½ cup", "①②", "ſ", "İstanbul", "ǅ", "Ⅳ", "㎏", "e\u0301\u0301\u0301\u0301\u0301", "\u0301", "क्षि", "مرحبا", "שלום", "ไทย", "Привет, мир",
         "\U00020000", "\U0010ffff", "\ufffd", "\u2028\u2029", "a" * 50, " " * 40, "\n" * 35, "ab" * 30, "雨" * 20, "!?!?...,,,", "----====", "http://a.b/c?d=e&f=%20",
         "<tool>", "rain  <tool>  rain <tool>", " <|turn|> user<|turn|>", "雨、灯。数、a。", "々〆〇ー", "(a|b) c.d", "def f(x):\n    return x\n", "\tprint(i)\n", "snake_case camelCase HTTPServer", "UPPER lower Title", "ÀÉÎ àéî", "5%", "$3,000.50", "#include <x>"]
PARTS = ["rain", " the", "lamp", " ", "  ", "\n", "\t", "é", "e\u0301", "雨", "灯", "😀", "1", "23", ".", "'s", "Ｗ", "ﬁ", "▁", "\u0000", "\u00a0", "\u3000", "x", "Q", "<sep>", "ß", "ж",
         "\r", "</", "s>", "\u200b", "½", "ka", "한"]


def texts(seed):
    draw = random.Random(seed)
    return TEXTS + PROSE.split("\n") + [PROSE] + ["".join(draw.choice(PARTS) for _ in range(draw.randint(1, 12))) for _ in range(150 if LARGE else 50)]


def plain(text, special):
    return not any(token in text for token in special)


def write(folder, tokenizer, seed, own=None, special=(), config=None, size=None):
    """own(text): the ids of the library whose files these are, or None where its rule is another one. tokenizer: tokenizers.Tokenizer or transformers'."""
    fast = tokenizer if isinstance(tokenizer, Tokenizer) else tokenizer.backend_tokenizer
    lines, compared = [], 0
    for text in texts(seed):
        ids = fast.encode(text, add_special_tokens=False).ids
        if own is not None and plain(text, special):
            expected = own(text)
            compared += expected is not None
            if expected not in (None, ids):
                sys.exit(f"{folder}: {text!r}: {ids} {expected}")
        lines.append({"text": text, "ids": ids, "around": fast.encode(text).ids, "decoded": fast.decode(ids, skip_special_tokens=False)})
    draw = random.Random(seed + 1)
    size = size or fast.get_vocab_size()
    for _ in range(80 if LARGE else 30):
        ids = [draw.randrange(size) for _ in range(draw.randint(1, 12))]
        lines.append({"ids": ids, "decoded": fast.decode(ids, skip_special_tokens=False)})
    if config is not None:
        (folder / "tokenizer_config.json").write_text(json.dumps(config, indent=1) + "\n")
    (folder / "cases.jsonl").write_text("".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines))
    print(f"{folder.name}: {len(lines)} cases, {compared} the same in the library itself")


def train(folder, model_type, rules=None, **more):
    folder.mkdir(parents=True)
    prose = folder / "prose.txt"
    prose.write_text(PROSE)
    if rules:
        (folder / "rules.tsv").write_text("".join("%s\t%s\n" % (" ".join("%X" % ord(c) for c in a), " ".join("%X" % ord(c) for c in b)) for a, b in rules))
        more["normalization_rule_tsv"] = str(folder / "rules.tsv")
    sentencepiece.SentencePieceTrainer.train(input=str(prose), model_prefix=str(folder / "tokenizer"), model_type=model_type, hard_vocab_limit=False,
                                             minloglevel=2, num_threads=1, **more)
    for name in ("prose.txt", "tokenizer.vocab", "rules.tsv"):
        (folder / name).unlink(missing_ok=True)
    path = folder / "tokenizer.model"
    model = sentencepiece_model_pb2.ModelProto.FromString(path.read_bytes())
    model.trainer_spec.ClearField("input")
    model.trainer_spec.ClearField("model_prefix")
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    path.write_bytes(model.SerializeToString())
    return model


class Slow:  # what a converter asks of a slow tokenizer
    add_prefix_space = True

    def __init__(self, folder, **more):
        self.vocab_file = str(folder / "tokenizer.model")
        self.pieces = sentencepiece.SentencePieceProcessor(model_file=self.vocab_file)
        self.__dict__.update(more)

    def convert_ids_to_tokens(self, i):
        return self.pieces.id_to_piece(i)


def with_merges(converter):
    """The converter of that class, with the merges that version 4 made: by score."""
    def tokenizer(self, proto):
        vocab = self.vocab(proto)
        ids = {piece: i for i, (piece, _) in enumerate(vocab)}
        made = Tokenizer(models.BPE(ids, generate_merges(ids, dict(vocab)), unk_token=proto.trainer_spec.unk_piece, fuse_unk=True, byte_fallback=True))
        made.add_tokens([AddedToken(p.piece, normalized=False, special=p.type == 3 or p.piece in self.special_tokens)
                         for p in proto.pieces if p.type in (3, 4)])
        made.add_special_tokens([AddedToken(proto.trainer_spec.unk_piece, normalized=False, special=True)])
        return made
    return type("With" + converter.__name__, (converter,), {"tokenizer": tokenizer})


def around(tokenizer, bos):
    from tokenizers.processors import TemplateProcessing
    tokenizer.post_processor = TemplateProcessing(single=f"{bos}:0 $A:0", pair=f"{bos}:0 $A:0 {bos}:1 $B:1", special_tokens=[(bos, tokenizer.token_to_id(bos))])
    return tokenizer


RULES = [("\n", " "), ("\t", " "), ("\r", " "), ("\u00a0", " "), ("\u3000", " "), ("\u0001", ""), ("\u0002", ""), ("\u200b", ""), ("\ufeff", ""), ("ﬁ", "fi"), ("ﬂ", "fl"),
         ("½", "1⁄2"), ("①", "1"), ("②", "2"), ("Ａ", "A"), ("ｂ", "b"), ("ｃ", "c"), ("１", "1"), ("２", "2"), ("Ｗ", "W"), ("e\u0301", "é"), ("㎏", "kg"), ("Ⅳ", "IV"), ("ſ", "s")]
LLAMA = dict(vocab_size=420, byte_fallback=True, normalization_rule_name="identity", remove_extra_whitespaces=False, character_coverage=0.98, split_digits=True,
             allow_whitespace_only_pieces=True)


def sentencepiece_cases(out):
    folder = out / "llama_legacy"
    train(folder, "bpe", **LLAMA, user_defined_symbols=["<sep>"])
    slow = Slow(folder, legacy=True)
    special = ["<s>", "</s>", "<unk>", "<sep>"]
    write(folder, around(with_merges(convert.LlamaConverter)(slow).converted(), "<s>"), 1, slow.pieces.encode, special, {"tokenizer_class": "LlamaTokenizer"})

    folder = out / "llama"
    train(folder, "bpe", **LLAMA)
    slow = Slow(folder, legacy=False)
    config = {"tokenizer_class": "LlamaTokenizer", "legacy": False, "add_bos_token": True, "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    # Without legacy a text that begins with a space gets no other, which SentencePiece would give it.
    write(folder, AutoTokenizer.from_pretrained(folder), 2, lambda text: None if text.startswith(" ") else slow.pieces.encode(text), special + ["▁"], config)

    folder = out / "gemma"
    runs = ["\n" * n for n in range(2, 6)] + ["▁" * n for n in range(2, 6)]
    train(folder, "bpe", **LLAMA | {"vocab_size": 450}, add_dummy_prefix=False, pad_id=0, eos_id=1, bos_id=2, unk_id=3, bos_piece="<bos>", eos_piece="<eos>",
          user_defined_symbols=["<mask>", "<start_of_turn>", "<end_of_turn>"] + runs)
    slow = Slow(folder, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>")
    config = {"tokenizer_class": "GemmaTokenizer", "bos_token": "<bos>", "eos_token": "<eos>", "unk_token": "<unk>", "pad_token": "<pad>"}
    made = with_merges(convert.GemmaConverter)(slow).converted()
    write(folder, around(made, "<bos>"), 3, slow.pieces.encode, ["<pad>", "<unk>", "<bos>", "<eos>", "<start_of_turn>", "\t", "<0x", "▁"], config)

    for name, kind, more in (("plain_bpe", "bpe", {}), ("named_bpe", "bpe", {}), ("plain_unigram", "unigram", {"vocab_size": 330})):
        folder = out / name
        train(folder, kind, RULES, **{"vocab_size": 420, "byte_fallback": kind == "bpe", "character_coverage": 0.98, "user_defined_symbols": ["<sep>", "ka"]} | more)
        config = None
        if name == "named_bpe":  # a new token, and a piece under another name
            flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True}
            config = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "add_bos_token": True, "added_tokens_decoder": {
                "420": flags | {"content": "<tool>", "special": False}, "400": flags | {"content": "<|turn|>", "special": True, "normalized": False}}}
            (folder / "tokenizer_config.json").write_text(json.dumps(config))
        write(folder, AutoTokenizer.from_pretrained(folder), 4, None if config else Slow(folder).pieces.encode, ["<s>", "</s>", "<unk>", "▁", "\u0301\u0301"], config)  # tokenizers maps by grapheme


def byte_ranks():
    ranks = bpe_train(PROSE * 2, 420, GPT2, visualise=None)
    return dict(sorted(ranks.items(), key=lambda entry: entry[1]))


GPT2 = r"""'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"""
CL = r"""(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"""
KIMI = "|".join([r"[\p{Han}]+",
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                 r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]+[\p{Ll}\p{Lm}\p{Lo}\p{M}&&[^\p{Han}]]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?",
                 r"\p{N}{1,3}", r" ?[^\s\p{L}\p{N}]+[\r\n]*", r"\s*[\r\n]+", r"\s+(?!\S)", r"\s+"])


class OfTiktoken:
    """tiktoken itself, with the special tokens of the model's own class; asked as a tokenizers.Tokenizer is."""

    def __init__(self, ranks, pattern, special, normal=str, bos=()):
        self.encoding = tiktoken.Encoding("small", pat_str=pattern, mergeable_ranks=ranks, special_tokens=special)
        self.normal, self.bos = normal, list(bos)

    def encode(self, text, add_special_tokens=True):
        ids = self.encoding.encode(self.normal(text), allowed_special="all")
        return type("Encoding", (), {"ids": self.bos + ids if add_special_tokens else ids})

    def decode(self, ids, skip_special_tokens=False):
        return self.encoding.decode(ids)

    def get_vocab_size(self):
        return self.encoding.max_token_value + 1



def tiktoken_cases(out):
    ranks = byte_ranks()
    lines = "".join(f"{base64.b64encode(token).decode()} {rank}\n" for token, rank in ranks.items())
    base = len(ranks)
    for name, file, pattern, special, normal, config, bos in (
            ("qwen_tiktoken", "qwen.tiktoken", CL.replace("DIGITS", ""), ["<|endoftext|>", "<|im_start|>", "<|im_end|>"] + [f"<|extra_{i}|>" for i in range(205)],
             lambda text: unicodedata.normalize("NFC", text), {"tokenizer_class": "QWenTokenizer"}, []),
            ("llama3_tiktoken", "tokenizer.model", CL.replace("DIGITS", "{1,3}"),
             ["<|begin_of_text|>", "<|end_of_text|>"] + [f"<|reserved_special_token_{i}|>" for i in range(4)] + ["<|start_header_id|>", "<|end_header_id|>",
              "<|reserved_special_token_4|>", "<|eot_id|>"] + [f"<|reserved_special_token_{i}|>" for i in range(5, 251)], str, {"tokenizer_class": "LlamaTokenizer"}, [base]),
            ("kimi_tiktoken", "tiktoken.model", KIMI, ["[BOS]", "[EOS]", "<|im_end|>"] + [f"<|reserved_token_{base + i}|>" for i in range(3, 256)], str,
             {"tokenizer_class": "TikTokenTokenizer", "bos_token": "[BOS]", "eos_token": "[EOS]", "added_tokens_decoder": {
                 str(base + i): {"content": token, "special": True} for i, token in enumerate(["[BOS]", "[EOS]", "<|im_end|>"])}}, [])):
        folder = out / name
        folder.mkdir(parents=True)
        (folder / file).write_text(lines)
        made = OfTiktoken(ranks, pattern, {token: base + i for i, token in enumerate(special)}, normal, bos)
        write(folder, type("Backend", (), {"backend_tokenizer": made}), 5, config=config)


def classes_case(out):
    """Classes within classes and intersections of them in a tokenizer.json, as BLOOM's and Kimi's patterns have them."""
    folder = out / "regex_classes"
    folder.mkdir(parents=True)
    ids, merges = convert_ranks(byte_ranks())
    made = Tokenizer(models.BPE(ids, merges))
    made.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(r" ?[^(\s|[.,!?…。，、।۔،])]+"), "isolated"), pre_tokenizers.Split(Regex(KIMI), "isolated"),
        pre_tokenizers.Split(Regex(r"[^\p{Han}&&[^a-m[0-4]]]"), "merged_with_previous"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    made.decoder = decoders.ByteLevel()
    made.save(str(folder / "tokenizer.json"), pretty=False)
    write(folder, made, 9)


def convert_ranks(ranks):
    from transformers.integrations.mistral.tokenizer import MistralConverter
    return MistralConverter._extract_merges(ranks)


def tekken_case(out, file=None):
    folder = out / (file.stem if file else "tekken")
    folder.mkdir(parents=True)
    path = folder / "tekken.json"
    if file:
        shutil.copy(file, path)
    else:
        pattern = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+"
                   r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
        ranks = byte_ranks()
        special = ["<unk>", "<s>", "</s>", "[INST]", "[/INST]", "<pad>"]
        path.write_text(json.dumps({
            "config": {"pattern": pattern, "num_vocab_tokens": len(ranks), "default_vocab_size": len(ranks) - 5 + 20, "default_num_special_tokens": 20, "version": "v11"},
            "vocab": [{"rank": rank, "token_bytes": base64.b64encode(token).decode(), "token_str": None} for token, rank in ranks.items()],
            "special_tokens": [{"rank": i, "token_str": token, "is_control": True} for i, token in enumerate(special)]}))
    from transformers.integrations.mistral.tokenizer import MistralConverter
    library = Tekkenizer.from_file(path)
    special = [token["token_str"] for token in library._all_special_tokens]
    write(folder, around(MistralConverter(str(path)).converted(), "<s>"), 6, lambda text: library.encode(text, bos=False, eos=False), special)


def large_cases(out):
    import mistral_common
    data = pathlib.Path(mistral_common.__file__).parent / "data"
    for file in sorted(data.glob("*.model.v*")):
        folder = out / file.name.replace(".", "_")
        folder.mkdir(parents=True)
        shutil.copy(file, folder / "tokenizer.model")
        slow = Slow(folder, legacy=True)
        special = [slow.pieces.id_to_piece(i) for i in range(slow.pieces.get_piece_size()) if slow.pieces.is_control(i) or slow.pieces.is_unknown(i)] + ["[INST]"]
        write(folder, around(with_merges(convert.LlamaConverter)(slow).converted(), "<s>"), 7, slow.pieces.encode, special, {"tokenizer_class": "LlamaTokenizer"})
    for file in sorted(data.glob("tekken*.json")):
        tekken_case(out, file)
    for name, kind in (("nmt_nfkc_bpe", "bpe"), ("nmt_nfkc_unigram", "unigram")):
        folder = out / name
        train(folder, kind, vocab_size=420, byte_fallback=True, character_coverage=0.98, normalization_rule_name="nmt_nfkc")
        write(folder, AutoTokenizer.from_pretrained(folder), 8)


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    target = pathlib.Path(sys.argv[1])
    if LARGE:
        large_cases(target)
    else:
        sentencepiece_cases(target)
        tiktoken_cases(target)
        tekken_case(target)
        classes_case(target)
