#!/usr/bin/env python3
"""The first hour of somebody who comes with a tutorial, a model and a file of questions and answers in Chinese: one walk through all commands, typed and
seen as there. Run by ctest (label e2e)."""
import json
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny
from terminal import Terminal

PAIRS = [("你叫什么名字？", "我叫小林。"), ("你会做什么？", "我会修自行车。"), ("几点开门？", "早上九点。"), ("😀 ça va ?", "très bien"), ("再见", "")]
CHINESE = {"LC_ALL": "zh_CN.UTF-8"}


class FirstHour(tiny.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny.write_model(self.work / "base", vocab=264)
        tiny.write_byte_tokenizer(self.model)
        rows = [{"问题": question, "回答": answer} for question, answer in PAIRS * 4]
        (self.work / "我的数据.jsonl").write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    def run_program(self, *arguments, **environment):
        done = subprocess.run([tiny.program, *map(str, arguments)], capture_output=True, text=True, cwd=self.work, timeout=300, stdin=subprocess.DEVNULL,
                              env=os.environ | {"HOME": str(self.work)} | environment)
        return done.returncode, done.stdout + done.stderr

    def train(self, *more, **environment):
        words = "train --model base --dataset 我的数据.jsonl --output out --epochs 2 --lr 5e-3 --lora_r 4 --per_device_train_batch_size 4 --logging_steps 1 --template alpaca"
        return self.run_program(*words.split(), *more, **environment)

    def test_an_hour(self):
        # Words of other programs, data without dataset_info.json, what runs and on what, all before the first step.
        text = self.good(self.train())
        for word in ("`model` is taken as `model_name_or_path`", "`output` is taken as `output_dir`", "`epochs` is taken as `num_train_epochs`",
                     "`lr` is taken as `learning_rate`", "`lora_r` is taken as `lora_rank`"):
            self.assertIn(word, text)
        self.assertIn("questions and answers: `问题` → `回答`", text)
        self.assertRegex(text, r"(?m)^  template +alpaca \(as given\)$")
        self.assertRegex(text, r"(?m)^  method +LoRA, rank 4, alpha 8")
        self.assertRegex(text, r"(?m)^  machine +.*thread")
        self.assertIn("你叫什么名字？", text)
        self.assertIn("⟦我叫小林。", text)
        self.assertIn("4 of 20 rows of the training data have an empty answer, of which only the end token is trained", text)
        self.assertRegex(text, r"memory forecast: [\d.]+ MiB")
        self.assertRegex(text, r"peak memory: [\d.]+ MiB \(measured")
        self.assertLess(text.index("first example"), text.index("train "))

        # Run again as it is: nothing to do. With another rate or rank: said, nothing is touched.
        before = (self.work / "out/adapter_model.safetensors").read_bytes()
        self.assertIn("nothing left to do", self.good(self.train()))
        for key, value, name in (("--lr", "1e-3", "learning_rate"), ("--lora_r", "8", "lora_rank")):
            text = self.refused(self.train(key, value), 2, "finished", f"{name} differs (was", "overwrite_output_dir", "another output_dir")
            self.assertNotIn("damaged", text)
        self.assertEqual((self.work / "out/adapter_model.safetensors").read_bytes(), before)

        # Talking on a terminal without a locale: the adapter's template, every letter, a mark where an answer is cut.
        chat = Terminal(self.work, "chat", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "out", "--max_new_tokens", 5, "--seed", 3)
        chat.wait_for(b"template: alpaca (the adapter's)")
        for asked in ("你好，小林", "😀 ça va ?"):
            chat.wait_for(b"User: ")
            chat.type(asked.encode() + b"\n")
            chat.wait_for(b"tokens/s]")
        chat.wait_for(b"User: ")
        chat.type(f"/save {self.work}/saved.json\n".encode())
        chat.wait_for(b"saved to")
        chat.type(b"exit\n")
        self.assertEqual(chat.exit_code(), 0)
        self.assertEqual([m["content"] for m in json.loads((self.work / "saved.json").read_text())[::2]], ["你好，小林", "😀 ça va ?"])
        cut = self.run_program("chat", "--model_name_or_path", "base", "--max_new_tokens", 1, "--template", "llama3")
        self.refused(cut, 2, "llama3 needs <|start_header_id|>", "this tokenizer lacks", "leave template out")

        # Held-out rows, early stopping: why it ended and what is saved.
        text = self.good(self.train("--output", "early", "--val_size", "4", "--eval_strategy", "steps", "--eval_steps", "1", "--save_steps", "1", "--early_stopping", "2",
                                    "--load_best_model_at_end", "--lr", "30", "--epochs", "10", "--metric_for_best_model", "loss"))
        self.assertIn("early stopping: 2 evaluations without a gain", text)
        self.assertRegex(text, r"the adapter of step \d+ is saved, the best by eval_loss")

        # A model by its id, where other tools have fetched it; elsewhere the adapter knows its base by the weights.
        snapshot = self.work / ".cache/huggingface/hub/models--org--tiny/snapshots/0123abc"
        shutil.copytree(self.model, snapshot)
        (snapshot.parent.parent / "refs").mkdir()
        (snapshot.parent.parent / "refs/main").write_text("0123abc")
        ask = ("chat", "--model_name_or_path", "org/tiny", "--adapter_name_or_path", "out", "--max_new_tokens", 2)
        found = self.good(self.run_program(*ask, HF_HOME="", HF_HUB_CACHE=""))
        self.assertIn("in the local cache", found)
        self.assertNotIn("warning", found)

        # Figures, and one model out of two that answers the same.
        self.good(self.run_program("eval", "--model_name_or_path", "base", "--adapter_name_or_path", "out", "--eval_dataset", "我的数据.jsonl", "--output_dir", "figures"))
        text = self.good(self.run_program("eval", "--model_name_or_path", "base", "--eval_dataset", "我的数据.jsonl", "--output_dir", "answers", "--predict_with_generate",
                                          "--max_samples", "2", "--max_new_tokens", "1"))
        self.assertRegex(text, r"warning: base \(generation\): \d of 2 answers do not end by themselves and are cut at max_new_tokens \(1\)")
        text = self.good(self.run_program("export", "--model_name_or_path", "base", "--adapter_name_or_path", "mine=out", "--export_dir", "merged"))
        self.assertIn("each the exact sum of base and adapter", text)
        self.assertIn("### Instruction:", (self.work / "merged/Modelfile").read_text())

        # What goes wrong at the start leaves nothing behind; commands of LLaMA-Factory say what there is; help begins with an example.
        self.refused(self.train("--output", "never", "--model", "nowhere"), 3, "nowhere: no such model folder or file")
        self.assertFalse((self.work / "never").exists())
        self.refused(self.run_program("webchat"), 2, "loraine does not have it", "loraine chat")
        self.assertTrue(self.good(self.run_program("help", "train")).startswith("example:\n  loraine train "))

    # The screen in Chinese

    def test_the_same_in_chinese(self):
        text = self.good(self.train("--val_size", "4", "--do_eval", **CHINESE))
        for word in ("说明：`lr` 按 `learning_rate` 处理", "训练数据", "评估数据", "第一个样本：", "警告：训练数据 16 行中有", "适配器已保存到 out", "内存峰值："):
            self.assertIn(word, text)
        rows = re.findall(r"(?m)^  (\S+(?: \S+)*?)(?:  +\S.*)$", text)
        labels = [label for label in rows if not label.startswith(("#", "⟦"))]
        self.assertGreater(len(labels), 20)
        for label in labels:  # every label of every table
            self.assertRegex(label, r"[\u4e00-\u9fff]", text)
        self.assertIn("错误：未知的命令 'trian'", self.run_program("trian", **CHINESE)[1])
        self.assertIn("错误：nowhere：没有这个模型文件夹或文件", self.run_program("chat", "--model_name_or_path", "nowhere", "--language", "zh")[1])
        self.assertIn("错误：nowhere：没有这个模型文件夹或文件", self.run_program("chat", "model_name_or_path=nowhere", "language=zh")[1])
        (self.work / "chat.yaml").write_text("language: zh\nmodel_name_or_path: nowhere\n")
        self.assertIn("错误：nowhere：没有这个模型文件夹或文件", self.run_program("chat", "chat.yaml")[1])
        self.assertIn("error: nowhere: no such model folder or file", self.run_program("chat", "--model_name_or_path", "nowhere", "--language", "en", **CHINESE)[1])
        self.assertIn("error: ", self.run_program("chat", "--model_name_or_path", "nowhere", LC_ALL="C", LANG="zh_CN.UTF-8")[1])
        chat = Terminal(self.work, "chat", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "out", "--max_new_tokens", 5, "--seed", 3, LC_ALL="zh_CN.UTF-8")
        chat.wait_for("对话模板：alpaca（适配器训练时所用）".encode())
        chat.wait_for(b"User: ")
        chat.type(b"exit\n")
        self.assertEqual(chat.exit_code(), 0)


if __name__ == "__main__":
    unittest.main()
