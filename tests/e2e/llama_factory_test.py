#!/usr/bin/env python3
"""One small YAML file for each kind of file that LLaMA-Factory ships as an example, with its keys and habits: `loraine COMMAND file.yaml` takes it. Also what is asked of a
run by keys of its own: streaming, new tokens, several evaluation sets, batches that fit, evaluations in bf16. Run by ctest (label e2e)."""
import json
import pathlib
import re
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

# What nearly every training file says.
HABITS = """
### model
model_name_or_path: {model}
trust_remote_code: true
### method
stage: {stage}
do_train: true
{method}
### dataset
dataset_dir: {data}
dataset: {dataset}
template: default
cutoff_len: 64
max_samples: 1000
preprocessing_num_workers: 2
dataloader_num_workers: 4
### output
output_dir: {out}
logging_steps: 1
save_steps: 500
plot_loss: true
overwrite_output_dir: true
save_only_model: false
report_to: none  # choices: [none, wandb, tensorboard, swanlab, mlflow]
### train
per_device_train_batch_size: 1
gradient_accumulation_steps: 2
learning_rate: 1.0e-3
num_train_epochs: 1.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
ddp_timeout: 180000000
resume_from_checkpoint: null
{more}
"""
LORA = "finetuning_type: lora\nlora_rank: 4\nlora_target: all"


class LlamaFactory(tiny.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny.write_model(self.work / "talker", vocab=320)
        tiny.write_byte_tokenizer(self.model)
        self.data = self.work / "sets"
        self.data.mkdir()
        talk = [{"instruction": f"say {word}", "input": "", "output": word * 2} for word in "one two three four five six seven eight nine ten".split()]
        (self.data / "talk.json").write_text(json.dumps(talk))
        (self.data / "more.json").write_text(json.dumps(talk[3:7]))
        (self.data / "texts.jsonl").write_text("".join(json.dumps({"text": row["instruction"] * 4}) + "\n" for row in talk))
        (self.data / "dataset_info.json").write_text(json.dumps({
            "talk": {"file_name": "talk.json"}, "more": {"file_name": "more.json"}, "texts": {"file_name": "texts.jsonl", "columns": {"prompt": "text"}}}))

    def yaml(self, name="out", stage="sft", method=LORA, more="", dataset="talk"):
        path = self.work / f"{name}.yaml"
        path.write_text(HABITS.format(model=self.model, data=self.data, out=self.work / name, stage=stage, method=method, more=more, dataset=dataset))
        return path

    def train(self, name="out", **parts):
        code, text = tiny.run("train", self.yaml(name, **parts))
        self.assertEqual(code, 0, text)
        log = [json.loads(line) for line in (self.work / name / "trainer_log.jsonl").read_text().splitlines()]
        self.assertTrue(any("loss" in line for line in log), name)
        return text

    def state(self, name="out"):
        return json.loads((self.work / name / "trainer_state.json").read_text())["log_history"]

    def test_training_files(self):
        full = "finetuning_type: full"
        for name, parts in {
            "lora_sft": {}, "pretrain": dict(stage="pt", dataset="texts", more="packing: false"), "full_sft": dict(method=full, more="bf16: true\npure_bf16: true"),
            "deepspeed": dict(method=f"{full}\ndeepspeed: {self.work}/ds.json"), "freeze": dict(method="finetuning_type: freeze\nfreeze_trainable_layers: 1\nfreeze_trainable_modules: all"),
            "llama_pro": dict(method="finetuning_type: freeze\nfreeze_trainable_layers: 1\nfreeze_trainable_modules: all\nuse_llama_pro: true"),
            "qlora": dict(method=f"{LORA}\nquantization_bit: 4\nquantization_method: bnb\ndouble_quantization: false"), "loraplus": dict(method=f"{LORA}\nloraplus_lr_ratio: 16.0"),
            "pissa": dict(method=f"{LORA}\npissa_init: true\npissa_iter: 16\npissa_convert: true"), "dft": dict(method=f"{full}\nuse_dft_loss: true"),
            "eaft": dict(method=f"{full}\nuse_eaft_loss: true\neaft_alpha: 1.0"), "asft": dict(method=f"{full}\nuse_asft_loss: true\nasft_alpha: 0.05"), "galore": dict(
                method=f"{full}\nuse_galore: true\ngalore_layerwise: true\ngalore_target: all\ngalore_rank: 4\ngalore_scale: 2.0", more="optim: adamw_torch\ngradient_accumulation_steps: 1\npure_bf16: true"),
            "apollo": dict(method=f"{full}\nuse_apollo: true\napollo_rank: 4\napollo_scale: 32.0", more="optim: adamw_torch"),
            "badam": dict(method=f"{full}\nuse_badam: true\nbadam_mode: layer\nbadam_switch_mode: ascending\nbadam_switch_interval: 2"), "adam_mini": dict(method=f"{full}\nuse_adam_mini: true"),
            "muon": dict(method=f"{full}\nuse_muon: true"), "fp16": dict(more="fp16: true\nfp16_full_eval: true"), "packing": dict(more="neat_packing: true"), "eval": dict(
                more="val_size: 0.2\nper_device_eval_batch_size: 1\neval_strategy: steps\neval_steps: 2\ncompute_accuracy: true"),
            "prepared": dict(more=f"tokenized_path: {self.work}/kept"), "prepared_again": dict(more=f"tokenized_path: {self.work}/kept"),
            "tensorboard": dict(more="report_to: tensorboard"), "by_length": dict(more="group_by_length: true\ndataloader_drop_last: true\nlogging_strategy: epoch\nlogging_first_step: true"),
        }.items():
            with self.subTest(name):
                (self.work / "ds.json").write_text('{"train_batch_size": "auto"}')
                said_again = {line.split(":")[0] for line in parts.get("more", "").splitlines()}
                text = "".join(line for line in HABITS.splitlines(True) if line.split(":")[0] not in said_again)
                path = self.work / f"{name}.yaml"
                path.write_text(text.format(model=self.model, data=self.data, out=self.work / name, **{"stage": "sft", "method": LORA, "more": "", "dataset": "talk", **parts}))
                code, said = tiny.run("train", path)
                self.assertEqual(code, 0, said)
                self.assertTrue(list((self.work / name).glob("*model.safetensors")), said)
        self.assertTrue((self.work / "kept/dataset_dict.json").exists())
        self.assertEqual(self.state("prepared"), [entry | {k: self.state("prepared")[i][k] for k in entry if re.search("runtime|per_second", k)}
                                                  for i, entry in enumerate(self.state("prepared_again"))])

    def test_merging_and_answering_files(self):
        self.train()
        merge = self.work / "merge.yaml"
        merge.write_text(f"model_name_or_path: {self.model}\nadapter_name_or_path: {self.work}/out\ntemplate: default\ntrust_remote_code: true\n"
                         f"export_dir: {self.work}/merged\nexport_size: 5\nexport_device: cpu\nexport_legacy_format: false\n")
        code, text = tiny.run("export", merge)
        self.assertEqual(code, 0, text)
        chat = self.work / "chat.yaml"
        chat.write_text(f"model_name_or_path: {self.work}/merged\ntemplate: default\ninfer_backend: huggingface\ntrust_remote_code: true\n")
        done = subprocess.run([tiny.program, "chat", chat, "max_new_tokens=4"], input="say one\nexit\n", capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        predict = self.work / "predict.yaml"
        predict.write_text(f"model_name_or_path: {self.model}\nadapter_name_or_path: {self.work}/out\nstage: sft\ndo_predict: true\nfinetuning_type: lora\ndataset_dir: {self.data}\n"
                           f"eval_dataset: more\ntemplate: default\ncutoff_len: 64\nmax_samples: 50\noutput_dir: {self.work}/predicted\noverwrite_output_dir: true\n"
                           f"per_device_eval_batch_size: 1\npredict_with_generate: true\nmax_new_tokens: 4\nddp_timeout: 180000000\n")
        code, text = tiny.run("train", predict)
        self.assertEqual(code, 0, text)
        self.assertEqual(len((self.work / "predicted/generated_predictions.jsonl").read_text().splitlines()), 4)

    def test_predictions_at_the_end_of_a_run(self):
        more = "do_predict: true\npredict_with_generate: true\neval_dataset: more\nmax_new_tokens: 4\ndo_sample: false\n"
        self.train("both", more=more)
        found = json.loads((self.work / "both/all_results.json").read_text())
        self.assertIn("train_loss", found)
        self.assertEqual({key for key in json.loads((self.work / "both/predict_results.json").read_text()) if not re.search("runtime|per_second|steps|samples", key)},
                         {"predict_bleu-4", "predict_rouge-1", "predict_rouge-2", "predict_rouge-l"})
        code, text = tiny.run("eval", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "both", "--eval_dataset", "more", "--dataset_dir", self.data, "--template", "default",
                              "--predict_with_generate", "true", "--max_new_tokens", 4, "--do_sample", "false", "--cutoff_len", 64, "--output_dir", self.work / "after")
        self.assertEqual(code, 0, text)
        self.assertEqual((self.work / "both/generated_predictions.jsonl").read_bytes(), (self.work / "after/generated_predictions.jsonl").read_bytes())
        for more, word in (("do_predict: true\neval_dataset: more", "predict_with_generate"), ("predict_with_generate: true", "do_predict"), ("do_predict: true\npredict_with_generate: true", "eval_dataset")):
            code, text = tiny.run("train", self.yaml("refused", more=more))
            self.assertEqual(code, 2, text)
            self.assertIn(word, text)

    def test_what_is_refused_says_what_to_do(self):
        for more, word in {"shift_attn: true": "leave it out", "mixture_of_depths: convert": "leave it out", "use_kt: true": "leave it out", "use_mca: true": "one process",
                           "fp8: true": "frozen_matmul", "freeze_language_model: true": "nothing to train", "ignore_pad_token_for_loss: false": "padding", "optim: adamw_torch_4bit": "optim", "stage: ppo": "stage: dpo", "fp16: true\nbf16: true": "fp16 and bf16",
                           "use_dft_loss: true\nuse_eaft_loss: true": "two losses", f"deepspeed: {self.work}/nowhere.json": "nowhere.json", "train_from_scratch: true": "full"}.items():
            with self.subTest(more):
                text = self.yaml("refused", more=more).read_text()
                if more.startswith("stage"):
                    text = text.replace("stage: sft\n", "")
                (self.work / "refused.yaml").write_text(text)
                code, said = tiny.run("train", self.work / "refused.yaml")
                self.assertEqual(code, 2, said)
                self.assertIn(word, said)

    def test_packed_samples_train_as_unpacked_ones(self):
        """With neat_packing four samples in one block are what four samples of a batch are; with packing they see each other, which a warning says."""
        losses = {}
        for name, changes in {"unpacked": ["per_device_train_batch_size=4"], "neat": ["per_device_train_batch_size=1", "neat_packing=true"], "plain": ["per_device_train_batch_size=1", "packing=true"]}.items():
            code, text = tiny.run("train", self.yaml(name, dataset="more"), "cutoff_len=512", "preprocessing_num_workers=1", "disable_shuffling=true", "gradient_accumulation_steps=1", "num_train_epochs=3", *changes)
            self.assertEqual(code, 0, text)
            self.assertEqual("neat_packing" in text, name == "plain", text)
            losses[name] = [entry["loss"] for entry in self.state(name) if "loss" in entry]
            self.assertEqual(len(losses[name]), 3)
        for packed, alone, seeing in zip(losses["neat"], losses["unpacked"], losses["plain"]):
            self.assertAlmostEqual(packed, alone, delta=1e-6 * alone)
            self.assertGreater(abs(seeing - alone), 1e-4)

    def test_streamed_runs_are_resumed(self):
        more = "streaming: true\nbuffer_size: 4\nmax_steps: 12\nsave_steps: 7\n"
        text = HABITS.replace("max_samples: 1000\n", "").replace("save_steps: 500\n", "").replace("overwrite_output_dir: true\n", "")
        for name in ("whole", "half"):
            (self.work / f"{name}.yaml").write_text(text.format(model=self.model, data=self.data, out=self.work / name, stage="sft", method=LORA, more=more, dataset="talk"))
        code, said = tiny.run("train", self.work / "whole.yaml")
        self.assertEqual(code, 0, said)
        code, said = tiny.run("train", self.work / "half.yaml", f"resume_from_checkpoint={self.work}/whole/checkpoint-7")
        self.assertEqual(code, 0, said)
        self.assertEqual((self.work / "whole/adapter_model.safetensors").read_bytes(), (self.work / "half/adapter_model.safetensors").read_bytes())
        epochs = [entry["epoch"] for entry in self.state("whole") if "loss" in entry]
        self.assertEqual(len(epochs), 12)
        self.assertGreater(epochs[-1], 2)  # ten rows, two an update: the third pass
        code, said = tiny.run("train", self.work / "whole.yaml", "max_steps=-1", "output_dir=" + str(self.work / "never"))
        self.assertEqual(code, 2, said)
        self.assertIn("max_steps", said)

    def test_each_evaluation_set_has_figures(self):
        self.train(more="eval_dataset: talk,more\neval_on_each_dataset: true\neval_strategy: epoch\ncompute_accuracy: true\nload_best_model_at_end: true\nsave_strategy: epoch\nmetric_for_best_model: eval_more_loss\n")
        keys = {key for entry in self.state() for key in entry}
        self.assertLessEqual({"eval_talk_loss", "eval_more_loss", "eval_talk_accuracy", "eval_more_accuracy"}, keys)
        self.assertNotIn("eval_loss", keys)
        found = json.loads((self.work / "out/eval_results.json").read_text())
        self.assertIn("eval_more_loss", found)
        self.train("one", more="eval_dataset: more\neval_strategy: epoch\n")
        mine, theirs = ([entry[key] for entry in self.state(name) if key in entry] for name, key in (("out", "eval_more_loss"), ("one", "eval_loss")))
        self.assertEqual(mine, theirs)

    def test_evaluations_in_bf16(self):
        losses = {}
        for name, more in (("exact", ""), ("rounded", "bf16_full_eval: true\n")):
            self.train(name, more=f"eval_dataset: more\neval_strategy: epoch\n{more}")
            losses[name] = [entry["eval_loss"] for entry in self.state(name) if "eval_loss" in entry]
        self.assertNotEqual(losses["exact"], losses["rounded"])
        for a, b in zip(losses["exact"], losses["rounded"]):
            self.assertAlmostEqual(a, b, delta=0.02 * a)
        self.assertEqual((self.work / "exact/adapter_model.safetensors").read_bytes(), (self.work / "rounded/adapter_model.safetensors").read_bytes())

    def test_new_tokens_have_rows(self):
        (self.work / "tokens.yaml").write_text('"<one>": "say one"\n"<two>": "say two"\n')
        new = "add_tokens: hello,world\nnew_special_tokens_config: {}\ninit_special_tokens: desc_init\n".format(self.work / "tokens.yaml")
        small = tiny.write_model(self.work / "small", vocab=259)
        tiny.write_byte_tokenizer(small)
        self.model = small
        said = self.train(more=new)
        self.assertIn("4 new tokens; the embedding has 320 rows in the place of 259", said)
        tensors = tiny.read_safetensors(self.work / "out/adapter_model.safetensors")
        embedding = next(shape for name, (shape, _) in tensors.items() if "embed_tokens" in name)
        self.assertEqual(embedding, [320, tiny.channels])
        tokenizer = json.loads((self.work / "out/tokenizer.json").read_text())
        self.assertEqual({t["content"]: t["special"] for t in tokenizer["added_tokens"] if t["id"] >= 259}, {"hello": False, "world": False, "<one>": True, "<two>": True})
        code, text = tiny.run("export", "--model_name_or_path", small, "--adapter_name_or_path", self.work / "out", "--export_dir", self.work / "merged", "--add_tokens", "hello,world",
                              "--new_special_tokens_config", self.work / "tokens.yaml")
        self.assertEqual(code, 0, text)
        self.assertEqual(json.loads((self.work / "merged/config.json").read_text())["vocab_size"], 320)
        # Without training, the rows are where they should begin: full training of nothing changes no row.
        code, text = tiny.run("train", self.yaml("still", method="finetuning_type: full", more=new), "learning_rate=0")
        self.assertEqual(code, 0, text)
        before, after = (tiny.read_safetensors(folder / "model.safetensors")["model.embed_tokens.weight"][1] for folder in (small, self.work / "still"))
        width = tiny.channels
        row = lambda table, i: list(table[i * width : (i + 1) * width])
        self.assertEqual(list(before), list(after)[: len(before)])
        letters = json.loads((small / "tokenizer.json").read_text())["model"]["vocab"]
        ids = [letters[letter] for letter in "sayĠone"]
        mean = [sum(row(before, i)[c] for i in ids) / len(ids) for c in range(width)]
        for want, found in zip(mean, row(after, tokenizer["added_tokens"][-2]["id"])):
            self.assertAlmostEqual(want, found, places=5)
        for entry in ("add_special_tokens: <x>\n" + new, "init_special_tokens: desc_init", "resize_vocab: true\nquantization_bit: 4", f"new_special_tokens_config: {self.work}/talker/config.json"):
            code, text = tiny.run("train", self.yaml("refused", more=entry))
            self.assertEqual(code, 2, f"{entry}\n{text}")

    def test_weights_from_scratch(self):
        texts = set()
        for name, seed in (("first", 1), ("again", 1), ("other", 2)):
            code, text = tiny.run("train", self.yaml(name, method="finetuning_type: full\ntrain_from_scratch: true"), f"seed={seed}", "learning_rate=0", "max_steps=1", "disable_shuffling=true")
            self.assertEqual(code, 0, text)
            texts.add((self.work / name / "model.safetensors").read_bytes())
        self.assertEqual(len(texts), 2)
        loss = [entry["loss"] for entry in self.state("first") if "loss" in entry][0]
        self.assertAlmostEqual(loss, 5.77, delta=0.1)  # ln 320: it knows nothing

    def test_longer_positions(self):
        said = self.train(more="rope_scaling: linear")
        self.assertIn("rope_scaling has no effect", said)
        path = self.yaml("long", method="finetuning_type: full", more="rope_scaling: llama3")
        path.write_text(path.read_text().replace("cutoff_len: 64", "cutoff_len: 3000"))
        code, text = tiny.run("train", path)
        self.assertEqual(code, 0, text)
        config = json.loads((self.work / "long/config.json").read_text())
        self.assertEqual(config["max_position_embeddings"], 3072)
        self.assertEqual(config["rope_scaling"]["factor"], 3)
        for kind in ("yarn", "dynamic"):
            code, text = tiny.run("train", path, f"rope_scaling={kind}", f"output_dir={self.work / kind}")
            self.assertEqual(code, 0, text)
            config = json.loads((self.work / kind / "config.json").read_text())
            self.assertEqual(config["rope_scaling"]["original_max_position_embeddings"], 1024)
        code, text = tiny.run("train", path, "rope_scaling=spiral")
        self.assertEqual(code, 2, text)

    def test_a_batch_that_fits(self):
        large = tiny.write_model(self.work / "large", **tiny.large)
        tiny.write_byte_tokenizer(large)
        self.model = large
        path = self.yaml("fits", more="auto_find_batch_size: true\n")
        path.write_text(path.read_text().replace("per_device_train_batch_size: 1", "per_device_train_batch_size: 64").replace("gradient_accumulation_steps: 2", "gradient_accumulation_steps: 1"))
        code, text = tiny.run("train", path, "dry_run=true", "gradient_checkpointing=false")
        self.assertEqual(code, 0, text)
        needed = int(re.search(r"memory forecast: (\d+) MiB", text)[1])
        self.assertNotIn("is now", text)
        code, text = tiny.run("train", path, "dry_run=true", "gradient_checkpointing=false", f"memory_limit={needed - 12}MiB")
        self.assertEqual(code, 0, text)
        self.assertIn("per_device_train_batch_size is now", text)
        code, text = tiny.run("train", path, "dry_run=true", "gradient_checkpointing=false", "auto_find_batch_size=false", f"memory_limit={needed - 12}MiB")
        self.assertEqual(code, 4, text)


unittest.main()
