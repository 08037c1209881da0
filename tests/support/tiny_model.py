"""Small random models and tokenized data for the end-to-end tests, and a way to run the program. Standard library only."""
import array
import json
import os
import pathlib
import random
import shutil
import struct
import subprocess
import tempfile
import unittest

root = pathlib.Path(__file__).resolve().parent.parent.parent
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test asks a hub for what it does not find here
program = pathlib.Path(os.environ.get("LORAINE_PROGRAM", root / "build/loraine"))

vocab, channels, inner, layers, heads, kv_heads = 64, 16, 32, 2, 4, 2
large = dict(vocab=8000, channels=256, inner=688, layers=8, heads=8, kv_heads=4)  # for figures of memory
wide = dict(vocab=4000, channels=384, inner=1024, layers=6, heads=6, kv_heads=3)  # 52 MB: its products run in kernels that oneDNN generates


def run(*arguments, cwd=None):
    """(exit code, stdout + stderr)"""
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, cwd=cwd, timeout=300, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


def write_safetensors(path, tensors):
    """tensors: name → (dtype, shape, bytes)"""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data for _, _, data in tensors.values()))


def read_safetensors(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    codes = {"F32": "f", "I32": "i", "I64": "q", "F64": "d"}
    result = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            values = array.array(codes[entry["dtype"]])
            values.frombytes(data[8 + size + entry["data_offsets"][0] : 8 + size + entry["data_offsets"][1]])
            result[name] = (entry["shape"], values)
    return result


def llama_tensors(seed=1, vocab=vocab, channels=channels, inner=inner, layers=layers, heads=heads, kv_heads=kv_heads):
    draw = random.Random(seed)

    def weight(*shape, mean=0.0, spread=0.15):
        count = 1
        for size in shape:
            count *= size
        block = array.array("f", [draw.gauss(mean, spread) for _ in range(min(count, 4099))])  # large ones repeat it
        return "F32", list(shape), (block * (count // len(block) + 1))[:count].tobytes()

    head = channels // heads
    tensors = {"model.embed_tokens.weight": weight(vocab, channels), "model.norm.weight": weight(channels, mean=1.0)}
    for layer in range(layers):
        at = f"model.layers.{layer}."
        for name, rows, columns in [
            ("self_attn.q_proj", heads * head, channels), ("self_attn.k_proj", kv_heads * head, channels), ("self_attn.v_proj", kv_heads * head, channels),
            ("self_attn.o_proj", channels, heads * head), ("mlp.gate_proj", inner, channels), ("mlp.up_proj", inner, channels), ("mlp.down_proj", channels, inner),
        ]:
            tensors[f"{at}{name}.weight"] = weight(rows, columns)
        for name in ("input_layernorm", "post_attention_layernorm"):
            tensors[f"{at}{name}.weight"] = weight(channels, mean=1.0)
    tensors["lm_head.weight"] = weight(vocab, channels)
    return tensors


def write_model(folder, seed=1, positions=None, **sizes):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    size = dict(vocab=vocab, channels=channels, inner=inner, layers=layers, heads=heads, kv_heads=kv_heads) | sizes
    config = dict(
        architectures=["LlamaForCausalLM"], model_type="llama", vocab_size=size["vocab"], hidden_size=size["channels"],
        intermediate_size=size["inner"], num_hidden_layers=size["layers"], num_attention_heads=size["heads"],
        num_key_value_heads=size["kv_heads"], max_position_embeddings=positions or (1024 if sizes else 128), rms_norm_eps=1e-6,
        rope_theta=10000.0, tie_word_embeddings=False, hidden_act="silu", bos_token_id=1, eos_token_id=2, pad_token_id=0, torch_dtype="float32",
    )
    (folder / "config.json").write_text(json.dumps(config))
    write_safetensors(folder / "model.safetensors", llama_tensors(seed, **size))
    return folder


def write_tokenizer(model):
    """Letters, space and colon as a byte-level BPE without merges; a chat template over them."""
    tokens = ["<pad>", "<s>", "</s>", "Ġ", ":"] + [chr(c) for c in [*range(ord("a"), ord("z") + 1), *range(ord("A"), ord("Z") + 1)]]
    tokens += list("0123456789")[: vocab - len(tokens)]
    special = [dict(id=i, content=tokens[i], special=True, single_word=False, lstrip=False, rstrip=False, normalized=False) for i in range(3)]
    byte_level = dict(type="ByteLevel", add_prefix_space=False, trim_offsets=True, use_regex=True)
    tokenizer = dict(
        version="1.0", truncation=None, padding=None, added_tokens=special, normalizer=None, pre_tokenizer=byte_level, post_processor=None,
        decoder=byte_level, model=dict(type="BPE", dropout=None, unk_token=None, continuing_subword_prefix=None, end_of_word_suffix=None,
                                       fuse_unk=False, byte_fallback=False, vocab={t: i for i, t in enumerate(tokens)}, merges=[]))
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))
    (model / "tokenizer_config.json").write_text(json.dumps(dict(
        tokenizer_class="PreTrainedTokenizerFast", bos_token="<s>", eos_token="</s>", pad_token="<pad>",
        chat_template="{% for m in messages %}{{ m['role'][0] }}:{{ m['content'] }} {% endfor %}a:")))


def write_byte_tokenizer(model):
    """Every byte a token behind three special ones, 259 in all: takes the text of any language. A chat template over them."""
    write_tokenizer(model)
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]  # how GPT-2 spells bytes
    letters = [chr(b) for b in kept] + [chr(256 + i) for i in range(256 - len(kept))]
    tokenizer = json.loads((model / "tokenizer.json").read_text())
    tokenizer["model"]["vocab"] = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", *letters])}
    (model / "tokenizer.json").write_text(json.dumps(tokenizer))


def write_rows(folder, count=24, seed=3, vocab=vocab, lengths=(6, 14)):
    folder = pathlib.Path(folder)
    folder.mkdir(parents=True)
    draw = random.Random(seed)
    with open(folder / "rows.jsonl", "w") as file:
        for _ in range(count):
            ids = [draw.randrange(3, vocab) for _ in range(draw.randrange(*lengths))]
            file.write(json.dumps({"input_ids": ids, "labels": [-100, -100] + ids[2:]}) + "\n")
    (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
    return folder


def train_arguments(model, data, output, **changes):
    settings = dict(
        stage="sft", do_train="true", finetuning_type="lora", model_name_or_path=model, dataset="rows", dataset_dir=data, output_dir=output,
        lora_rank=4, lora_target="all", learning_rate="5e-3", per_device_train_batch_size=2, gradient_accumulation_steps=2, max_steps=12,
        logging_steps=1, lr_scheduler_type="cosine", warmup_steps=2, save_steps=500,
    )
    settings.update(changes)
    return ["train"] + [word for key, value in settings.items() for word in (f"--{key}", value)]


class Case(unittest.TestCase):
    """A folder of its own with a model and tokenized rows; runs write to self.out."""

    def setUp(self):
        self.holder = tempfile.TemporaryDirectory()
        self.work = pathlib.Path(self.holder.name)
        self.model = write_model(self.work / "model")
        self.data = write_rows(self.work / "data")
        self.out = self.work / "out"

    def tearDown(self):
        self.holder.cleanup()

    def arguments(self, out=None, model=None, **changes):
        return train_arguments(model or self.model, self.data, out or self.out, **changes)

    def good(self, result):
        self.assertEqual(result[0], 0, result[1])
        return result[1]

    def resumed(self, train, name, later=(12, 10), **settings):
        """Trains NAME_whole, and NAME_part again from its checkpoint-5, whose later checkpoints and result are gone; gives the folder of that one."""
        train(f"{name}_whole", **settings)
        train(f"{name}_part", **settings)
        part = self.work / f"{name}_part"
        for step in later:
            shutil.rmtree(part / f"checkpoint-{step}")
        (part / "adapter_model.safetensors").unlink()
        self.assertIn("checkpoint-5", train(f"{name}_part", **settings))
        return part

    def refused(self, result, code, *words):
        self.assertEqual(result[0], code, result[1])
        for word in words:
            self.assertIn(word, result[1])
        return result[1]
