#!/usr/bin/env python3
"""A GGUF written: the merged model answers as the merged folder does, every type is checked on the written file, the adapter by itself is what the merged
weights differ by, and what llama.cpp cannot do is refused. Run by ctest (label e2e)."""
import array
import json
import pathlib
import shutil
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


def read_gguf(path):
    """Keys, and tensors as name → (ggml's type, shape with the outermost first, bytes)."""
    data, at = pathlib.Path(path).read_bytes(), 0

    def take(form):
        nonlocal at
        values = struct.unpack_from("<" + form, data, at)
        at += struct.calcsize("<" + form)
        return values[0]

    def text():
        nonlocal at
        size = take("Q")
        at += size
        return data[at - size : at].decode()

    def value(kind):
        if kind == 8:
            return text()
        if kind == 9:
            inner, count = take("I"), take("Q")
            return [value(inner) for _ in range(count)]
        return take("BbHhIif?"[kind] if kind < 8 else {10: "Q", 11: "q", 12: "d"}[kind])

    assert data[:4] == b"GGUF"
    at = 4
    version, tensors, keys = take("I"), take("Q"), take("Q")
    assert version == 3
    metadata = {text(): value(take("I")) for _ in range(keys)}
    places = []
    for _ in range(tensors):
        name, rank = text(), take("I")
        shape = [take("Q") for _ in range(rank)][::-1]
        places.append((name, shape, take("I"), take("Q")))
    start, found = at + -at % 32, {}
    for i, (name, shape, kind, offset) in enumerate(places):
        end = places[i + 1][3] if i + 1 < len(places) else len(data) - start
        found[name] = (kind, shape, data[start + offset : start + end])
    return metadata, found


def floats(tensor):
    kind, shape, data = tensor
    assert kind == 0
    count = 1
    for size in shape:
        count *= size
    return array.array("f", data[: 4 * count])


class Gguf(tiny.Case):
    def train(self, name, model, **changes):
        self.good(tiny.run(*tiny.train_arguments(model, self.data, self.work / name, **changes)))
        return self.work / name

    def trained(self, name="out", model=None, **changes):
        return self.train(name, model or self.model, learning_rate="3e-2", **changes)

    def exported(self, name, adapter=None, *more, model=None):
        given = ["--adapter_name_or_path", adapter] if adapter else []
        return tiny.run("export", "--model_name_or_path", model or self.model, *given, "--export_dir", self.work / name, *more)

    def answers(self, model):
        """Logits and the tokens that follow."""
        data = array.array("q", [5, 9, 33, 7, 12, 20, 8, 6, 4, 12, 40, 3]).tobytes()
        tiny.write_safetensors(self.work / "batch.safetensors", {name: ("I64", [2, 6], data) for name in ("input_ids", "labels")})
        self.good(tiny.run("trace", "--model_name_or_path", model, "--batch", self.work / "batch.safetensors", "--output", self.work / "traced.safetensors",
                           "--max_new_tokens", 6))
        return tiny.read_safetensors(self.work / "traced.safetensors")

    def test_answers_as_the_merged_folder(self):
        tiny.write_tokenizer(self.model)
        adapter = self.trained()
        self.good(self.exported("merged", adapter))
        said = self.good(self.exported("gguf", adapter, "--export_format", "gguf", "--gguf_type", "f32"))
        self.assertIn("read back as F32: at most 0 of its size", said)
        file = self.work / "gguf/model-f32.gguf"
        here, there = self.answers(self.work / "merged"), self.answers(file)
        self.assertEqual(here["generated_ids"], there["generated_ids"])
        self.assertLessEqual(max(abs(a - b) for a, b in zip(here["logits"][1], there["logits"][1])), 1e-5)
        keys, tensors = read_gguf(file)
        self.assertEqual(len(tensors), 3 + 9 * 2)
        for key, value in {"general.architecture": "llama", "general.type": "model", "general.file_type": 0, "llama.block_count": 2, "llama.attention.head_count_kv": 2,
                           "llama.rope.dimension_count": 4, "llama.vocab_size": 64, "tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "gpt-2",
                           "tokenizer.ggml.eos_token_id": 2, "tokenizer.ggml.bos_token_id": 1}.items():
            self.assertEqual(keys[key], value, key)
        self.assertEqual(keys["tokenizer.chat_template"], json.loads((self.model / "tokenizer_config.json").read_text())["chat_template"])
        self.assertEqual(len(keys["tokenizer.ggml.tokens"]), 64)
        self.assertIn("FROM ./model-f32.gguf", (self.work / "gguf/Modelfile").read_text())
        self.good(tiny.run("convert", file, self.work / "converted"))
        merged, back = (tiny.read_safetensors(self.work / name / "model.safetensors") for name in ("merged", "converted"))
        self.assertEqual(merged, back)

    def test_every_type_is_checked(self):
        model = tiny.write_model(self.work / "wide", channels=256, inner=512, vocab=64)
        for kind in ("f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q4_k_m", "q4_k_s", "q5_1", "q5_0", "q4_1", "q4_0"):
            with self.subTest(kind):
                said = self.good(self.exported(kind, None, "--export_format", "gguf", "--gguf_type", kind, model=model))
                self.assertIn("logits on", said)
                kinds = {name: tensor[0] for name, tensor in read_gguf(self.work / kind / f"model-{kind}.gguf")[1].items()}
                base = {"f16": 1, "bf16": 30, "q8_0": 8, "q6_k": 14, "q5_1": 7, "q5_0": 6, "q4_1": 3, "q4_0": 2}.get(kind, 13 if kind[1] == "5" else 12)
                self.assertEqual(kinds["blk.0.attn_q.weight"], base)
                self.assertEqual(kinds["blk.0.attn_norm.weight"], 0)
                self.assertEqual(kinds["output.weight"], 14 if kind[0] == "q" and kind != "q8_0" else base)
                self.answers(self.work / kind / f"model-{kind}.gguf")

    def test_the_adapter_alone(self):
        adapter = self.trained(lora_alpha=12)
        said = self.good(self.exported("adapter", adapter, "--export_format", "gguf_adapter", "--gguf_type", "f32"))
        self.assertIn("14 pairs of A and B read back: at most 0", said)
        for name, given in (("base", None), ("merged", adapter)):
            self.good(self.exported(name, given, "--export_format", "gguf", "--gguf_type", "f32"))
        keys, pairs = read_gguf(self.work / "adapter/adapter-f32.gguf")
        for key, value in {"general.type": "adapter", "adapter.type": "lora", "adapter.lora.alpha": 12.0, "general.architecture": "llama"}.items():
            self.assertEqual(keys[key], value)
        self.assertFalse([key for key in keys if key.startswith("tokenizer.")])
        (_, base), (_, merged) = (read_gguf(self.work / name / "model-f32.gguf") for name in ("base", "merged"))
        for name in {name.rsplit(".", 1)[0] for name in pairs}:
            a, b = pairs[name + ".lora_a"], pairs[name + ".lora_b"]
            (rank, columns), rows = a[1], b[1][0]
            self.assertEqual(b[1], [rows, rank])
            a, b, before, after = floats(a), floats(b), floats(base[name]), floats(merged[name])
            for row in range(rows):
                for column in range(columns):
                    added = 12 / rank * sum(b[row * rank + k] * a[k * columns + column] for k in range(rank))
                    at = row * columns + column
                    self.assertAlmostEqual(before[at] + added, after[at], places=5)

    def test_trained_for_the_file(self):
        wide = tiny.write_model(self.work / "wide", channels=256, inner=256, layers=1)
        tiny.write_tokenizer(wide)

        def last_loss(name):
            return json.loads((self.work / name / "all_results.json").read_text())["eval_loss"]

        def of_file(name, adapter):
            self.good(self.exported(name, adapter, "--export_format", "gguf", "--gguf_type", "q4_k_m", model=wide))
            self.good(tiny.run("eval", "--model_name_or_path", self.work / name / "model-q4_k_m.gguf", "--eval_dataset", "rows", "--dataset_dir", self.data,
                               "--output_dir", self.work / f"{name}_loss"))
            return json.loads((self.work / f"{name}_loss/eval_results.json").read_text())["eval_loss"]

        long = dict(model=wide, eval_dataset="rows", do_eval="true", max_steps=60, lora_rank=8, learning_rate="1e-2")  # the rows are those that are trained on
        plain, aware = self.train("plain", **long), self.train("aware", quant_aware="q4_k_m", quant_aware_steps=4, **long)
        lost = of_file("plain_file", plain)
        self.assertAlmostEqual(last_loss("aware"), of_file("aware_file", aware), delta=1e-6)
        self.assertGreater(lost, 1.2 * last_loss("plain"))
        self.assertGreater(lost, 1.2 * last_loss("aware"))
        # A run that is broken off and goes on makes the codes that it would have had.
        settings = dict(model=wide, quant_aware="q4_k_m", quant_aware_steps=3, eval_dataset="rows", eval_strategy="steps", eval_steps=4, save_steps=5, max_steps=10, lora_dropout=0.1)
        whole, part = self.train("whole", **settings), self.train("part", **settings)
        shutil.rmtree(part / "checkpoint-10")
        (part / "adapter_model.safetensors").unlink()
        self.train("part", **settings)
        self.assertEqual(*(tiny.read_safetensors(folder / "adapter_model.safetensors") for folder in (whole, part)))
        for words, changes in [(["no codes"], dict(quant_aware="f16")), (["q4_k_m"], dict(quant_aware="q9")), (["use_dora"], dict(use_dora="true")),
                               (["stage"], dict(stage="kto")), (["finetuning_type"], dict(finetuning_type="full")), (["quantization_bit"], dict(quantization_bit=4)),
                               (["embedding"], dict(lora_target="q_proj,embed_tokens")), (["averages"], dict(optim="schedule_free_adamw"))]:
            with self.subTest(changes):
                self.refused(tiny.run(*tiny.train_arguments(wide, self.data, self.work / "refused", overwrite_output_dir="true", **({"quant_aware": "q4_k_m"} | changes))), 2, "quant_aware", *words)

    def test_what_is_refused(self):
        dora = self.trained("dora", use_dora="true")
        self.refused(self.exported("a", dora, "--export_format", "gguf_adapter"), 2, "DoRA", "export_format: gguf")
        self.good(self.exported("b", dora, "--export_format", "gguf"))
        whole = self.trained("whole", additional_target="norm")
        self.refused(self.exported("c", whole, "--export_format", "gguf_adapter"), 2, "modules_to_save")
        self.refused(self.exported("d", None, "--export_format", "gguf_adapter"), 2, "one adapter")
        self.refused(self.exported("e", None, "--export_format", "gguf", "--gguf_type", "q3_k_m"), 2, "q4_k_m")
        self.refused(self.exported("f", None, "--export_format", "gguf", "--quantization_bit", 4), 2, "gguf_type")
        scores = self.trained("scores", stage="sft")  # a reward model's head beside an adapter, and beside a base
        head = {"v_head.summary.bias": ("F32", [1], bytes(4)), "v_head.summary.weight": ("F32", [1, 16], bytes(64))}
        tiny.write_safetensors(scores / "value_head.safetensors", head)
        for form in ("gguf", "gguf_adapter"):
            self.refused(self.exported("h", scores, "--export_format", form), 2, "scores/value_head.safetensors", "reward model", "export_format: huggingface")
        self.good(self.exported("with_head", scores))
        self.refused(self.exported("h", None, "--export_format", "gguf", model=self.work / "with_head"), 2, "with_head/value_head.safetensors")
        plain = self.trained("plain", model=self.work / "with_head")
        self.refused(self.exported("h", plain, "--export_format", "gguf", model=self.work / "with_head"), 2, "with_head/value_head.safetensors")
        config = json.loads((self.model / "config.json").read_text())
        (self.model / "config.json").write_text(json.dumps(config | dict(rope_scaling=dict(rope_type="dynamic", factor=2.0))))
        self.refused(self.exported("g", None, "--export_format", "gguf"), 2, "dynamic", "huggingface")
        for name in "acdefgh":
            self.assertFalse(list((self.work / name).glob("*.gguf")) if (self.work / name).exists() else [])


if __name__ == "__main__":
    unittest.main(verbosity=2)
