#!/usr/bin/env python3
"""LoRA's kin from end to end: a resumed run equals an uninterrupted one, recomputing changes no bit, merged equals base + adapter, the files
and plots of each method, keys that exclude each other. Run by ctest (label e2e)."""
import json
import pathlib
import shutil
import struct
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

adalora = dict(use_adalora="true", init_r=4, target_r=1, tinit=1, tfinal=3, deltaT=2, max_steps=12)
methods = {
    "dora": dict(use_dora="true"), "dora_dropout": dict(use_dora="true", lora_dropout=0.2), "adalora": adalora,
    "pissa": dict(pissa_init="true"), "olora": dict(init_lora_weights="olora"), "loraplus": dict(loraplus_lr_ratio=8),
    # beside tensors that are trained whole, and on the head
    "dora_whole": dict(use_dora="true", additional_target="norm,lm_head", lora_target="q_proj,up_proj", loraplus_lr_ratio=4),
    "adalora_whole": adalora | dict(additional_target="norm,o_proj", lora_target="q_proj,lm_head"),
    "pissa_whole": dict(pissa_init="true", additional_target="norm,lm_head,embed_tokens"),
    "outside": dict(lora_target="q_proj,embed_tokens,lm_head", loraplus_lr_ratio=4, neftune_noise_alpha=5),
    "loftq": dict(init_lora_weights="loftq", loftq_iter=2), "loftq_8bit": dict(init_lora_weights="loftq", loftq_bits=8),
    "loftq_codes": dict(init_lora_weights="loftq", quantization_bit=4), "loftq_dora": dict(init_lora_weights="loftq", use_dora="true"),
    "neftune": dict(neftune_noise_alpha=5), "orthogonal": dict(init_lora_weights="orthogonal"),
    # PEFT's methods beside LoRA
    "oft": dict(finetuning_type="oft", oft_block_size=4), "oft_exact": dict(finetuning_type="oft", adapter_args='{"use_cayley_neumann": false, "coft": true, "eps": 0.01}'),
    "oft_codes": dict(finetuning_type="oft", quantization_bit=4, oft_rank=2, oft_block_size=0, additional_target="norm"), "ia3": dict(finetuning_type="ia3"),
    "vera": dict(finetuning_type="vera", adapter_args='{"r": 6, "vera_dropout": 0.1}'), "loha": dict(finetuning_type="loha", adapter_args='{"r": 2}', rank_pattern='{"q_proj": 3}'),
    "lokr": dict(finetuning_type="lokr", adapter_args='{"r": 1, "decompose_both": true}', bf16="true"),
    "miss": dict(finetuning_type="miss", adapter_args='{"r": 4, "miss_dropout": 0.1}'), "miss_mini": dict(finetuning_type="miss", adapter_args='{"r": 4, "mini_r": 4, "init_weights": "mini"}'),
    "miss_bat": dict(finetuning_type="miss", adapter_args='{"r": 4, "init_weights": "bat"}', quantization_bit=4),
    "c3a": dict(finetuning_type="c3a", adapter_args='{"block_size": 4}'), "hira": dict(finetuning_type="hira", adapter_args='{"r": 2, "hira_dropout": 0.1}', bf16="true"),
    "shira": dict(finetuning_type="shira", adapter_args='{"r": 1}', additional_target="norm"),
    "gralora": dict(finetuning_type="gralora", adapter_args='{"r": 4, "alpha": 8, "hybrid_r": 2, "gralora_dropout": 0.1}', lora_target="q_proj,v_proj,up_proj,down_proj"),
    "randlora": dict(finetuning_type="randlora", adapter_args='{"r": 4, "randlora_alpha": 8, "randlora_dropout": 0.1}', lora_target="q_proj,k_proj,down_proj"),
    "randlora_sparse": dict(finetuning_type="randlora", adapter_args='{"r": 6, "randlora_alpha": 8, "sparse": true}', lora_target="v_proj,gate_proj", bf16="true"),
    "fourierft": dict(finetuning_type="fourierft", adapter_args='{"n_frequency": 30, "n_frequency_pattern": {"v_proj": 9}, "scaling": 5}', quantization_bit=4),
    "boft": dict(finetuning_type="boft", adapter_args='{"boft_block_size": 2, "boft_n_butterfly_factor": 2}'),
    "lora_bias": dict(lora_bias="true"), "lorafa": dict(use_lorafa="true", weight_decay=0.01),
    "tokens": dict(trainable_token_indices="9,33,7"), "tokens_pissa": dict(pissa_init="true", trainable_token_indices='{"embed_tokens": [5, 40]}'),
    "eva": dict(init_lora_weights="eva", eva_tau=0.9, eva_rho=1.5), "corda": dict(init_lora_weights="corda"),
    "corda_kpm": dict(init_lora_weights="corda", corda_method="kpm", start_samples=3),
    "lora_ga": dict(init_lora_weights="lora_ga", bias="all"), "lora_ga_norm": dict(init_lora_weights="lora_ga", lora_ga_direction="random", additional_target="norm"),
    "alora": dict(alora_invocation_tokens="9", lora_dropout=0.1),
    "int8": dict(frozen_matmul="int8"), "pissa_int8": dict(frozen_matmul="int8", bf16="true", pissa_init="true"),
}


class Methods(tiny.Case):
    def train(self, name, **settings):
        return self.good(tiny.run(*tiny.train_arguments(self.model, self.data, self.work / name, **settings)))

    def tensors(self, name, file="adapter_model.safetensors"):
        return {key: value for key, value in tiny.read_safetensors(self.work / name / file).items()}

    def test_resumed_run_is_the_same_run(self):
        for name, settings in methods.items():
            with self.subTest(name):
                self.resumed(self.train, name, save_steps=5, **settings)
                self.assertEqual(self.tensors(f"{name}_whole"), self.tensors(f"{name}_part"))

    def test_recomputing_changes_no_bit(self):
        for name in ("dora", "dora_dropout", "adalora", "pissa", "dora_whole", "pissa_int8", "oft", "ia3", "vera", "lokr", "miss", "miss_mini", "c3a", "hira", "shira", "gralora", "randlora", "fourierft", "boft",
                     "lora_bias", "tokens", "alora"):
            with self.subTest(name):
                for level in ("false", "mlp", "true"):
                    self.train(f"{name}_{level}", gradient_checkpointing=level, **methods[name])
                    self.assertEqual(self.tensors(f"{name}_false"), self.tensors(f"{name}_{level}"))

    def test_merged_equals_base_and_adapter(self):
        for name in ("dora", "adalora", "pissa", "olora", "loftq", "loftq_8bit", "loftq_codes", "loftq_dora", "dora_whole", "adalora_whole", "pissa_whole", "outside",
                     "oft", "oft_exact", "ia3", "vera", "loha", "lokr", "miss", "miss_mini", "miss_bat", "c3a", "hira", "shira", "gralora", "randlora", "boft", "tokens", "tokens_pissa", "eva", "corda", "lora_ga", "lora_ga_norm"):
            with self.subTest(name):
                self.train(name, learning_rate="3e-2", **methods[name])
                said = self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / name, "--export_dir",
                                          self.work / f"{name}_merged"))  # which holds every tensor against its sum
                self.assertIn("each the exact sum", said)
                merged = {key: values for key, (_, values) in self.tensors(f"{name}_merged", "model.safetensors").items()}
                base = {key: values for key, (_, values) in tiny.read_safetensors(self.model / "model.safetensors").items()}
                self.assertNotEqual(merged, base)

    def test_pissa_convert(self):
        for name in ("pissa", "pissa_whole"):
            with self.subTest(name):
                self.pissa_convert(name)
                shutil.rmtree(self.work / "out")
                shutil.rmtree(self.work / "merged")

    def test_pissa_says_what_peft_cannot_read(self):
        for settings, converted in ((dict(), True), (dict(pissa_iter=-1), False), (dict(pissa_convert="false"), False)):
            with self.subTest(settings):
                said = self.train("out", pissa_init="true", max_steps=1, overwrite_output_dir="true", **settings)
                self.assertEqual("PEFT finds another" in said, "pissa_iter" not in settings, said)
                self.assertEqual("out/pissa_converted" in said, converted, said)
                self.assertEqual((self.work / "out/pissa_converted/adapter_model.safetensors").exists(), converted)
                where = ["--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "out"]
                read = self.good(tiny.run("export", *where, "--export_dir", self.work / "merged"))
                self.assertEqual("PEFT finds another" in read, "pissa_iter" not in settings, read)
                if converted:
                    read = self.good(tiny.run("export", *where[:3], self.work / "out/pissa_converted", "--export_dir", self.work / "converted"))
                    self.assertNotIn("PEFT finds another", read)
                shutil.rmtree(self.work / "merged")

    def pissa_convert(self, name):
        self.train("out", pissa_convert="true", **methods[name])
        config = lambda folder: json.loads((self.work / "out" / folder / "adapter_config.json").read_text())
        self.assertEqual(config(".")["init_lora_weights"], "pissa_niter_16")
        for folder, rank in (("pissa_init", 4), ("pissa_backup", 4), ("pissa_converted", 8)):
            self.assertEqual((config(folder)["init_lora_weights"], config(folder)["r"]), (True, rank))
        self.assertEqual(self.tensors("out/pissa_backup"), self.tensors("out"))
        self.assertNotEqual(self.tensors("out/pissa_init"), self.tensors("out"))
        for folder in (".", "pissa_converted"):
            self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "out" / folder, "--export_dir",
                               self.work / "merged" / folder.strip(".")))
        one, two = (self.tensors(f"merged/{folder}", "model.safetensors") for folder in ("", "pissa_converted"))
        for key, (_, values) in one.items():
            for a, b in zip(values, two[key][1]):
                self.assertAlmostEqual(a, b, delta=2e-6)

    def losses(self, name):
        log = json.loads((self.work / name / "trainer_state.json").read_text())["log_history"]
        return [entry["loss"] for entry in log if "loss" in entry]

    def logits(self, *where):
        tiny.write_safetensors(self.work / "batch.safetensors", {"input_ids": ("I64", [2, 6], struct.pack("<12q", *[5, 9, 33, 7, 12, 40] * 2))})
        self.good(tiny.run("trace", *where, "--batch", self.work / "batch.safetensors", "--output", self.work / "logits.safetensors"))
        return tiny.read_safetensors(self.work / "logits.safetensors")["logits"][1]

    def test_loftq_holds_its_base_in_codes_or_in_full(self):
        for bits in (4, 8):
            with self.subTest(bits):
                settings = dict(init_lora_weights="loftq", loftq_bits=bits, lora_alpha=4)
                self.train("full", overwrite_output_dir="true", **settings)
                said = self.train("codes", overwrite_output_dir="true", quantization_bit=bits, **settings)
                self.assertEqual("scales of its weights in f32" in said, bits == 4)
                for one, other in zip(self.losses("full"), self.losses("codes")):
                    self.assertAlmostEqual(one, other, delta=1e-5)
                config = json.loads((self.work / "codes/adapter_config.json").read_text())
                self.assertEqual((config["init_lora_weights"], config["loftq_config"]), ("loftq", dict(loftq_bits=bits, loftq_iter=1)))
                where = ["--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "codes"]
                for one, other in zip(self.logits(*where), self.logits(*where, "--quantization_bit", bits)):
                    self.assertAlmostEqual(one, other, delta=1e-4)
                on = self.train("on", adapter_name_or_path=self.work / "codes", quantization_bit=bits, overwrite_output_dir="true", warmup_steps=0)
                self.assertIn("loss", on)
                self.assertLess(self.losses("on")[0], self.losses("codes")[0])

    def test_loftq_starts_nearer_than_codes_alone(self):
        base = self.logits("--model_name_or_path", self.model)
        self.train("start", init_lora_weights="loftq", learning_rate=0, lora_rank=8, lora_alpha=8)
        apart = lambda other: sum((a - b) ** 2 for a, b in zip(base, other))
        codes = apart(self.logits("--model_name_or_path", self.model, "--quantization_bit", 4, "--double_quantization", "false"))
        loftq = apart(self.logits("--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "start"))
        self.assertGreater(loftq, 0)
        self.assertLess(loftq, 0.7 * codes)

    def test_loftq_start_as_folders(self):
        """As LLaMA-Factory's script writes it: the changed base, and beside it an adapter that is trained on over it."""
        start = dict(init_lora_weights="loftq", loftq_iter=3, lora_alpha=4)
        words = [word for key, value in (start | dict(lora_rank=4)).items() for word in (f"--{key}", value)]
        for name, more in (("full", ()), ("codes", ("--quantization_bit", 4))):
            with self.subTest(name):
                said = self.good(tiny.run("export", "--model_name_or_path", self.model, "--export_dir", self.work / name, *words, *more))
                self.assertIn("loftq_init", said)
                config = json.loads((self.work / name / "loftq_init/adapter_config.json").read_text())
                self.assertEqual((config["init_lora_weights"], config["loftq_config"], config["r"]), (True, {}, 4))
                self.assertEqual(config["base_model_name_or_path"], str(self.work / name))
                done = tiny.run(*tiny.train_arguments(self.work / name, self.data, self.work / f"{name}_out", adapter_name_or_path=self.work / name / "loftq_init"))
                self.assertNotIn("warning", self.good(done))
                self.train(f"{name}_whole", **start)
                for one, other in zip(self.losses(f"{name}_out"), self.losses(f"{name}_whole")):
                    self.assertAlmostEqual(one, other, delta=1e-5)
        self.assertIn("nf4", (self.work / "codes/config.json").read_text())
        self.assertNotIn("quantization_config", (self.work / "full/config.json").read_text())

    def test_loftq_is_not_on_beside_others(self):
        self.train("loftq", **methods["loftq"])
        self.train("plain")
        one, other = self.work / "loftq", self.work / "plain"
        for both in (f"{one},{other}", f"{other},{one}"):
            for command in (["export", "--export_dir", self.work / "merged"], ["trace", "--batch", self.work / "batch.safetensors", "--output", self.work / "l"]):
                self.logits("--model_name_or_path", self.model)  # writes the batch
                done = tiny.run(*command, "--model_name_or_path", self.model, "--adapter_name_or_path", both)
                self.assertEqual(done[0], 2, done[1])
                self.assertIn("LoftQ", done[1])
        named = f"a={one},b={other}"
        done = tiny.run("trace", "--model_name_or_path", self.model, "--adapter_name_or_path", named, "--adapter_rows", "0:a,1:b", "--batch",
                        self.work / "batch.safetensors", "--output", self.work / "l")
        self.assertEqual(done[0], 2, done[1])
        tiny.write_tokenizer(self.model)
        for both in (named, f"b={other},a={one}"):
            done = tiny.run("chat", "--model_name_or_path", self.model, "--adapter_name_or_path", both)
            self.assertEqual(done[0], 2, done[1])
            self.assertIn("LoftQ", done[1])
        self.train("on", adapter_name_or_path=f"{one},{other}")  # the first one merged into its base, the second trained on over that

    def test_loftq_needs_the_base_that_is_not_quantised(self):
        self.good(tiny.run("export", "--model_name_or_path", self.model, "--export_dir", self.work / "codes", "--quantization_bit", 4))
        done = tiny.run(*tiny.train_arguments(self.work / "codes", self.data, self.work / "out", init_lora_weights="loftq"))
        self.assertNotEqual(done[0], 0, done[1])
        self.assertIn("NF4", done[1])
        self.train("loftq", **methods["loftq"])
        for settings in (dict(quantization_bit=8), dict(quantization_bit=4, quantization_type="fp4")):
            words = [word for key, value in settings.items() for word in (f"--{key}", value)]
            self.logits("--model_name_or_path", self.model)
            done = tiny.run("trace", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "loftq", "--batch",
                            self.work / "batch.safetensors", "--output", self.work / "l", *words)
            self.assertEqual(done[0], 2, done[1])
            self.assertIn("loftq_bits", done[1])

    def test_best_checkpoint_of_adalora_without_optimizer_state(self):
        self.train("out", save_only_model="true", load_best_model_at_end="true", val_size=0.3, eval_strategy="steps", eval_steps=3, save_steps=3, **adalora)
        best = json.loads((self.work / "out/trainer_state.json").read_text())["best_model_checkpoint"]
        self.assertEqual(self.tensors("out"), self.tensors(pathlib.Path(best)))

    def test_files_and_plot_of_adalora(self):
        self.train("out", plot_loss="true", **adalora)
        out = self.work / "out"
        ranks = json.loads((out / "ranks.json").read_text())
        self.assertEqual(ranks["steps"], [0, 2, 4, 6, 8, 9])
        modules = ranks["ranks"]
        self.assertEqual(len(modules), 14)
        self.assertEqual(sum(module[0] for module in modules.values()), 56)
        self.assertLessEqual(sum(module[-1] for module in modules.values()), 14)  # ties cut more
        for name in ("training_ranks.png", "training_ranks.svg", "training_loss.png"):
            self.assertGreater((out / name).stat().st_size, 1000)
        config = json.loads((out / "adapter_config.json").read_text())
        self.assertEqual((config["peft_type"], config["total_step"], config["init_r"]), ("ADALORA", 12, 4))
        for module, over_time in modules.items():
            self.assertEqual(sum(config["rank_pattern"][module + ".lora_E"]), over_time[-1])
            shape = self.tensors("out")[f"base_model.model.{module}.lora_A"][0]
            self.assertEqual(shape[0], over_time[-1])
        again = tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "again", adapter_name_or_path=out))
        self.assertEqual(again[0], 2, again[1])
        self.assertIn("settled", again[1])

    def test_dora_is_not_on_beside_others(self):
        self.train("dora", **methods["dora"])
        self.train("plain")
        both = f"{self.work / 'dora'},{self.work / 'plain'}"
        done = tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", both, "--export_dir", self.work / "merged")
        self.assertEqual(done[0], 2, done[1])
        self.assertIn("DoRA", done[1])
        self.train("on", adapter_name_or_path=both)  # the first one merged, the second trained on

    def test_int8_trains_like_the_exact_products(self):
        losses = {}
        for products in ("exact", "int8"):
            self.train(products, frozen_matmul=products)
            log = json.loads((self.work / products / "trainer_state.json").read_text())["log_history"]
            losses[products] = [entry["loss"] for entry in log if "loss" in entry]
        self.assertNotEqual(losses["exact"], losses["int8"])
        for exact, rounded in zip(losses["exact"], losses["int8"]):
            self.assertAlmostEqual(exact, rounded, delta=0.02)

    def test_int8_needs_a_plain_adapter_to_go_on_from(self):
        self.train("whole", additional_target="norm")
        done = tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "on", adapter_name_or_path=self.work / "whole", frozen_matmul="int8"))
        self.assertEqual(done[0], 2, done[1])
        self.assertIn("frozen_matmul", done[1])

    def test_int8_products_are_not_under_a_start_out_of_the_base(self):
        self.logits("--model_name_or_path", self.model)  # writes the batch
        for name in ("pissa", "loftq"):
            self.train(name, **methods[name])
            done = tiny.run("trace", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / name, "--frozen_matmul", "int8", "--batch",
                            self.work / "batch.safetensors", "--output", self.work / "l")
            self.assertEqual(done[0], 2, done[1])
            self.assertIn("frozen_matmul: int8 has rounded", done[1])

    def test_a_start_out_of_the_base_is_not_over_blocks_in_integers(self):
        wide = tiny.write_model(self.work / "wide", channels=64, inner=96)
        self.good(tiny.run(*tiny.train_arguments(wide, self.data, self.work / "pissa", **methods["pissa"])))
        self.good(tiny.run("export", "--model_name_or_path", wide, "--export_dir", self.work / "packed", "--export_format", "gguf", "--gguf_type", "q8_0"))
        self.logits("--model_name_or_path", wide)
        done = tiny.run("trace", "--model_name_or_path", self.work / "packed/model-q8_0.gguf", "--adapter_name_or_path", self.work / "pissa", "--frozen_matmul", "int8",
                        "--batch", self.work / "batch.safetensors", "--output", self.work / "l")
        self.assertEqual(done[0], 2, done[1])
        self.assertIn("multiplies its Q8_0 blocks as they lie in the file", done[1])
        self.assertNotIn("rounded", done[1])

    def test_an_adapter_of_another_kind_is_named(self):
        self.train("ia3", finetuning_type="ia3", max_steps=1)
        done = tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "on", adapter_name_or_path=self.work / "ia3"))
        self.assertEqual(done[0], 2, done[1])
        self.assertIn("finetuning_type: ia3", done[1])
        self.train("on", adapter_name_or_path=self.work / "ia3", finetuning_type="ia3", max_steps=1)
        self.assertIn("ia3", self.good(tiny.run("adapter", "info", self.work / "ia3")))
        self.assertIn("takes LoRA", tiny.run("adapter", "check", self.work / "ia3")[1])
        self.train("lora", max_steps=1)
        done = tiny.run("adapter", "merge", self.work / "ia3", self.work / "lora", "--output_dir", self.work / "both")
        self.assertEqual(done[0], 2, done[1])
        self.assertIn("IA3", done[1])

    def test_settings_that_do_not_go_together(self):
        for words, settings in [
            (["use_dora", "use_adalora"], adalora | dict(use_dora="true")), (["pissa_convert"], dict(pissa_convert="true")),
            (["pissa_convert", "later"], dict(pissa_init="true", pissa_convert="true", adapter_name_or_path=self.model)),
            (["pissa_init", "loftq"], dict(pissa_init="true", init_lora_weights="loftq")), (["use_adalora"], adalora | dict(init_lora_weights="loftq")),
            (["loftq_bits", "6"], dict(init_lora_weights="loftq", loftq_bits=6)), (["loftq_bits", "2"], dict(init_lora_weights="loftq", loftq_bits=2)),
            (["loftq_iter"], dict(init_lora_weights="loftq", loftq_iter=0)), (["LoftQ", "lm_head"], dict(init_lora_weights="loftq", lora_target="lm_head")),
            (["loftq_bits", "quantization_bit"], dict(init_lora_weights="loftq", quantization_bit=8)),
            (["LoftQ", "fp4"], dict(init_lora_weights="loftq", quantization_bit=4, quantization_type="fp4")),
            (["init_lora_weights", "full"], dict(init_lora_weights="loftq", finetuning_type="full")),
            (["pissa_init", "olora"], dict(pissa_init="true", init_lora_weights="olora")), (["target_r"], adalora | dict(target_r=9)),
            (["tinit", "tfinal"], adalora | dict(tfinal=11)), (["layers_pattern"], dict(layers_pattern="layers")),
            (["use_dora", "lm_head"], dict(use_dora="true", lora_target="q_proj,lm_head")),
            (["AdaLoRA", "embed_tokens"], adalora | dict(lora_target="q_proj,embed_tokens")),
            (["PiSSA", "lm_head"], dict(pissa_init="true", lora_target="q_proj,lm_head")),
            (["use_dora", "full"], dict(use_dora="true", finetuning_type="full")),
            (["frozen_matmul", "use_dora"], dict(use_dora="true", frozen_matmul="int8")),
            (["frozen_matmul", "finetuning_type"], dict(finetuning_type="full", frozen_matmul="int8")),
            (["frozen_matmul", "int4", "exact"], dict(frozen_matmul="int4")),
            (["odd"], dict(init_lora_weights="orthogonal", lora_rank=3)), (["rank"], dict(pissa_init="true", lora_rank=50)),
            (["rank_pattern", "integer"], dict(rank_pattern='{"q_proj": 1.5}')), (["layers_to_transform", "x"], dict(layers_to_transform="1,x")),
            (["layers_to_transform"], dict(layers_to_transform="0", lora_target=".*q_proj")), (["adapter_args", "lora"], dict(adapter_args='{"r": 2}')),
            (["oft_block_size", "0"], dict(finetuning_type="oft", oft_rank=4)), (["use_dora", "oft"], dict(finetuning_type="oft", use_dora="true")),
            (["alfa", "alpha"], dict(finetuning_type="loha", adapter_args='{"alfa": 2}')), (["layers_to_transform", "IA3"], dict(finetuning_type="ia3", layers_to_transform="0")),
            (["rank_dropout"], dict(finetuning_type="lokr", adapter_args='{"rank_dropout": 0.5}')), (["OFT", "lm_head"], dict(finetuning_type="oft", oft_target="lm_head")),
            (["gralora_k 5"], dict(finetuning_type="gralora", adapter_args='{"r": 5, "gralora_k": 5}')), (["exclude_modules", "VERA"], dict(finetuning_type="vera", exclude_modules="q_proj")),
            (["boft_dropout 0.5"], dict(finetuning_type="boft", adapter_args='{"boft_dropout": 0.5}')), (["boft_block_num 7"], dict(finetuning_type="boft", adapter_args='{"boft_block_size": 0, "boft_block_num": 7}')),
            (["n_frequency is 99999"], dict(finetuning_type="fourierft", adapter_args='{"n_frequency": 99999}')),
            (["frozen_matmul", "finetuning_type"], dict(finetuning_type="oft", frozen_matmul="int8")), (["block_size", "C3A"], dict(finetuning_type="c3a", adapter_args='{"block_size": 7}')),
            (["exclude_modules", "SHIRA"], dict(finetuning_type="shira", adapter_args='{"r": 1}', exclude_modules="q_proj")), (["mini_r"], dict(finetuning_type="miss", adapter_args='{"r": 4, "mini_r": 5, "init_weights": "mini"}')),
            (["lily"], dict(finetuning_type="lily")), (["no linear layer"], dict(exclude_modules=".*")),
        ]:
            with self.subTest(settings):
                done = tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "refused", **settings))
                self.assertEqual(done[0], 2, done[1])
                for word in words:
                    self.assertIn(word, done[1])

    def test_patterns_as_settings(self):
        self.train("out", max_steps=1, lora_target="q_proj,v_proj", rank_pattern='{"layers.1.*v_proj": 2, "q_proj": 8}', alpha_pattern='{"q_proj": 4}',
                   layers_to_transform="1", layers_pattern="layers", exclude_modules="k_proj")
        ranks = {key: shape[0] for key, (shape, _) in self.tensors("out").items() if "lora_A" in key}
        self.assertEqual(ranks, {f"base_model.model.model.layers.1.self_attn.{name}.lora_A.weight": r for name, r in (("q_proj", 8), ("v_proj", 2))})
        config = json.loads((self.work / "out/adapter_config.json").read_text())
        self.assertEqual((config["rank_pattern"], config["alpha_pattern"]), ({"layers.1.*v_proj": 2, "q_proj": 8}, {"q_proj": 4}))
        self.assertEqual((config["layers_to_transform"], config["layers_pattern"], config["exclude_modules"]), ([1], ["layers"], ["k_proj"]))


if __name__ == "__main__":
    unittest.main()
