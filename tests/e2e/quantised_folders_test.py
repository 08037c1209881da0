#!/usr/bin/env python3
"""Bases in the formats of other quantisers from end to end: trained, asked, evaluated, exported, each beside the same weights in full. Run by ctest
(label e2e)."""
import json
import pathlib
import struct
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import quantised_folder
import tiny_model as tiny


class QuantisedFolders(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        tiny.write_safetensors(self.work / "batch.safetensors", {"input_ids": ("I64", [1, 6], struct.pack("<6q", 5, 9, 33, 7, 12, 40))})

    def folders(self, kind):
        packed, full = self.work / f"{kind}_packed", self.work / f"{kind}_full"
        quantised_folder.write(kind, self.model, packed, full)
        return packed, full

    def good_run(self, *arguments):
        return self.good(tiny.run(*arguments))

    def logits(self, *where):
        self.good_run("trace", *where, "--batch", self.work / "batch.safetensors", "--output", self.work / "out.safetensors")
        return tiny.read_safetensors(self.work / "out.safetensors")["logits"][1]

    def near(self, ours, theirs, delta):
        self.assertEqual(len(ours), len(theirs))
        for one, other in zip(ours, theirs):
            self.assertAlmostEqual(one, other, delta=delta)

    def test_each_is_the_model_in_full(self):
        for kind, (_, _, text) in quantised_folder.kinds.items():
            with self.subTest(kind):
                packed, full = self.folders(kind)
                self.near(self.logits("--model_name_or_path", packed), self.logits("--model_name_or_path", full), 1e-5)
                said = {}
                for name, model in (("packed", packed), ("full", full)):
                    out = self.work / f"{kind}_{name}_run"
                    said[name] = self.good_run(*tiny.train_arguments(model, self.data, out, learning_rate="3e-2"))
                    asked = ("--model_name_or_path", model, "--adapter_name_or_path", out)
                    self.good_run("eval", *asked, "--eval_dataset", "rows", "--dataset_dir", self.data, "--output_dir", self.work / f"{kind}_{name}_eval")
                    chat = subprocess.run([tiny.program, "chat", *map(str, asked), "--max_new_tokens", "6", "--do_sample", "false"], input="abc\n", text=True, capture_output=True, timeout=300)
                    self.assertEqual(chat.returncode, 0, chat.stderr)
                    said[name + "_answer"] = chat.stdout
                self.assertIn(text, said["packed"])
                self.assertEqual(said["packed_answer"], said["full_answer"])
                losses = [json.loads((self.work / f"{kind}_{name}_eval/eval_results.json").read_text())["eval_loss"] for name in ("packed", "full")]
                self.assertAlmostEqual(*losses, delta=1e-4)
                adapters = [tiny.read_safetensors(self.work / f"{kind}_{name}_run/adapter_model.safetensors") for name in ("packed", "full")]
                for tensor in adapters[0]:
                    self.near(adapters[0][tensor][1], adapters[1][tensor][1], 1e-4)

                merged = self.work / f"{kind}_merged"
                with_adapter = ("--model_name_or_path", packed, "--adapter_name_or_path", self.work / f"{kind}_packed_run")
                self.good_run("export", *with_adapter, "--export_dir", merged)
                self.assertNotIn("quantization_config", (merged / "config.json").read_text())
                self.near(self.logits("--model_name_or_path", merged), self.logits(*with_adapter), 1e-4)
                self.assertIn("quantization_bit has no effect", self.good_run(*tiny.train_arguments(packed, self.data, self.work / f"{kind}_twice", quantization_bit=4)))

    def test_bf16_and_integer_products(self):
        for kind in quantised_folder.kinds:
            with self.subTest(kind):
                packed, _ = self.folders(kind)
                exact = self.logits("--model_name_or_path", packed)
                for extra in (("--bf16", "true"), ("--frozen_matmul", "int8")):
                    self.near(self.logits("--model_name_or_path", packed, *extra), exact, 0.1 * max(map(abs, exact)))

    def test_what_is_not_read_is_named(self):
        packed, _ = self.folders("gptq")
        config = json.loads((packed / "config.json").read_text())
        for change, text in ((dict(quant_method="quip"), "gptq, awq, hqq, aqlm, fp8"), (dict(checkpoint_format="marlin"), "gptq_v2"), (dict(bits=3), "bits")):
            (packed / "config.json").write_text(json.dumps(config | {"quantization_config": config["quantization_config"] | change}))
            code, said = tiny.run("trace", "--model_name_or_path", packed, "--batch", self.work / "batch.safetensors", "--output", self.work / "no")
            self.assertEqual(code, 3, said)
            self.assertIn(text, said)


if __name__ == "__main__":
    unittest.main()
