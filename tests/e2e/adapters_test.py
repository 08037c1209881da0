#!/usr/bin/env python3
"""Adapters from end to end: training on, new ones over merged ones, lists, switching in a chat, files that do not fit, strict, divergence,
and the memory that a dry run predicts. Run by ctest (label e2e)."""
import array
import json
import math
import pathlib
import random
import re
import resource
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

prefix = "base_model.model.model.layers.0.self_attn.q_proj."


def floats(values):
    return array.array("f", values).tobytes()


class Adapters(tiny.Case):
    def train(self, out=None, model=None, **changes):
        return tiny.run(*self.arguments(out, model, **changes))

    def trained(self, name, model=None, **changes):
        self.good(self.train(self.work / name, model, **({"learning_rate": "3e-2"} | changes)))
        return self.work / name

    def merged(self, name, model, *adapters):
        self.good(tiny.run("export", "--model_name_or_path", model, "--adapter_name_or_path", ",".join(map(str, adapters)), "--export_dir",
                           self.work / name))
        return self.work / name

    def weights(self, folder):
        """name → (type, bytes) of what export wrote"""
        data = (folder / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        return {name: (entry["dtype"], data[8 + size :][slice(*entry["data_offsets"])]) for name, entry in json.loads(data[8 : 8 + size]).items()
                if name != "__metadata__"}

    def trace(self, model, *adapters, more=()):
        """name → values of what trace writes for a fixed batch"""
        ids = [3 + (7 * i) % 60 for i in range(24)]
        batch, output = self.work / "batch.safetensors", self.work / "trace.safetensors"
        raw = array.array("q", ids).tobytes()
        tiny.write_safetensors(batch, {"input_ids": ("I64", [2, 12], raw), "labels": ("I64", [2, 12], raw)})
        given = ["--adapter_name_or_path", ",".join(map(str, adapters))] if adapters else []
        self.good(tiny.run("trace", "--model_name_or_path", model, *given, "--batch", batch, "--output", output, *more))
        return {name: values for name, (_, values) in tiny.read_safetensors(output).items()}

    def close(self, one, other, tolerance=2e-5):
        self.assertEqual(one.keys(), other.keys())
        for name in one:
            self.assertEqual(len(one[name]), len(other[name]), name)
            for a, b in zip(one[name], other[name]):
                if not abs(a - b) <= tolerance * max(1.0, abs(a)):
                    self.fail(f"{name}: {a} and {b}")

    def tensors(self, folder):
        return {name: values for name, (_, values) in tiny.read_safetensors(folder / "adapter_model.safetensors").items()}

    def losses(self, folder):
        lines = [json.loads(line) for line in (folder / "trainer_log.jsonl").read_text().splitlines()]
        return {"loss": [line["loss"] for line in lines if "loss" in line]}

    # 1. training over given adapters

    def test_new_adapter_over_a_merged_one(self):
        first = self.trained("first")
        over_merged = self.trained("over_merged", self.merged("merged", self.model, first), lora_rank=8)
        created = self.trained("created", lora_rank=8, adapter_name_or_path=first, create_new_adapter="true")
        self.assertEqual(len(self.losses(created)["loss"]), 12)
        self.close(self.losses(over_merged), self.losses(created))
        self.close(self.tensors(over_merged), self.tensors(created), 1e-4)
        self.assertEqual(json.loads((created / "adapter_config.json").read_text())["r"], 8)
        self.close(self.trace(self.work / "merged", over_merged), self.trace(self.model, first, created), 1e-4)

    def test_last_adapter_is_trained_on_and_earlier_ones_are_merged(self):
        first, second = self.trained("first"), self.trained("second", lora_rank=2, lora_target="q_proj,down_proj", seed=7)
        merged = self.merged("merged", self.model, first)
        settings = dict(adapter_name_or_path=f"{first},{second}", lora_rank=16)
        on = self.trained("on", **settings)
        self.close(self.tensors(self.trained("over_merged", merged, adapter_name_or_path=second)), self.tensors(on), 1e-4)
        config = json.loads((on / "adapter_config.json").read_text())
        self.assertEqual((config["r"], set(config["target_modules"])), (2, {"q_proj", "down_proj"}))
        self.assertNotEqual(self.tensors(on), self.tensors(second))
        single = self.trained("single", adapter_name_or_path=first)
        self.assertLess(self.losses(single)["loss"][0], self.losses(first)["loss"][0])  # it starts where the first one ended

    def test_resumed_run_over_adapters_is_the_same_run(self):
        first = self.trained("first")
        settings = dict(adapter_name_or_path=first, create_new_adapter="true", save_steps=4)
        whole = self.trained("whole", **settings)
        part = self.trained("part", **settings)
        for path in sorted(part.glob("checkpoint-*"))[:2]:  # 12 and 4 stay out: resume from 8
            if path.name != "checkpoint-8":
                for file in path.iterdir():
                    file.unlink()
                path.rmdir()
        (part / "adapter_model.safetensors").unlink()
        self.assertIn("checkpoint-8", self.good(self.train(part, learning_rate="3e-2", **settings)))
        self.assertEqual(self.tensors(whole), self.tensors(part))

    # 2. several adapters

    def test_list_is_merged_in_turn(self):
        first, second = self.trained("first"), self.trained("second", lora_rank=2, seed=7, lora_target="v_proj,up_proj")
        both = self.merged("both", self.model, first, second)
        in_turn = self.merged("in_turn", self.merged("one", self.model, first), second)
        read = lambda folder: {n: v for n, (_, v) in tiny.read_safetensors(folder / "model.safetensors").items()}
        self.close(read(both), read(in_turn), 1e-6)
        self.assertNotEqual(read(both), read(self.work / "one"))
        self.close(self.trace(both), self.trace(self.model, first, second), 1e-4)

    def chat(self, adapters, *lines, model=None):
        """The answers"""
        given = ["--adapter_name_or_path", adapters] if adapters else []
        done = subprocess.run([tiny.program, "chat", "--model_name_or_path", model or self.model, *given, "--do_sample", "false", "--max_new_tokens", "12"],
                              input="\n".join([*lines, "exit", ""]), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.messages = done.stderr
        return re.findall(r"Assistant: (.*)", done.stdout)

    def test_switching_in_a_chat(self):
        tiny.write_tokenizer(self.model)
        first, second = self.trained("first"), self.trained("second", lora_rank=2, seed=7, learning_rate="8e-2")
        question = "hello there"
        base, one, two = self.chat(None, question), self.chat(str(first), question), self.chat(str(second), question)
        self.assertEqual(len({*base, *one, *two}), 3)
        named = f"a={first},b={second}"
        self.assertEqual(self.chat(named, question), one)
        lines = [question, "clear", "/adapter b", question, "clear", "/base", question, "clear", "/adapter a", question, "clear", "/adapter c", question,
                 "clear", "/adapter b", question]
        self.assertEqual(self.chat(named, *lines), one + two + base + one + one + two)
        self.assertIn("no adapter is called 'c'", self.messages)
        both = self.chat(f"{first},{second}", question, "clear", "/adapter second", question, "clear", "/adapter first", question, "clear", "/adapter all", question)
        together = self.chat(None, question, model=self.merged("both", self.model, first, second))
        self.assertEqual(both, together + two + one + together)
        again = self.chat(named, question, "/base", "and now", "/adapter a", "and now")  # a history made by others
        self.assertEqual(len(again), 3)
        self.assertEqual(again[0], one[0])

    def test_infer_dtype_names_the_type(self):
        adapter, codes = self.trained("out"), {"float32": ("F32", 4), "bfloat16": ("BF16", 2), "float16": ("F16", 2)}
        exact = self.weights(self.merged("plain", self.model, adapter))
        for name, (code, size) in codes.items():
            with self.subTest(name):
                folder = self.work / name
                self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", adapter, "--export_dir", folder,
                                   "--infer_dtype", name))
                self.assertEqual(json.loads((folder / "config.json").read_text())["torch_dtype"], name)
                written = self.weights(folder)
                self.assertEqual(written.keys(), exact.keys())
                for tensor, (dtype, data) in written.items():
                    values = array.array("f", exact[tensor][1])
                    self.assertEqual((dtype, len(data)), (code, len(values) * size))
                    if name == "float16":
                        self.assertEqual(data, struct.pack(f"<{len(values)}e", *values))
                    elif name == "bfloat16":
                        for value, (upper,) in zip(values, struct.iter_unpack("<H", data)):
                            (rounded,) = struct.unpack("<f", struct.pack("<I", upper << 16))
                            self.assertLessEqual(abs(rounded - value), abs(value) / 256)
                    else:
                        self.assertEqual(data, exact[tensor][1])
        asked = {words: self.trace(self.model, adapter, more=words.split())["logits"] for words in
                 ("", "--bf16 true", "--infer_dtype bfloat16", "--infer_dtype float32", "--infer_dtype float32 --bf16 true")}
        self.assertNotEqual(asked[""], asked["--bf16 true"])
        self.assertEqual(asked["--infer_dtype bfloat16"], asked["--bf16 true"])
        self.assertEqual(asked["--infer_dtype float32"], asked[""])
        self.assertEqual(asked["--infer_dtype float32 --bf16 true"], asked[""])
        tiny.write_tokenizer(self.model)
        self.assertIn("float16 is computed in float32", tiny.run("chat", "--model_name_or_path", self.model, "--infer_dtype", "float16")[1])

    # 3. files that do not fit

    def everywhere(self, adapter, code, *words):
        """train and export say the same and leave nothing that can be loaded"""
        self.count = getattr(self, "count", 0) + 1
        out = self.work / f"refused{self.count}"
        common = ["--model_name_or_path", self.model, "--adapter_name_or_path", adapter]
        self.refused(self.train(out, adapter_name_or_path=adapter), code, *words)
        self.refused(tiny.run("export", *common, "--export_dir", out / "merged"), code, *words)
        self.assertEqual([str(path) for path in out.rglob("*") if path.suffix == ".safetensors" or path.name in ("config.json", "adapter_config.json")], [])

    def changed_config(self, adapter, code, words, named="adapter_config.json", **changes):
        path = adapter / "adapter_config.json"
        kept = path.read_text()
        path.write_text(json.dumps(json.loads(kept) | changes))
        with self.subTest(changes):
            self.everywhere(adapter, code, named if code == 3 else "", *words)
        path.write_text(kept)

    def changed_tensors(self, adapter, words, change):
        path = adapter / "adapter_model.safetensors"
        kept = path.read_bytes()
        tensors = {name: ("F32", shape, values.tobytes()) for name, (shape, values) in tiny.read_safetensors(path).items()}
        change(tensors)
        tiny.write_safetensors(path, tensors)
        with self.subTest(words):
            self.everywhere(adapter, 3, "adapter_model.safetensors", *words)
        path.write_bytes(kept)

    def test_keys_of_a_later_peft_are_named_and_left_out_of_account(self):
        adapter = self.trained("adapter", max_steps=1)
        plain = self.trace(self.model, adapter)
        path = adapter / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(brand_new=3, switched_off=False)))
        self.assertEqual(self.trace(self.model, adapter), plain)
        common = ["--model_name_or_path", self.model, "--adapter_name_or_path", adapter]
        given = {"train": self.arguments(self.work / "on", adapter_name_or_path=adapter, max_steps=1),
                 "export": ["export", *common, "--export_dir", self.work / "merged"],
                 "trace": ["trace", *common, "--batch", self.work / "batch.safetensors", "--output", self.work / "trace.safetensors"]}
        for name, arguments in given.items():
            with self.subTest(name):
                self.refused(tiny.run(*arguments, "--strict", "true"), 3, "adapter_config.json", "brand_new: 3")
                said = self.good(tiny.run(*arguments))
                self.assertIn("brand_new: 3", said)
                self.assertNotIn("switched_off", said)

    def test_rows_of_single_tokens(self):
        adapter = self.trained("adapter", max_steps=1)
        path, name = adapter / "adapter_model.safetensors", "base_model.model.model.embed_tokens.token_adapter.trainable_tokens_delta"
        tensors = {key: ("F32", shape, values.tobytes()) for key, (shape, values) in tiny.read_safetensors(path).items()}
        rows = [[0.25 * (i + 1)] * tiny.channels for i in range(2)]
        tiny.write_safetensors(path, tensors | {name: ("F32", [2, tiny.channels], floats(rows[0] + rows[1]))})
        config = adapter / "adapter_config.json"
        plain = json.loads(config.read_text())
        config.write_text(json.dumps(plain | dict(trainable_token_indices=[7, 60])))
        merged = tiny.read_safetensors(self.merged("merged", self.model, adapter) / "model.safetensors")["model.embed_tokens.weight"][1]
        base = tiny.read_safetensors(self.model / "model.safetensors")["model.embed_tokens.weight"][1]
        for token in range(tiny.vocab):
            row = lambda table: list(table[token * tiny.channels : (token + 1) * tiny.channels])
            self.assertEqual(row(merged), rows[0] if token == 7 else rows[1] if token == 60 else row(base))
        for wrong, words in (([7, 64], ["token 64", "has 64"]), ([7], [name, "[2, 16]", "[1, 16]"]), (dict(q_proj=[1]), ["q_proj"]), ("7", ["trainable_token_indices"])):
            config.write_text(json.dumps(plain | dict(trainable_token_indices=wrong)))
            self.refused(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", adapter, "--export_dir", self.work / "refused"),
                         3, *words)

    def test_embedding_of_another_vocabulary(self):
        adapter = self.trained("adapter", max_steps=1, additional_target="embed_tokens")
        name = "base_model.model.model.embed_tokens.weight"

        def enlarge(tensors, saved=True):
            kind, (rows, columns), data = tensors[name]
            tensors[name] = (kind, [rows + 6, columns], data + bytes(6 * 4 * columns))

        self.changed_tensors(adapter, [name, "70 tokens", "has 64"], enlarge)
        path = adapter / "adapter_config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | dict(modules_to_save=None)))
        self.changed_tensors(adapter, [name, "70 tokens", "has 64"], enlarge)

    # A model that rounding moves far: attention that decides sharply, over eight layers, in bf16

    def test_merge_of_a_model_that_rounding_moves_far(self):
        model, tensors = tiny.write_model(self.work / "sharp", layers=8), {}
        for name, (_, shape, data) in tiny.llama_tensors(2, layers=8).items():
            factor = 60 if "q_proj" in name or "k_proj" in name else 4 if "proj" in name else 1
            data = array.array("f", [factor * value for value in array.array("f", data)]).tobytes()
            tensors[name] = ("BF16", shape, b"".join(data[i + 2 : i + 4] for i in range(0, len(data), 4)))
        tiny.write_safetensors(model / "model.safetensors", tensors)
        tiny.write_tokenizer(model)
        adapter = self.trained("adapter", model, max_steps=4, warmup_steps=0, learning_rate="1e-2")
        for type in ("auto", "float32"):
            with self.subTest(type):
                said = self.good(tiny.run("export", "--model_name_or_path", model, "--adapter_name_or_path", adapter, "--export_dir", self.work / type,
                                          "--infer_dtype", type))
                self.assertIn("each the exact sum", said)
                self.assertIn("tokens of text", said)
                self.assertNotIn("warning", said)
                of_merge, *of_rounding = (float(x) for x in re.findall(r"mean KL ([0-9.e+-]+)", said))
                if type == "float32":
                    self.assertLess(of_merge, 1e-5)  # 2e-10 to 4e-6, by what a processor's sums make of the adapter
                    self.assertEqual(of_rounding, [])
                else:
                    self.assertGreater(of_merge, 1e-4)
                    self.assertLess(abs(of_merge / of_rounding[0] - 1), 0.5)
                self.assertTrue((self.work / type / "model.safetensors").exists())

    def test_merge_that_a_type_cannot_hold(self):
        adapter = self.trained("adapter", max_steps=1)

        def enlarge(tensors):
            kind, shape, data = tensors[prefix + "lora_B.weight"]
            tensors[prefix + "lora_B.weight"] = (kind, shape, floats([1e8] * (len(data) // 4)))

        path = adapter / "adapter_model.safetensors"
        tensors = {name: ("F32", shape, values.tobytes()) for name, (shape, values) in tiny.read_safetensors(path).items()}
        enlarge(tensors)
        tiny.write_safetensors(path, tensors)
        out = self.work / "merged"
        self.refused(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", adapter, "--export_dir", out, "--infer_dtype",
                              "float16"), 5, "layers.0.self_attn.q_proj.weight", "F16", "bfloat16")
        self.assertFalse((out / "model.safetensors").exists())

    def test_head_of_its_own_in_a_tied_model(self):
        config = json.loads((self.model / "config.json").read_text())
        untied = self.trace(self.model)
        (self.model / "config.json").write_text(json.dumps(config | dict(tie_word_embeddings=True)))
        self.assertEqual(self.trace(self.model), untied)
        said = self.good(self.train(max_steps=1))
        self.assertIn("lm_head.weight that differs", said)
        self.refused(self.train(self.work / "strict", strict="true"), 3, "tie_word_embeddings")
        merged = self.merged("merged", self.model, self.out)
        self.assertFalse(json.loads((merged / "config.json").read_text())["tie_word_embeddings"])
        self.assertEqual(self.weights(merged)["lm_head.weight"], self.weights(self.model)["lm_head.weight"])
        whole = self.trained("whole", finetuning_type="full", max_steps=1)
        self.assertFalse(json.loads((whole / "config.json").read_text())["tie_word_embeddings"])
        # the head is the embedding where the two are equal, or the only one there is
        tensors = tiny.llama_tensors()
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
        tiny.write_safetensors(self.model / "model.safetensors", tensors)
        tied = self.trace(self.model)
        self.assertNotEqual(tied, untied)
        for name in ("lm_head.weight", "model.embed_tokens.weight"):
            with self.subTest(name):
                tiny.write_safetensors(self.model / "model.safetensors", {key: value for key, value in tensors.items() if key != name})
                self.assertEqual(self.trace(self.model), tied)
                merged = self.merged("without_" + name, self.model, self.out)
                self.assertNotIn("lm_head.weight", self.weights(merged))
                self.assertTrue(json.loads((merged / "config.json").read_text())["tie_word_embeddings"])

    def test_configs_that_do_not_fit(self):
        adapter = self.trained("adapter", max_steps=1)
        q, v = "self_attn.q_proj", "lm_head"
        self.changed_config(adapter, 3, ["model.layers.0.self_attn.q_proj"], rank_pattern={"q_proj": 8})
        self.changed_config(adapter, 3, ["rank", "1000000000000"], rank_pattern={"q_proj": 10**12})
        self.changed_config(adapter, 3, ["rank_pattern", "integer"], rank_pattern={"q_proj": 4.5})
        self.changed_config(adapter, 3, ["peft_type", "XLORA"], peft_type="XLORA")
        self.changed_config(adapter, 3, ["lora_magnitude_vector", "missing"], named="adapter_model.safetensors", use_dora=True)
        self.changed_config(adapter, 3, ["no module 'embeddings'"], modules_to_save=["embeddings"])
        self.changed_config(adapter, 3, ["bias"], bias="some")
        self.changed_config(adapter, 3, ["init_lora_weights", "mica"], init_lora_weights="mica")
        for loftq in (None, {}, {"loftq_bits": 4}, {"loftq_bits": "4", "loftq_iter": 1}, [4, 1]):
            self.changed_config(adapter, 3, ["loftq_config"], init_lora_weights="loftq", loftq_config=loftq)
        self.changed_config(adapter, 3, ["loftq_bits", "2"], init_lora_weights="loftq", loftq_config={"loftq_bits": 2, "loftq_iter": 1})
        self.changed_config(adapter, 3, ["loftq_iter", "0"], init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 0})
        self.changed_config(adapter, 3, ["LoftQ", "lm_head"], init_lora_weights="loftq", loftq_config={"loftq_bits": 4, "loftq_iter": 1},
                            target_modules=["q_proj", "lm_head"])
        self.changed_config(adapter, 3, ["use_dora", "lm_head"], use_dora=True, target_modules=["q_proj", "lm_head"])
        self.changed_config(adapter, 3, ["PiSSA", "embed_tokens"], init_lora_weights="pissa", target_modules=["q_proj", "embed_tokens"])
        self.changed_config(adapter, 3, ["layers_pattern"], layers_pattern=["layers"])
        self.changed_config(adapter, 3, ["layers_to_transform"], target_modules=".*q_proj", layers_to_transform=[0])
        ada = dict(peft_type="ADALORA", total_step=10, init_r=4, target_r=2)
        self.changed_config(adapter, 3, ["total_step"], **ada | dict(total_step=None))
        self.changed_config(adapter, 3, ["target_r"], **ada | dict(target_r=5))
        self.changed_config(adapter, 3, ["beta1"], **ada, beta1=1)
        self.changed_config(adapter, 3, ["rank_pattern"], **ada, rank_pattern={"model.layers.0.self_attn.q_proj.lora_E": [True]})
        self.changed_config(adapter, 3, ["has no tensors"], named="adapter_model.safetensors", **ada)
        for value in ("4", 4.5, 1e300, 0, -1, 65537, [4], True, None):
            self.changed_config(adapter, 3, [" r is " + json.dumps(value)[:3]], r=value)
        for key in ("lora_alpha", "lora_dropout", "bias", "rank_pattern", "alpha_pattern", "peft_type"):  # PEFT has no value for null either
            self.changed_config(adapter, 3, [key + " is null"], **{key: None})
        self.changed_config(adapter, 3, ["lora_alpha"], lora_alpha="8")
        self.changed_config(adapter, 3, ["lora_dropout"], lora_dropout=1)
        self.changed_config(adapter, 3, ["target_modules"], target_modules=[1])
        self.changed_config(adapter, 3, ["nowhere"], target_modules=["nowhere"])
        for pattern in ("(a+)+$b", "(.+)+$b", "((.*)*)*x", "(([a-z_.0-9])+.)+!"):  # each ends
            self.changed_config(adapter, 3, [pattern], target_modules=pattern)
        self.changed_config(adapter, 3, ["takes too long"], target_modules="(([a-z_.0-9])+.)+[!?]")
        self.refused(self.train(self.work / "target", lora_target="(([a-z_.0-9])+.)+[!?]"), 2, "takes too long")
        self.changed_config(adapter, 3, ["not a regular expression"], target_modules="(((")
        self.changed_config(adapter, 3, ["takes too long"], alpha_pattern={"(([a-z_.0-9])+.)+[!?](.+)+": 1})
        path = adapter / "adapter_config.json"
        for text in ("", "{", "[]", "null", '{"r": 4, "r": 4}', '{"peft_type": "LORA", "r": NaN}', "[" * 100000, "\xff"):
            path.write_bytes(text.encode("latin-1"))
            with self.subTest(text[:20]):
                self.everywhere(adapter, 3, "adapter_config.json")
        path.unlink()
        self.everywhere(adapter, 3, "adapter_config.json")

    def test_patterns_count_in_the_order_of_the_file(self):
        adapter = self.trained("adapter", max_steps=2)
        config = json.loads((adapter / "adapter_config.json").read_text())
        traces = []
        for patterns in ({"q_proj": 50, ".*_proj": 1}, {".*_proj": 1, "q_proj": 50}, {".*_proj": 1}):
            (adapter / "adapter_config.json").write_text(json.dumps(config | {"alpha_pattern": patterns}))
            traces.append(self.trace(self.model, adapter))
        self.assertEqual(traces[1], traces[2])
        self.assertNotEqual(traces[0], traces[1])

    def test_tensors_that_do_not_fit(self):
        adapter = self.trained("adapter", max_steps=1)
        a, b = prefix + "lora_A.weight", prefix + "lora_B.weight"
        module = prefix[:-1]

        def without(*names):
            return lambda tensors: [tensors.pop(name) for name in names]

        def reshaped(name, shape):
            def change(tensors):
                tensors[name] = ("F32", shape, floats([0.5] * math.prod(shape)))
            return change

        def filled(name, value):
            def change(tensors):
                dtype, shape, data = tensors[name]
                tensors[name] = (dtype, shape, data[:-4] + floats([value]))
            return change

        def renamed(old, new):
            def change(tensors):
                tensors[new] = tensors.pop(old)
            return change

        self.changed_tensors(adapter, [module], without(a, b))
        self.changed_tensors(adapter, [b], without(b))
        self.changed_tensors(adapter, [a], without(a))
        self.changed_tensors(adapter, [prefix.replace("layers.0", "layers.9") + "lora_A.weight"],
                             lambda tensors: tensors.update({prefix.replace("layers.0", "layers.9") + "lora_A.weight": tensors[a]}))
        self.changed_tensors(adapter, [a, "rank 3"], reshaped(a, [3, tiny.channels]))
        self.changed_tensors(adapter, [a, "[4, 15]"], reshaped(a, [4, 15]))
        self.changed_tensors(adapter, [b, "[17, 4]"], reshaped(b, [17, 4]))
        self.changed_tensors(adapter, [b], reshaped(b, [64]))
        for value in (math.nan, math.inf, -math.inf):
            self.changed_tensors(adapter, [b, "finite"], filled(b, value))
        self.changed_tensors(adapter, ["default"], renamed(a, prefix + "lora_A.default.weight"))
        self.changed_tensors(adapter, [a], lambda tensors: tensors.update({a: ("I32", tensors[a][1], tensors[a][2])}))
        path = adapter / "adapter_model.safetensors"
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for cut in (0, 7, 8, 100, 8 + size, len(data) - 1):
            path.write_bytes(data[:cut])
            with self.subTest(cut=cut):
                self.everywhere(adapter, 3, "adapter_model.safetensors")
        path.unlink()
        self.everywhere(adapter, 3, "adapter_model.safetensors")
        self.everywhere(self.work / "nothing", 3, "nothing")

    # 4. strict

    def test_strict(self):
        adapter = self.trained("adapter", max_steps=1)
        other = tiny.write_model(self.work / "other", seed=9)
        settings = dict(adapter_name_or_path=adapter, max_steps=2)
        self.assertIn("warning", self.good(self.train(self.work / "warned", other, **settings)))
        self.refused(self.train(self.work / "strict", other, strict="true", **settings), 2, str(self.model), str(other))
        self.refused(self.train(self.work / "strict", other, strict="true", create_new_adapter="true", **settings), 2, str(self.model), str(other))
        self.assertFalse((self.work / "strict" / "adapter_model.safetensors").exists())
        tiny.write_tokenizer(other)
        chat = ["chat", "--model_name_or_path", other, "--adapter_name_or_path", adapter]
        self.assertIn(str(self.model), self.good(tiny.run(*chat)))
        self.refused(tiny.run(*chat, "--strict", "true"), 2, str(self.model))

        path = other / "model.safetensors"
        data = bytearray(path.read_bytes())
        size = struct.unpack("<Q", data[:8])[0]
        begin = 8 + size + json.loads(data[8 : 8 + size])["model.layers.1.mlp.up_proj.weight"]["data_offsets"][0]
        data[begin : begin + 4] = floats([math.nan])
        path.write_bytes(data)
        for strict in ("false", "true"):
            folder = self.work / f"nan_{strict}"
            text = self.refused(tiny.run("export", "--model_name_or_path", other, "--adapter_name_or_path", adapter, "--export_dir", folder,
                                         "--strict", strict), 5, "model.layers.1.mlp.up_proj")
            self.assertFalse((folder / "config.json").exists() or list(folder.glob("*.safetensors")), text)
        self.refused(self.train(self.work / "nan_train", other, strict="true"), 5, "model.layers.1.mlp.up_proj")

    # 5. an older run in the folder

    def test_overwriting_an_older_run(self):
        settings = dict(max_steps=8, save_steps=4)
        fresh = self.work / "fresh"
        self.good(self.train(fresh, seed=9, save_steps=3, max_steps=6))
        self.good(self.train(**settings))
        self.assertIn("resuming", self.good(self.train(**settings)))
        (self.out / "checkpoint-8" / "note.txt").write_text("kept by the user")
        self.assertNotIn("resuming", self.good(self.train(seed=9, save_steps=3, max_steps=6, overwrite_output_dir="true")))
        self.assertEqual(sorted(path.name for path in self.out.glob("checkpoint-*")), ["checkpoint-3", "checkpoint-6"])
        self.assertEqual(self.tensors(fresh), self.tensors(self.out))
        self.assertEqual(self.losses(fresh), self.losses(self.out))
        for path in list(self.out.glob("checkpoint-*/loraine_checkpoint.json")):
            path.unlink()
        self.refused(self.train(**settings), 2, "overwrite_output_dir")
        (self.out / "checkpoint-3").rename(self.work / "away")
        (self.out / "checkpoint-6").rename(self.work / "away" / "6")
        self.refused(self.train(**settings), 2, "overwrite_output_dir")  # an adapter without a checkpoint

    def test_overwriting_does_not_remove_the_adapter_it_starts_from(self):
        self.good(self.train(max_steps=4, save_steps=2))
        checkpoint = self.out / "checkpoint-2"
        self.refused(self.train(adapter_name_or_path=checkpoint, overwrite_output_dir="true"), 2, str(checkpoint), "output_dir")
        self.assertTrue((checkpoint / "adapter_model.safetensors").exists())
        self.good(self.train(adapter_name_or_path=self.out, overwrite_output_dir="true"))

    # 6. divergence

    def finite(self, folder):
        for path in folder.rglob("*.safetensors"):
            for name, (_, values) in tiny.read_safetensors(path).items():
                self.assertTrue(all(map(math.isfinite, values)), f"{path}: {name}")

    def test_divergence(self):
        for name, changes in {
            "weights": dict(learning_rate="1e6", weight_decay="1e6", lr_scheduler_type="constant"),
            "last": dict(learning_rate="1e6", weight_decay="1e6", lr_scheduler_type="constant", max_steps=4, save_steps=1),
            "moments": dict(learning_rate="1e6", max_grad_norm=0, weight_decay="3e4", lr_scheduler_type="constant", save_steps=1),
            "evaluated": dict(learning_rate="1e6", weight_decay="1e6", lr_scheduler_type="constant", save_steps=2, eval_strategy="steps",
                              eval_steps=1, val_size="0.2"),
        }.items():
            with self.subTest(name):
                out = self.work / name
                text = self.refused(self.train(out, warmup_steps=0, **({"save_steps": 2, "max_steps": 60} | changes)), 5, "last good step is")
                self.assertFalse((out / "adapter_model.safetensors").exists(), text)
                self.finite(out)
                good = int(re.search(r"last good step is (\d+)", text).group(1))
                saved = [int(path.name.split("-")[1]) for path in out.glob("checkpoint-*")]
                self.assertLessEqual(max(saved, default=0), good)
                if saved:
                    self.assertIn(f"checkpoint-{max(saved)}", text)
        self.refused(self.train(self.work / "inf", learning_rate="inf"), 2, "learning_rate")
        self.refused(self.train(self.work / "nan", learning_rate=".nan"), 2, "learning_rate")
        self.refused(self.train(self.work / "huge", learning_rate="1e30"), 2, "learning_rate")

    # 8. little address space

    def test_little_address_space(self):
        codes = []
        for mib in range(50, 110, 4):
            out = self.work / str(mib)
            limit = lambda: resource.setrlimit(resource.RLIMIT_AS, (mib << 20, mib << 20))
            done = subprocess.run([tiny.program, *map(str, self.arguments(out, max_steps=2, plot_loss="true"))], capture_output=True, text=True,
                                  preexec_fn=limit, timeout=60, stdin=subprocess.DEVNULL)
            text = done.stdout + done.stderr
            if "error while loading shared libraries" in text:  # before main
                continue
            codes.append(done.returncode)
            self.assertIn(done.returncode, (0, 4), f"{mib} MiB: {text}")
            self.assertEqual(done.returncode == 0, (out / "adapter_model.safetensors").exists())
            if done.returncode:
                self.assertIn("ulimit -v", text)
        if codes:
            self.assertEqual(codes, sorted(codes, reverse=True))


class Memory(unittest.TestCase):
    """What a dry run says of the peak"""

    @classmethod
    def setUpClass(cls):
        cls.holder = tiny.tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.holder.name)
        cls.model = tiny.write_model(cls.work / "model", **tiny.large)
        for name, low, high in [("long", 100, 200), ("short", 20, 40)]:
            folder, draw = cls.work / name, random.Random(1)
            folder.mkdir()
            rows = [[draw.randrange(3, 8000) for _ in range(draw.randrange(low, high))] for _ in range(24)]
            (folder / "rows.jsonl").write_text("".join(json.dumps({"input_ids": ids, "labels": ids}) + "\n" for ids in rows))
            (folder / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))

    @classmethod
    def tearDownClass(cls):
        cls.holder.cleanup()

    def peak(self, arguments):
        """MiB. Through a small process: the peak counts from the one that forked."""
        code = ("import resource, subprocess, sys; done = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL);"
                "print(done.returncode, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)")
        done = subprocess.run([sys.executable, "-c", code, tiny.program, *map(str, arguments)], capture_output=True, text=True, timeout=120)
        code, peak = done.stdout.split()
        self.assertEqual(code, "0", done.stderr)
        return int(peak) / 1024

    def test_merging_streams(self):
        """A model goes by tensor by tensor: its files and the merged ones are larger than the memory that is used."""
        model = tiny.write_model(self.work / "big", **tiny.large | dict(layers=40))
        adapter = self.work / "adapter"
        code, text = tiny.run(*tiny.train_arguments(model, self.work / "short", adapter, max_steps=1))
        self.assertEqual(code, 0, text)
        stored = (model / "model.safetensors").stat().st_size / 2**20
        peak = self.peak(["export", "--model_name_or_path", model, "--adapter_name_or_path", adapter, "--export_dir", self.work / "merged"])
        self.assertLess(peak, stored, f"{stored:.0f} MiB of weights")

    def test_peak_is_predicted(self):
        for i, (data, changes) in enumerate([
            ("long", dict(per_device_train_batch_size=1)),
            ("long", dict(per_device_train_batch_size=4, lora_dropout="0.1", save_strategy="no")),
            ("long", dict(per_device_train_batch_size=8, lora_rank=64)),
            ("long", dict(per_device_train_batch_size=4, cutoff_len=50)),
            ("long", dict(per_device_train_batch_size=1, bf16="true")),
            ("long", dict(per_device_train_batch_size=2, val_size="0.3", eval_strategy="steps", eval_steps=1, per_device_eval_batch_size=6)),
            ("short", dict(per_device_train_batch_size=4, gradient_accumulation_steps=2)),
            ("short", dict(per_device_train_batch_size=24, max_steps=1)),
            ("long", dict(per_device_train_batch_size=4, use_dora="true")),
            ("long", dict(per_device_train_batch_size=4, use_dora="true", lora_dropout="0.1", gradient_checkpointing="true")),
            ("long", dict(per_device_train_batch_size=4, use_adalora="true", tinit=0, tfinal=0)),
            ("long", dict(per_device_train_batch_size=4, pissa_init="true")),
            ("long", dict(per_device_train_batch_size=4, frozen_matmul="int8")),
            ("long", dict(per_device_train_batch_size=4, frozen_matmul="int8", bf16="true")),
            ("long", dict(per_device_train_batch_size=1, finetuning_type="full")),
            ("long", dict(per_device_train_batch_size=1, finetuning_type="freeze")),
            ("long", dict(per_device_train_batch_size=1, finetuning_type="freeze", freeze_trainable_layers=6, freeze_extra_modules="embed_tokens")),
            ("long", dict(per_device_train_batch_size=1, finetuning_type="freeze", val_size="0.3", eval_strategy="steps", eval_steps=1, load_best_model_at_end="true")),
            ("long", dict(per_device_train_batch_size=4, additional_target="lm_head")),
        ]):
            with self.subTest(data=data, **changes):
                settings = dict(gradient_accumulation_steps=1, max_steps=2, save_steps=1) | changes
                arguments = tiny.train_arguments(self.model, self.work / data, self.work / f"out{i}", **settings)
                code, text = tiny.run(*arguments, "--dry_run", "true")
                self.assertEqual(code, 0, text)
                predicted, measured = int(re.search(r"memory forecast: (\d+) MiB", text).group(1)), self.peak(arguments)
                print(f"| {data} rows, {', '.join(f'{k} {v}' for k, v in changes.items())} | {predicted} | {measured:.0f} |")
                self.assertLess(abs(predicted / measured - 1), 0.1, f"predicted {predicted}, measured {measured:.0f} MiB")


unittest.main()
