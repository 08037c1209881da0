#!/usr/bin/env python3
"""Exports that are calibrated with texts: GPTQ and AWQ checkpoints, whose codes are unpacked here by the formats' definitions and compared with what the
program makes of them, and which lose less on text that they have not seen than rounding to the nearest; importance matrices and parts of GGUFs. Run by ctest
(label e2e)."""
import array
import json
import pathlib
import random
import struct
import sys
import tempfile
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

sizes = dict(vocab=259, channels=64, inner=128, layers=2, heads=4, kv_heads=4)
words = "the river runs to sea and old stones lie under water where birds wait for small fish until evening light is gone over green hills".split()


def prose(seed, sentences):
    """Words that follow each other more often than chance has it."""
    draw = random.Random(seed)
    text, at = [], 0
    for _ in range(sentences):
        for _ in range(draw.randrange(6, 14)):
            at = (at * 7 + draw.choice([1, 1, 1, 2, 5])) % len(words)
            text.append(words[at])
        text[-1] += "."
    return " ".join(text)


def read_any(path):
    data = pathlib.Path(path).read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    found = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name != "__metadata__":
            begin, end = entry["data_offsets"]
            found[name] = (entry["dtype"], entry["shape"], data[8 + size + begin : 8 + size + end])
    return found


def whole_numbers(tensor):
    return struct.unpack(f"<{len(tensor[2]) // 4}I", tensor[2])


def halves(tensor):
    return struct.unpack(f"<{len(tensor[2]) // 2}e", tensor[2])


def gptq_weight(tensors, module, bits):
    """[out][in] by gptqmodel's layout, format gptq."""
    (rows, out), packed, scales = tensors[module + ".qweight"][1], whole_numbers(tensors[module + ".qweight"]), halves(tensors[module + ".scales"])
    g_idx, zeros = whole_numbers(tensors[module + ".g_idx"]), whole_numbers(tensors[module + ".qzeros"])
    columns, mask = rows * 32 // bits, 2**bits - 1
    taken_off = {2: [0x55555555], 3: [0x24924924, 0x92492492, 0x49249249], 4: [0x11111111], 8: [0x01010101]}[bits]
    words_of_zeros = out * bits // 32

    def field(words, index):
        bit = index * bits
        both = words(bit // 32) | (words(bit // 32 + 1) << 32 if bit % 32 + bits > 32 else 0)
        return both >> bit % 32 & mask

    def zero_words(group):
        return lambda w: (zeros[group * words_of_zeros + w] + taken_off[w % len(taken_off)]) & 0xFFFFFFFF

    return [[(field(lambda w: packed[w * out + o], c) - field(zero_words(g_idx[c]), o)) * scales[g_idx[c] * out + o] for c in range(columns)] for o in range(out)]


def awq_weight(tensors, module, group):
    (columns, count), packed, scales = tensors[module + ".qweight"][1], whole_numbers(tensors[module + ".qweight"]), halves(tensors[module + ".scales"])
    zeros, out = whole_numbers(tensors[module + ".qzeros"]), count * 8
    place = {n: i for i, n in enumerate((0, 2, 4, 6, 1, 3, 5, 7))}

    def code(words, row, o):
        return words[row * count + o // 8] >> 4 * place[o % 8] & 15

    return [[(code(packed, c, o) - code(zeros, c // group, o)) * scales[c // group * out + o] for c in range(columns)] for o in range(out)]


def nearest(values, rows, columns, bits, group):
    """A matrix in the codes that each number by itself is nearest to."""
    out = array.array("f", values)
    for row in range(rows):
        for first in range(0, columns, group):
            at = row * columns + first
            part = out[at : at + min(group, columns - first)]
            scale = struct.unpack("<e", struct.pack("<e", 2 * max(map(abs, part)) / (2**bits - 1)))[0]
            for i, value in enumerate(part):
                out[at + i] = (min(2**bits - 1, max(0, round(value / scale) + 2 ** (bits - 1))) - 2 ** (bits - 1)) * scale
    return out


class QuantisedExport(tiny.Case):
    @classmethod
    def setUpClass(cls):
        """A model that has learned something, and texts that it has not seen."""
        cls.shared = tempfile.TemporaryDirectory()
        place = pathlib.Path(cls.shared.name)
        tiny.write_byte_tokenizer(tiny.write_model(place / "start", **sizes))
        for name, seeds, sentences in (("seen", range(100, 300), 6), ("unseen", range(500, 530), 6), ("texts", range(40), 20)):
            (place / f"{name}.jsonl").write_text("".join(json.dumps({"text": prose(seed, sentences)}) + "\n" for seed in seeds))
        code, said = tiny.run("train", "--stage", "pt", "--do_train", "true", "--finetuning_type", "full", "--model_name_or_path", place / "start", "--dataset", place / "seen.jsonl",
                              "--output_dir", place / "trained", "--learning_rate", "3e-3", "--per_device_train_batch_size", 8, "--max_steps", 60, "--cutoff_len", 128, "--logging_steps", 20)
        if code:
            raise RuntimeError(said)
        cls.trained, cls.texts, cls.seen, cls.unseen = place / "trained", place / "texts.jsonl", place / "seen.jsonl", place / "unseen.jsonl"

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def loss(self, model):
        out = self.work / "evaluated"
        self.good(tiny.run("eval", "--stage", "pt", "--model_name_or_path", model, "--eval_dataset", self.unseen, "--cutoff_len", 128, "--output_dir", out, "--overwrite_output_dir", "true"))
        return json.loads((out / "eval_results.json").read_text())["eval_loss"]

    def exported(self, name, *more, model=None):
        return tiny.run("export", "--model_name_or_path", model or self.trained, "--export_dir", self.work / name, "--export_quantization_dataset", self.texts,
                        "--export_quantization_nsamples", 24, "--export_quantization_maxlen", 96, "--export_quantization_group_size", 32, *more)

    def logits(self, *where):
        tiny.write_safetensors(self.work / "batch.safetensors", {"input_ids": ("I64", [1, 8], struct.pack("<8q", 50, 90, 133, 70, 120, 40, 99, 12))})
        self.good(tiny.run("trace", *where, "--batch", self.work / "batch.safetensors", "--output", self.work / "out.safetensors"))
        return tiny.read_safetensors(self.work / "out.safetensors")["logits"][1]

    def plain_copy(self, name, weights):
        """The trained model with other matrices: name → [out · in]."""
        folder = self.work / name
        folder.mkdir()
        for file in self.trained.iterdir():
            if file.is_file() and file.suffix != ".safetensors":
                (folder / file.name).write_bytes(file.read_bytes())
        tensors = read_any(self.trained / "model.safetensors")
        tensors.update({key: ("F32", tensors[key][1], array.array("f", values).tobytes()) for key, values in weights.items()})
        tiny.write_safetensors(folder / "model.safetensors", tensors)
        return folder

    def matrices(self):
        tensors = tiny.read_safetensors(self.trained / "model.safetensors")
        return {name: value for name, value in tensors.items() if name.startswith("model.layers.") and "norm" not in name}

    def test_gptq(self):
        matrices, full = self.matrices(), self.loss(self.trained)
        for bits in (2, 3, 4, 8):
            with self.subTest(bits):
                said = self.good(self.exported(f"gptq_{bits}", "--export_quantization_bit", bits))
                self.assertIn("every tensor read back", said)
                folder = self.work / f"gptq_{bits}"
                config = json.loads((folder / "config.json").read_text())["quantization_config"]
                self.assertEqual((config["bits"], config["group_size"], config["quant_method"], config["desc_act"]), (bits, 32, "gptq", False))
                self.assertEqual(json.loads((folder / "quantize_config.json").read_text()), config)
                self.assertFalse((folder / "merged").exists() or (folder / "packed.tmp").exists())
                tensors = read_any(folder / "model.safetensors")
                unpacked = {name: [value for row in gptq_weight(tensors, name[:-7], bits) for value in row] for name in matrices}
                by_hand = self.plain_copy(f"by_hand_{bits}", unpacked)
                ours = self.logits("--model_name_or_path", folder)
                for one, other in zip(ours, self.logits("--model_name_or_path", by_hand)):
                    self.assertAlmostEqual(one, other, delta=2e-5 * max(map(abs, ours)))
                rounded = self.plain_copy(f"nearest_{bits}", {name: nearest(values, *shape, bits, 32) for name, (shape, values) in matrices.items()})
                lost, lost_by_rounding = self.loss(folder) - full, self.loss(rounded) - full
                print(f"{bits} bits: loss {full:.4f} in full, + {lost:.4f} GPTQ, + {lost_by_rounding:.4f} nearest")
                if bits < 8:
                    self.assertLess(lost, 0.7 * lost_by_rounding)
                self.assertLess(abs(lost), {2: 5, 3: 0.3, 4: 0.05, 8: 0.002}[bits])

    def test_awq(self):
        matrices, full = self.matrices(), self.loss(self.trained)
        said = self.good(self.exported("awq", "--export_quantization_bit", 4, "--export_quantization_method", "awq"))
        self.assertIn("every tensor read back", said)
        folder, tensors = self.work / "awq", read_any(self.work / "awq/model.safetensors")
        config = json.loads((folder / "config.json").read_text())["quantization_config"]
        self.assertEqual((config["bits"], config["group_size"], config["quant_method"], config["version"], config["zero_point"]), (4, 32, "awq", "gemm", True))
        weights = {name: [value for row in awq_weight(tensors, name[:-7], 32) for value in row] for name in matrices}
        for name, (_, _, data) in tensors.items():
            if name.endswith("norm.weight"):
                weights[name] = array.array("f", data)
        ours = self.logits("--model_name_or_path", folder)
        for one, other in zip(ours, self.logits("--model_name_or_path", self.plain_copy("awq_by_hand", weights))):
            self.assertAlmostEqual(one, other, delta=2e-5 * max(map(abs, ours)))

        def with_zeros(values, rows, columns, group):
            out = array.array("f", values)
            for at in range(0, rows * columns, group):
                part = out[at : at + group]
                scale = struct.unpack("<e", struct.pack("<e", max(max(part) - min(part), 1e-5) / 15))[0]
                zero = min(15, max(0, -round(min(part) / scale)))
                for i, value in enumerate(part):
                    out[at + i] = (min(15, max(0, round(value / scale) + zero)) - zero) * scale
            return out

        rounded = self.plain_copy("awq_nearest", {name: with_zeros(values, *shape, 32) for name, (shape, values) in matrices.items()})
        lost, lost_by_rounding = self.loss(folder) - full, self.loss(rounded) - full
        print(f"AWQ: loss {full:.4f} in full, + {lost:.4f} AWQ, + {lost_by_rounding:.4f} nearest")
        self.assertLess(lost, 0.85 * lost_by_rounding)
        self.refused(self.exported("no", "--export_quantization_bit", 3, "--export_quantization_method", "awq"), 2, "awq, which has 4 bits")

    def test_an_adapter_is_merged_first(self):
        adapter = self.work / "adapter"
        self.good(tiny.run("train", "--stage", "pt", "--do_train", "true", "--finetuning_type", "lora", "--model_name_or_path", self.trained, "--dataset", self.seen,
                           "--output_dir", adapter, "--learning_rate", "3e-2", "--max_steps", 6, "--cutoff_len", 64))
        said = self.good(self.exported("merged", "--adapter_name_or_path", adapter, "--export_quantization_bit", 8))
        self.assertIn("merged 14 tensors; 14 matrices in 8 bits", said)
        ours, theirs = self.logits("--model_name_or_path", self.work / "merged"), self.logits("--model_name_or_path", self.trained, "--adapter_name_or_path", adapter)
        self.assertLess(max(abs(a - b) for a, b in zip(ours, theirs)), 0.05 * max(map(abs, theirs)))
        self.good(tiny.run(*tiny.train_arguments(self.work / "merged", tiny.write_rows(self.work / "rows", vocab=259), self.work / "over", max_steps=2)))
        self.refused(tiny.run("export", "--model_name_or_path", self.trained, "--export_dir", self.work / "no", "--export_quantization_bit", 4), 2, "export_quantization_dataset is not given")
        self.refused(self.exported("no", "--export_quantization_bit", 4, "--export_quantization_maxlen", 5000), 3, "export_quantization_maxlen", "the longest of them has")
        self.refused(tiny.run("export", "--model_name_or_path", self.trained, "--export_dir", self.work / "no", "--export_quantization_dataset", self.texts), 2, "export_quantization_bit is not")
        self.assertFalse((self.work / "no").exists())

    def test_importance_matrix_and_parts(self):
        said = self.good(self.exported("weighted", "--export_format", "gguf", "--gguf_type", "q4_0"))
        self.assertIn("importance matrix of 14 tensors over 24 chunks of 96 tokens", said)
        again = self.good(tiny.run("export", "--model_name_or_path", self.trained, "--export_dir", self.work / "again", "--export_format", "gguf", "--gguf_type", "q4_0", "--gguf_imatrix", self.work / "weighted/imatrix.gguf"))
        self.assertIn("logits on", again)
        plain = self.good(tiny.run("export", "--model_name_or_path", self.trained, "--export_dir", self.work / "plain", "--export_format", "gguf", "--gguf_type", "q4_0"))
        self.assertIn("logits on", plain)
        here, there, without = ((self.work / name / "model-q4_0.gguf").read_bytes() for name in ("weighted", "again", "plain"))
        self.assertEqual(here[-4096:], there[-4096:])
        self.assertNotEqual(here[-4096:], without[-4096:])
        full = self.loss(self.trained)
        lost = {name: self.loss(self.work / name / "model-q4_0.gguf") - full for name in ("weighted", "plain")}
        print(f"Q4_0: + {lost['weighted']:.4f} with an importance matrix, + {lost['plain']:.4f} without")
        self.assertLess(lost["weighted"], lost["plain"])
        self.refused(self.exported("no", "--export_format", "gguf", "--gguf_type", "f16"), 2, "gguf_type is f16")
        self.refused(tiny.run("export", "--model_name_or_path", self.trained, "--export_dir", self.work / "no", "--export_format", "gguf", "--gguf_type", "q4_0", "--gguf_imatrix", self.work / "plain/model-q4_0.gguf"), 3, "expected imatrix")


if __name__ == "__main__":
    unittest.main()
