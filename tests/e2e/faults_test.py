#!/usr/bin/env python3
"""Bad input to the program: one clear message, the right exit code, nothing half-written. Run by ctest (label e2e)."""
import json
import pathlib
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Faults(tiny.Case):
    def train(self, **changes):
        return tiny.run(*tiny.train_arguments(self.model, self.data, self.out, **changes))

    def refused(self, result, code, *words):
        self.assertEqual(result[0], code, result[1])
        for word in words:
            self.assertIn(word, result[1])
        self.assertNotIn("terminate called", result[1])
        self.assertFalse((self.out / "adapter_model.safetensors").exists())

    def test_the_model_itself_is_fine(self):
        code, text = self.train(max_steps=2)
        self.assertEqual(code, 0, text)
        self.assertTrue((self.out / "adapter_model.safetensors").exists())

    def test_unknown_command(self):
        code, text = tiny.run("trian")
        self.assertEqual(code, 2, text)
        self.assertIn("train", text)

    def test_unknown_key_names_the_nearest(self):
        self.refused(self.train(lora_rnk=4), 2, "lora_rnk", "lora_rank")

    def test_unknown_key_in_yaml_has_line(self):
        file = self.work / "run.yaml"
        file.write_text(f"model_name_or_path: {self.model}\nstage: sft\nlearning_rat: 1e-4\n")
        self.refused(tiny.run("train", file), 2, "run.yaml:3", "learning_rate")

    def test_rank_zero(self):
        self.refused(self.train(lora_rank=0), 2, "lora_rank")

    def test_truncated_weights(self):
        file = self.model / "model.safetensors"
        file.write_bytes(file.read_bytes()[:-100])
        self.refused(self.train(), 3, "model.safetensors")

    def test_header_that_claims_too_much(self):
        file = self.model / "model.safetensors"
        file.write_bytes(struct.pack("<Q", 1 << 62) + file.read_bytes()[8:])
        self.refused(self.train(), 3, "model.safetensors")

    def test_overlapping_offsets(self):
        data = (self.model / "model.safetensors").read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        header = json.loads(data[8 : 8 + size])
        header["model.norm.weight"]["data_offsets"] = [0, 4 * tiny.channels]
        text = json.dumps(header).encode()
        (self.model / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data[8 + size :])
        self.refused(self.train(), 3)

    def test_config_that_disagrees_with_the_weights(self):
        config = json.loads((self.model / "config.json").read_text())
        config["num_key_value_heads"] = 4
        (self.model / "config.json").write_text(json.dumps(config))
        self.refused(self.train(), 3, "k_proj")

    def test_missing_shard(self):
        names = tiny.llama_tensors()
        index = {"weight_map": {name: "model-00002-of-00002.safetensors" for name in names}}
        (self.model / "model.safetensors").unlink()
        (self.model / "model.safetensors.index.json").write_text(json.dumps(index))
        self.refused(self.train(), 3, "model-00002-of-00002.safetensors")

    def test_bad_row_has_its_line(self):
        rows = self.data / "rows.jsonl"
        lines = rows.read_text().splitlines()
        lines[4] = '{"input_ids": [3, 4'
        rows.write_text("\n".join(lines) + "\n")
        self.refused(self.train(), 3, "rows.jsonl", "5")

    def test_id_outside_the_vocabulary(self):
        rows = self.data / "rows.jsonl"
        rows.write_text(json.dumps({"input_ids": [3, 9999], "labels": [3, 9999]}) + "\n")
        self.refused(self.train(), 3, "9999")

    def test_output_folder_of_another_run(self):
        self.out.mkdir()
        (self.out / "model.safetensors").write_bytes(b"somebody's")
        code, text = self.train()
        self.assertNotEqual(code, 0, text)
        self.assertIn("overwrite_output_dir", text)
        self.assertEqual((self.out / "model.safetensors").read_bytes(), b"somebody's")

    def test_export_refuses_its_own_base(self):
        code, text = self.train(max_steps=2)
        self.assertEqual(code, 0, text)
        before = (self.model / "model.safetensors").read_bytes()
        code, text = tiny.run(
            "export", "--model_name_or_path", self.model, "--adapter_name_or_path", self.out, "--export_dir", self.model, "--export_size", 1
        )
        self.assertNotEqual(code, 0, text)
        self.assertEqual((self.model / "model.safetensors").read_bytes(), before)


unittest.main()
