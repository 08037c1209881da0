#!/usr/bin/env python3
"""A base in 4 or 8 bits from end to end: quantised while loading and from a checkpoint alike, trained, exported, refused where it cannot be. Run by
ctest (label e2e)."""
import json
import pathlib
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

kinds = {
    "nf4": dict(quantization_bit=4), "fp4_plain": dict(quantization_bit=4, quantization_type="fp4", double_quantization="false"),
    "int8": dict(quantization_bit=8), "int8_products": dict(quantization_bit=8, frozen_matmul="int8"), "nf4_bf16": dict(quantization_bit=4, bf16="true"),
}


def words(settings):
    return [word for key, value in settings.items() for word in (f"--{key}", str(value))]


class Quantised(tiny.Case):
    def train(self, name, model=None, **settings):
        return self.good(tiny.run(*tiny.train_arguments(model or self.model, self.data, self.work / name, **settings)))

    def export(self, name, *more, model=None):
        return self.good(tiny.run("export", "--model_name_or_path", model or self.model, "--export_dir", self.work / name, *more))

    def adapter(self, name):
        return (self.work / name / "adapter_model.safetensors").read_bytes()

    def logits(self, name, *where):
        ids = [5, 9, 33, 7, 12, 40]
        tiny.write_safetensors(self.work / "batch.safetensors", {"input_ids": ("I64", [1, 6], struct.pack("<6q", *ids))})
        self.good(tiny.run("trace", *where, "--batch", self.work / "batch.safetensors", "--output", self.work / name))
        return tiny.read_safetensors(self.work / name)["logits"][1]

    def test_a_checkpoint_is_the_model_quantised_while_loading(self):
        for name, settings in kinds.items():
            with self.subTest(name):
                bits = {key: value for key, value in settings.items() if key not in ("bf16", "frozen_matmul")}
                beside = {key: value for key, value in settings.items() if key in ("bf16", "frozen_matmul")}
                self.export(f"{name}_base", *words(bits))
                self.train(f"{name}_loading", **settings)
                self.train(f"{name}_stored", self.work / f"{name}_base", **beside)
                if "bf16" not in settings:  # then the weights would be rounded before
                    self.assertEqual(self.adapter(f"{name}_loading"), self.adapter(f"{name}_stored"))
                self.train(f"{name}_full", **beside)
                self.assertNotEqual(self.adapter(f"{name}_loading"), self.adapter(f"{name}_full"))
                said = self.train(f"{name}_both", self.work / f"{name}_base", **settings)
                self.assertIn("quantization_bit has no effect", said)

    def test_int8_products_of_a_model_that_is_asked(self):
        self.train("out", learning_rate="3e-2")
        self.export("base", "--quantization_bit", "8")
        with_adapter = ("--adapter_name_or_path", self.work / "out")
        exact = self.logits("exact", "--model_name_or_path", self.model, *with_adapter)
        rounded = {name: self.logits(name, "--model_name_or_path", model, "--frozen_matmul", "int8", *more, *with_adapter) for name, model, *more in
                   (("full", self.model), ("loading", self.model, "--quantization_bit", "8"), ("stored", self.work / "base"))}
        self.assertEqual(rounded["loading"], rounded["stored"])
        for logits in rounded.values():
            self.assertNotEqual(logits, exact)
            for one, other in zip(logits, exact):
                self.assertAlmostEqual(one, other, delta=0.05 * max(map(abs, exact)))
        said = {}
        for products in ("exact", "int8"):
            asked = ("--model_name_or_path", self.model, *with_adapter, "--frozen_matmul", products)
            self.good(tiny.run("eval", *asked, "--eval_dataset", "rows", "--dataset_dir", self.data, "--output_dir", self.work / f"eval_{products}"))
            said[products] = json.loads((self.work / f"eval_{products}/eval_results.json").read_text())["eval_loss"]
        self.assertNotEqual(said["exact"], said["int8"])
        self.assertAlmostEqual(said["exact"], said["int8"], delta=0.02 * said["exact"])
        for command in (("trace", "--batch", self.work / "batch.safetensors", "--output", self.work / "no"), ("chat",)):
            done = tiny.run(*command, "--model_name_or_path", self.model, "--quantization_bit", "4", "--frozen_matmul", "int8")
            self.assertEqual(done[0], 2, done[1])
            self.assertIn("8 bits", done[1])

    def test_int8_products_of_a_packed_file_that_is_asked(self):
        """Q4_0 and Q8_0 as they lie in a GGUF: activations are rounded, weights are not, and training rounds both as ever."""
        for name in ("byte_level_q4_0", "byte_level_q8_0"):
            with self.subTest(name):
                file = self.work / f"{name}.gguf"
                file.write_bytes((tiny.root / "fuzz/corpus/gguf" / name).read_bytes())
                ids = [1, 2, 0, 2, 1, 1]
                for rows in (1, 6):  # each row of a batch, and every length of a prompt, has the bits it has alone
                    tiny.write_safetensors(self.work / "batch.safetensors", {"input_ids": ("I64", [rows, 6], struct.pack("<6q", *ids) * rows)})
                    for products in ("exact", "int8"):
                        said = self.good(tiny.run("trace", "--model_name_or_path", file, "--batch", self.work / "batch.safetensors", "--frozen_matmul", products,
                                                  "--output", self.work / f"{products}_{rows}"))
                logits = {at: tiny.read_safetensors(self.work / at)["logits"][1] for at in ("exact_1", "exact_6", "int8_1", "int8_6")}
                self.assertEqual(list(logits["int8_6"]), list(logits["int8_1"]) * 6)
                if name.endswith("q4_0"):  # all weights of the other are alike, so that nothing is rounded
                    self.assertNotEqual(logits["int8_1"], logits["exact_1"])
                for one, other in zip(logits["int8_1"], logits["exact_1"]):
                    self.assertAlmostEqual(one, other, delta=0.03 * max(map(abs, logits["exact_1"])))
                asked = subprocess.run([tiny.program, "chat", "--model_name_or_path", file, "--frozen_matmul", "int8", "--max_new_tokens", "4"], input="A\n", text=True,
                                       capture_output=True, timeout=300)
                self.assertEqual(asked.returncode, 0, asked.stderr)
                self.assertIn("packed weights stay as they lie in the file", asked.stderr)

    def test_resumed_and_recomputed_runs_are_the_same(self):
        for extra in ({}, dict(use_dora="true")):
            settings = dict(quantization_bit=4, save_steps=5, **extra)
            self.train("whole", overwrite_output_dir="true", gradient_checkpointing="false", **settings)
            self.train("again", overwrite_output_dir="true", gradient_checkpointing="true", **settings)
            self.assertEqual(self.adapter("whole"), self.adapter("again"))
            whole = self.adapter("whole")
            said = self.train("auto", overwrite_output_dir="true", **settings)
            self.assertRegex(said, r"recomputed +gate and up")
            self.assertEqual(self.adapter("whole"), self.adapter("auto"))
            for path in ("checkpoint-10", "checkpoint-12"):
                for file in (self.work / "whole" / path).iterdir():
                    file.unlink()
                (self.work / "whole" / path).rmdir()
            (self.work / "whole/adapter_model.safetensors").unlink()
            self.assertIn("checkpoint-5", self.train("whole", gradient_checkpointing="false", **settings))
            self.assertEqual(self.adapter("whole"), whole)

    def test_export_of_a_quantised_base_is_its_full_model(self):
        self.export("base", "--quantization_bit", "4")
        self.train("out", self.work / "base", learning_rate="3e-2")
        self.export("merged", "--adapter_name_or_path", self.work / "out", model=self.work / "base")
        self.assertNotIn("quantization_config", (self.work / "merged/config.json").read_text())
        self.assertIn('"bnb_4bit_quant_type": "nf4"', (self.work / "base/config.json").read_text())
        over = self.logits("over.safetensors", "--model_name_or_path", self.work / "base", "--adapter_name_or_path", self.work / "out")
        merged = self.logits("merged.safetensors", "--model_name_or_path", self.work / "merged")
        base = self.logits("base.safetensors", "--model_name_or_path", self.work / "base")
        for one, other in zip(over, merged):
            self.assertAlmostEqual(one, other, delta=1e-4)
        self.assertGreater(max(abs(one - other) for one, other in zip(over, base)), 1e-3)

    def test_what_needs_the_base_as_it_is_is_refused(self):
        self.train("first")
        for settings in (dict(finetuning_type="full"), dict(pissa_init="true"), dict(init_lora_weights="olora"), dict(frozen_matmul="int8"),
                         dict(create_new_adapter="true", adapter_name_or_path=self.work / "first"), dict(quantization_type="nf5")):
            done = tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "out", **(dict(quantization_bit=4) | settings)))
            self.assertEqual(done[0], 2, f"{settings}: {done[1]}")
        for settings in (dict(quantization_bit=3), dict(quantization_bit=4, quantization_method="eetq"), dict(quantization_bit=5, quantization_method="hqq"),
                         *(dict(quantization_bit=4, quantization_method="hqq") | more for more in (dict(init_lora_weights="loftq"), dict(frozen_matmul="int8"), dict(hqq_group_size=12)))):
            done = tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "out", **settings))
            self.assertNotEqual(done[0], 0, f"{settings}: {done[1]}")
        for more in (("--adapter_name_or_path", self.work / "first"), ("--export_legacy_format", "true"), ("--quantization_method", "hqq")):
            done = tiny.run("export", "--model_name_or_path", self.model, "--export_dir", self.work / "e", "--quantization_bit", 4, *more)
            self.assertEqual(done[0], 2, done[1])


if __name__ == "__main__":
    unittest.main()
