#!/usr/bin/env python3
"""What training, merging and converting leave beside the weights: tokenizer, special tokens, chat template, generation settings, licences.
Run by ctest (label e2e)."""
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

TEMPLATES = ("alpaca chatml chatml_de chatglm3 deepseek deepseek3 default empty ernie falcon fewshot gemma gemma3 glm4 gpt_oss granite3 lfm2 llama2 llama3 llama4 mistral openchat phi4 "
             "qwen qwen3 qwen3_nothink smollm2 solar vicuna xuanyuan yi yuan zephyr").split()


class TextFiles(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        self.change("tokenizer_config.json", chat_template=None)
        tokenizer = json.loads((self.model / "tokenizer.json").read_text())
        vocab = tokenizer["model"]["vocab"]  # room for three new tokens
        tokenizer["model"]["vocab"] = {token: id for token, id in vocab.items() if id < tiny.vocab - 3}
        (self.model / "tokenizer.json").write_text(json.dumps(tokenizer))
        (self.data / "chats.json").write_text(json.dumps([{"instruction": "hi", "input": "", "output": "yes"}]))
        (self.data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "chats.json"}}))

    def change(self, name, **keys):
        path = self.model / name
        content = json.loads(path.read_text()) if path.exists() else {}
        content = {key: value for key, value in (content | keys).items() if value is not None}
        path.write_text(json.dumps(content))

    def train(self, out, **changes):
        self.good(tiny.run(*self.arguments(out=out, max_steps=1, **changes)))
        return out

    def export(self, **settings):
        merged = self.work / "merged"
        words = [word for key, value in settings.items() for word in (f"--{key}", value)]
        self.good(tiny.run("export", "--model_name_or_path", self.model, "--export_dir", merged, "--overwrite_output_dir", "true", *words))
        return merged

    def read(self, folder, name):
        return json.loads((folder / name).read_text())

    def test_every_named_template_is_written_and_rendered(self):
        ask = self.work / "ask.jsonl"
        ask.write_text(json.dumps({"messages": [{"role": "system", "content": "b"}, {"role": "user", "content": "a"}]}) + "\n")
        for name in TEMPLATES:
            merged = self.export(template=name)
            jinja = (merged / "chat_template.jinja").read_text()
            self.assertEqual(self.read(merged, "tokenizer_config.json")["chat_template"], jinja, name)
            self.good(tiny.run("tokenize", "--model_name_or_path", merged, "--input", ask, "--output", self.work / "told.jsonl"))
            told = json.loads((self.work / "told.jsonl").read_text())
            self.assertIn("ids", told, name)

    def test_a_token_that_is_new_stands_in_all_files(self):
        self.change("special_tokens_map.json", eos_token="</s>", additional_special_tokens=["<s>"])
        self.change("added_tokens.json", **{"<pad>": 0})
        out = self.train(self.out, template="llama3", finetuning_type="full")
        merged = self.export(template="llama3")
        for folder in (out, merged):
            added = {token["content"]: token for token in self.read(folder, "tokenizer.json")["added_tokens"]}
            config, names = self.read(folder, "tokenizer_config.json"), self.read(folder, "special_tokens_map.json")
            self.assertEqual(added["<|eot_id|>"]["id"], tiny.vocab - 3)
            self.assertTrue(added["<|eot_id|>"]["special"])
            self.assertEqual(self.read(folder, "added_tokens.json"), {"<pad>": 0, "<|eot_id|>": tiny.vocab - 3, "<|eom_id|>": tiny.vocab - 2})
            self.assertEqual([config["eos_token"], names["eos_token"]], ["<|eot_id|>"] * 2)
            for names in (config, names):
                self.assertEqual(names["additional_special_tokens"], ["<s>", "<|eom_id|>"])
            self.assertNotIn("extra_special_tokens", config)
        self.assertEqual(self.read(out, "config.json")["eos_token_id"], tiny.vocab - 3)

    def test_a_token_without_a_row_is_refused_before_work(self):
        self.change("config.json", vocab_size=tiny.vocab - 3)
        tensors = tiny.llama_tensors(vocab=tiny.vocab - 3)
        tiny.write_safetensors(self.model / "model.safetensors", tensors)
        for command in (self.arguments(template="llama3"), ["export", "--model_name_or_path", self.model, "--export_dir", self.work / "m", "--template", "llama3"]):
            self.refused(tiny.run(*command), 2, "template llama3", "<|eot_id|>", "embedding", "vicuna")
        self.train(self.out, template="vicuna")

    def test_generation_settings_can_be_saved_again(self):
        self.change("generation_config.json", do_sample=False, temperature=0.9, top_k=20, eos_token_id=[2, 4])
        for folder in (self.export(), self.train(self.out, template="vicuna", finetuning_type="full")):
            self.assertEqual(self.read(folder, "generation_config.json")["do_sample"], True)
            self.assertEqual(self.read(folder, "generation_config.json")["temperature"], 0.9)

    def test_licence_and_tokenizer_files_travel(self):
        for name in ("LICENSE", "NOTICE.txt", "tokenizer.model"):
            (self.model / name).write_bytes(name.encode() + b"\xff\n")
        (self.model / "README.md").write_text("of the base")
        whole, adapter = self.export(template="vicuna"), self.train(self.out, template="vicuna")
        for name in ("LICENSE", "NOTICE.txt", "tokenizer.model"):
            self.assertEqual((whole / name).read_bytes(), (self.model / name).read_bytes())
        self.assertFalse((whole / "README.md").exists())
        self.assertTrue((adapter / "tokenizer.model").exists())
        self.assertFalse((adapter / "LICENSE").exists())  # of the weights, which are not there

    def test_templates_of_which_none_counts(self):
        templates = [{"name": "rag", "template": "R"}, {"name": "tool_use", "template": "T"}]
        self.change("tokenizer_config.json", chat_template=templates)
        for command in (self.arguments(), ["chat", "--model_name_or_path", self.model]):
            self.refused(tiny.run(*command), 3, '"rag", "tool_use"', '"default"', "template: chatml")
        out = self.train(self.out, template="zephyr")
        self.assertEqual([t["name"] for t in self.read(out, "tokenizer_config.json")["chat_template"]], ["rag", "tool_use", "default"])
        tokenized = self.data / "tokenized.jsonl"
        tokenized.write_text(json.dumps({"input_ids": [3, 4, 5], "labels": [3, 4, 5]}) + "\n")
        (self.data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": tokenized.name, "formatting": "tokenized"}}))
        self.train(self.work / "tokenized")  # needs no template

    def test_vocabulary_and_merges_in_the_place_of_tokenizer_json(self):
        tokenizer = json.loads((self.model / "tokenizer.json").read_text())
        ask, told = self.work / "ask.jsonl", self.work / "told.jsonl"
        ask.write_text(json.dumps({"text": "The thing: 12</s>"}) + "\n")
        self.good(tiny.run("tokenize", "--model_name_or_path", self.model, "--input", ask, "--output", told))
        want = told.read_text()
        (self.model / "tokenizer.json").unlink()
        (self.model / "tokenizer.model").write_bytes(b"")
        self.refused(tiny.run("tokenize", "--model_name_or_path", self.model, "--input", ask, "--output", told), 3, "tokenizer.model", "no pieces")
        (self.model / "vocab.json").write_text(json.dumps(tokenizer["model"]["vocab"]))
        (self.model / "merges.txt").write_text("#version: 0.2\n")
        text = self.good(tiny.run("tokenize", "--model_name_or_path", self.model, "--input", ask, "--output", told))
        self.assertEqual(told.read_text(), want)
        self.assertIn("GPT-2", text)
        self.assertTrue((self.export(template="vicuna") / "tokenizer.json").exists())


if __name__ == "__main__":
    unittest.main(verbosity=2)
