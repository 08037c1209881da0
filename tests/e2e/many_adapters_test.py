#!/usr/bin/env python3
"""Many adapters on one base: rows of one batch with different adapters equal to running alone, and a chat that loads, unloads and asks
several at once. Run by ctest (label e2e)."""
import array
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

recorded = tiny.root / "../shared/golden/peft"  # what PEFT computed on tiny models; not part of the project


class Traced(tiny.Case):
    def trace(self, batch, model, *more):
        """name → (shape, values)"""
        output = self.work / "trace.safetensors"
        self.good(tiny.run("trace", "--model_name_or_path", model, "--batch", batch, "--output", output, "--max_new_tokens", 12, *more))
        return tiny.read_safetensors(output)

    def rows(self, traced, name="logits"):
        shape, values = traced[name]
        size = len(values) // shape[0]
        return [values[i * size : (i + 1) * size] for i in range(shape[0])]

    def near(self, one, other, tolerance):
        self.assertEqual(len(one), len(other))
        self.assertLess(max(abs(a - b) for a, b in zip(one, other)), tolerance)

    def one_row(self, ids, name):
        path = self.work / f"{name}.safetensors"
        tiny.write_safetensors(path, {"input_ids": ("I64", [1, len(ids)], array.array("q", ids).tobytes())})
        return path


class Rows(Traced):
    def check(self, model, adapters, batch, choice):
        """choice: per row a name or None. The mixed batch against each adapter over the whole batch, and each row by itself."""
        stored, count = tiny.read_safetensors(batch), len(choice)
        ids = self.rows(stored, "input_ids")
        lengths = [sum(mask) for mask in self.rows(stored, "attention_mask")] if "attention_mask" in stored else [len(row) for row in ids]
        listed = ",".join(f"{name}={path}" for name, path in adapters.items())
        text = ",".join(f"{row}:{name}" for row, name in enumerate(choice) if name)
        mixed = self.trace(batch, model, "--adapter_name_or_path", listed, "--adapter_rows", text)
        seen = set()
        for row, name in enumerate(choice):
            given = ["--adapter_name_or_path", adapters[name]] if name else []
            over_all = self.trace(batch, model, *given)
            self.assertEqual(self.rows(mixed)[row], self.rows(over_all)[row], f"row {row}, adapter {name}: the bits of an equal batch")
            self.assertEqual(self.rows(mixed, "generated_ids")[row], self.rows(over_all, "generated_ids")[row])
            alone = self.trace(self.one_row(ids[row][: lengths[row]], "row"), model, *given)
            logits = self.rows(alone)[0]
            self.near(self.rows(mixed)[row][: len(logits)], logits, 1e-4)
            self.assertEqual(self.rows(mixed, "generated_ids")[row], self.rows(alone, "generated_ids")[0])
            seen.add(bytes(self.rows(mixed)[row]))
        self.assertEqual(len(seen), count)
        return mixed

    def test_rows_equal_running_alone(self):
        adapters = {}
        for name, changes in dict(a={}, b=dict(lora_rank=2, lora_target="v_proj,up_proj", seed=7), c=dict(lora_rank=9, seed=8)).items():
            self.good(tiny.run(*self.arguments(self.work / name, learning_rate="5e-2", **changes)))
            adapters[name] = self.work / name
        batch = self.work / "batch.safetensors"
        ids = array.array("q", [3 + (7 * i * i + i) % 60 for i in range(5 * 12)])
        tiny.write_safetensors(batch, {"input_ids": ("I64", [5, 12], ids.tobytes()), "labels": ("I64", [5, 12], ids.tobytes())})
        self.check(self.model, adapters, batch, ["b", "b", None, "a", "c"])

        listed = ["--adapter_name_or_path", f"{adapters['a']},{adapters['b']}"]  # by the names of their folders
        common = ["trace", "--model_name_or_path", self.model, "--batch", batch, "--output", self.work / "refused"]
        self.refused(tiny.run(*common, *listed, "--adapter_rows", "0-5:a"), 2, "5", "no row of the batch")
        self.refused(tiny.run(*common, *listed, "--adapter_rows", "0-1:a,1:b"), 2, "row 1 is given twice")
        self.refused(tiny.run(*common, *listed, "--adapter_rows", "0:z"), 2, "no adapter is called 'z'", "base, a, b")
        self.refused(tiny.run(*common, *listed, "--adapter_rows", "0:a", "--gradients", "true"), 2, "gradients")
        self.refused(tiny.run(*common, "--adapter_rows", "0:a"), 2, "no adapter is called 'a'")
        self.assertFalse((self.work / "refused").exists())

    def test_recorded_adapters(self):
        case, algebra = recorded / "llama", recorded / "algebra"
        if not (case / "lora").exists() or not (algebra / "zh").exists():
            self.skipTest(f"{recorded} is not there: the recorded adapters are left out")
        adapters = {name: algebra / name for name in ("en", "fr", "zh")} | {"lora": case / "lora"}
        self.check(case / "model", adapters, case / "base.safetensors", ["en", "fr", "zh"])
        mixed = self.trace(case / "base.safetensors", case / "model", "--adapter_name_or_path", f"lora={case / 'lora'},{algebra / 'fr'}",
                           "--adapter_rows", "0:lora,1:base,2:fr")
        mask = self.rows(tiny.read_safetensors(case / "base.safetensors"), "attention_mask")
        vocab = mixed["logits"][0][2]
        for row, file in enumerate(["lora_out", "base"]):  # PEFT's own logits
            wanted = self.rows(tiny.read_safetensors(case / f"{file}.safetensors"))[row]
            tokens = sum(mask[row]) * vocab
            self.near(self.rows(mixed)[row][:tokens], wanted[:tokens], 1e-4)


class Chat(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        self.adapters = {}
        for name, changes in dict(first={}, second=dict(lora_rank=2, seed=7, learning_rate="8e-2"), wide=dict(lora_rank=40, seed=9)).items():
            self.good(tiny.run(*self.arguments(self.work / name, **({"learning_rate": "3e-2"} | changes))))
            self.adapters[name] = self.work / name

    def chat(self, adapters, *lines):
        """(what stdout holds, what stderr holds)"""
        given = ["--adapter_name_or_path", adapters] if adapters else []
        done = subprocess.run([tiny.program, "chat", "--model_name_or_path", self.model, *given, "--do_sample", "false", "--max_new_tokens", "12"],
                              input="\n".join([*lines, "exit", ""]), capture_output=True, text=True, timeout=120)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout, done.stderr

    def answers(self, *arguments):
        return re.findall(r"Assistant(?: \[(.*)\])?: (.*)", self.chat(*arguments)[0])

    def test_one_question_to_many(self):
        question = "hello there"
        alone = {name: self.answers(str(path), question)[0][1] for name, path in self.adapters.items()}
        alone["base"] = self.answers(None, question)[0][1]
        self.assertEqual(len(set(alone.values())), 4)
        listed = ",".join(f"{name}={path}" for name, path in self.adapters.items())
        self.assertEqual(dict(self.answers(listed, f"/ask * {question}")), alone)
        some = self.answers(listed, f"/ask wide,base,first {question}", question)  # and the conversation does not know of it
        self.assertEqual(some, [(name, alone[name]) for name in ("wide", "base", "first")] + [("", alone["first"])])

    def test_loading_while_it_runs(self):
        question = "hello there"
        wide, second = (self.answers(str(self.adapters[name]), question)[0][1] for name in ("wide", "second"))
        base, first = self.answers(None, question)[0][1], self.answers(str(self.adapters["first"]), question)[0][1]
        lines = [f"/load big={self.adapters['wide']}", "/adapter big", question, "clear", f"/load {self.adapters['second']}/", "/adapter second",
                 question, "clear", "/unload second", question, "clear", "/adapter a", question, "/adapter", "/unload big", "/adapter"]
        out, messages = self.chat(f"a={self.adapters['first']}", *lines)
        self.assertEqual(re.findall("Assistant: (.*)", out), [wide, second, base, first])
        for words in ("loaded big from", "loaded second from", "unloaded second", "now: base", "adapters: a (on), big; now: a", "adapters: a (on); now: a"):
            self.assertIn(words, messages)

    def test_mistakes_are_named_and_the_chat_goes_on(self):
        lines = ["/load x=/nowhere", f"/load a={self.adapters['second']}", "/load base=x", "/load", "/unload z", "/ask z hello", "/ask a", "/ask", "hello there"]
        out, messages = self.chat(f"a={self.adapters['first']}", *lines)
        self.assertEqual(len(re.findall("Assistant: ", out)), 1)
        for words in ("/nowhere: no such adapter folder", "called 'a' already", "all and base mean something else", "no adapter is called 'z'",
                      "/ask needs names and a question"):
            self.assertIn(words, messages)


if __name__ == "__main__":
    unittest.main(verbosity=2)
