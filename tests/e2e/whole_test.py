#!/usr/bin/env python3
"""Training of whole tensors on a tiny model: full, freeze, modules_to_save, embedding and head. Run by ctest (label e2e)."""
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Whole(tiny.Case):
    def train(self, name, code=0, **changes):
        out = self.work / name
        found, text = tiny.run(*tiny.train_arguments(self.model, self.data, out, **changes))
        self.assertEqual(found, code, text)
        return out if code == 0 else text

    def tensors(self, folder, name="model.safetensors"):
        return tiny.read_safetensors(folder / name)

    def logits(self, *where):
        ids = tiny.array.array("q", [5, 9, 20, 33, 7, 41, 12, 3]).tobytes()
        tiny.write_safetensors(self.work / "in.safetensors", {"input_ids": ("I64", [1, 8], ids)})
        code, text = tiny.run("trace", "--model_name_or_path", *where, "--batch", self.work / "in.safetensors", "--output", self.work / "out.logits",
                              "--max_new_tokens", 8)
        self.assertEqual(code, 0, text)
        out = tiny.read_safetensors(self.work / "out.logits")
        self.generated = list(out["generated_ids"][1])  # by the engine of chat
        return out["logits"][1]

    def apart(self, a, b):
        return max(abs(x - y) for x, y in zip(a, b))

    def test_full_trains_every_tensor_and_saves_a_model(self):
        out = self.train("full", finetuning_type="full", learning_rate="1e-3")
        before, after = self.tensors(self.model), self.tensors(out)
        self.assertEqual(before.keys(), after.keys())
        for name in before:
            self.assertEqual(before[name][0], after[name][0])
            self.assertNotEqual(list(before[name][1]), list(after[name][1]), name)
        self.assertFalse((out / "adapter_config.json").exists())
        self.assertEqual(json.loads((out / "config.json").read_text())["use_cache"], False)
        results = json.loads((out / "all_results.json").read_text())
        self.assertEqual(results["trainable_parameters"], sum(len(values) for _, values in before.values()))
        self.assertGreater(self.apart(self.logits(out), self.logits(self.model)), 1e-3)

    def test_full_goes_on_from_a_checkpoint(self):
        whole = self.train("whole", finetuning_type="full", save_steps=5)
        out = self.train("resumed", finetuning_type="full", save_steps=5, resume_from_checkpoint=whole / "checkpoint-5")
        self.assertEqual((whole / "model.safetensors").read_bytes(), (out / "model.safetensors").read_bytes())
        self.assertTrue((whole / "checkpoint-5/config.json").exists())

    def test_freeze_leaves_the_others_as_they_are(self):
        out = self.train("freeze", finetuning_type="freeze", freeze_trainable_layers=1, freeze_trainable_modules="mlp", freeze_extra_modules="norm")
        before, after = self.tensors(self.model), self.tensors(out)
        for name in before:
            trained = ".1.mlp" in name or "norm" in name
            self.assertEqual(list(before[name][1]) != list(after[name][1]), trained, name)
        text = self.train("wrong", code=2, finetuning_type="freeze", freeze_trainable_modules="attention")
        self.assertIn("self_attn", text)
        first = self.train("first", finetuning_type="freeze", freeze_trainable_layers=-1)
        after = self.tensors(first)
        for name in before:
            self.assertEqual(list(before[name][1]) != list(after[name][1]), ".0." in name, name)

    def test_what_goes_with_lora_only_is_refused(self):
        self.assertIn("additional_target", self.train("refused", code=2, finetuning_type="full", additional_target="lm_head"))
        self.assertIn("embeddings", self.train("unknown", code=2, additional_target="embeddings"))

    def check_adapter(self, out, names):
        """The file's tensors, merged = adapter over base, a resumed run, and training on from the adapter."""
        self.assertEqual(sorted(n for n in self.tensors(out, "adapter_model.safetensors") if ".lora_A." not in n and ".lora_B." not in n), sorted(names))
        merged = self.work / (out.name + "_merged")
        code, text = tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--export_dir", merged)
        self.assertEqual(code, 0, text)
        adapted = self.logits(self.model, "--adapter_name_or_path", out)
        generated = self.generated
        self.assertLess(self.apart(adapted, self.logits(merged)), 1e-4)
        self.assertEqual(generated, self.generated)
        self.assertGreater(self.apart(adapted, self.logits(self.model)), 1e-3)
        return merged

    def test_modules_to_save_and_lora_on_embedding_and_head(self):
        for tied in (False, True):
            if tied:
                self.model = tiny.write_model(self.work / "tied")
                config = json.loads((self.model / "config.json").read_text()) | dict(tie_word_embeddings=True)
                (self.model / "config.json").write_text(json.dumps(config))
            prefix, label = "base_model.model.", "tied" if tied else "untied"
            saved = self.train(f"saved_{label}", additional_target="embed_tokens,norm", save_steps=5)
            norms = ["model.norm.weight"] + [f"model.layers.{l}.{n}_layernorm.weight" for l in (0, 1) for n in ("input", "post_attention")]
            merged = self.check_adapter(saved, [prefix + name for name in ["model.embed_tokens.weight", *norms]])
            if tied:  # the head is no longer the embedding
                self.assertIn("lm_head.weight", self.tensors(merged))
                self.assertEqual(json.loads((merged / "config.json").read_text())["tie_word_embeddings"], False)
            again = self.train(f"again_{label}", additional_target="embed_tokens,norm", save_steps=5, resume_from_checkpoint=saved / "checkpoint-5")
            self.assertEqual((saved / "adapter_model.safetensors").read_bytes(), (again / "adapter_model.safetensors").read_bytes())
            self.assertEqual(json.loads((saved / "adapter_config.json").read_text())["modules_to_save"], ["embed_tokens", "norm"])

            lora = self.train(f"lora_{label}", lora_target="embed_tokens,lm_head,q_proj", save_steps=5, learning_rate="1e-3")
            extra = ["model.embed_tokens.base_layer.weight", "model.embed_tokens.lora_embedding_A", "model.embed_tokens.lora_embedding_B", "lm_head.base_layer.weight"]
            self.check_adapter(lora, [prefix + name for name in extra])
            again = self.train(f"lora_again_{label}", lora_target="embed_tokens,lm_head,q_proj", save_steps=5, learning_rate="1e-3",
                               resume_from_checkpoint=lora / "checkpoint-5")
            self.assertEqual((lora / "adapter_model.safetensors").read_bytes(), (again / "adapter_model.safetensors").read_bytes())
            on = self.train(f"on_{label}", adapter_name_or_path=lora)
            self.assertTrue((on / "adapter_model.safetensors").exists())

    def test_a_damaged_adapter_of_this_kind_is_refused(self):
        out = self.train("saved", additional_target="lm_head")
        file = out / "adapter_model.safetensors"
        tensors = {name: ("F32", shape, values.tobytes()) for name, (shape, values) in tiny.read_safetensors(file).items()}
        del tensors["base_model.model.lm_head.weight"]
        tiny.write_safetensors(file, tensors)
        code, text = tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--export_dir", self.work / "x")
        self.assertEqual(code, 3, text)
        self.assertIn("lm_head.weight: missing", text)

    def test_label_smoothing_raises_the_loss(self):
        losses = []
        for factor in (0, 0.2):
            out = self.train(f"smooth{factor}", label_smoothing_factor=factor)
            losses.append(json.loads((out / "all_results.json").read_text())["train_loss"])
        self.assertNotAlmostEqual(losses[0], losses[1], places=3)


unittest.main()
