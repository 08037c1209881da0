#!/usr/bin/env python3
"""The man page as man sees it, and completion in the shells that are there. Run by ctest (label e2e)."""
import os
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

# Every command with settings, and a key of its own.
KEYS = {"train": "lora_rank", "compare": "lora_rank", "chat": "template", "serve": "port", "api": "port", "eval": "ppl_file", "export": "export_dir", "upload": "hub_model_id", "data": "cutoff_len",
        "trace": "infer_dtype", "bench": "tokens", "tokenize": "split_special_tokens"}


class Help(unittest.TestCase):
    def printed(self, *words):
        return subprocess.run([tiny.program, *words], check=True, capture_output=True, text=True).stdout

    def script(self, shell):
        return self.printed("help", "--completion", shell)

    def test_the_words_of_a_command(self):
        for command, key in KEYS.items():
            rows = [line.split("\t") for line in self.printed("help", command, "--words").splitlines()]
            self.assertTrue(all(len(row) == 3 and row[0] and row[2] for row in rows), command)
            self.assertIn(key, [row[0] for row in rows], command)
        self.assertIn(["eval_strategy", "no steps epoch"], [line.split("\t")[:2] for line in self.printed("help", "train", "--words").splitlines()])

    def test_man_page(self):
        if not shutil.which("groff"):
            self.skipTest("groff is not there")
        made = subprocess.run(["groff", "-K", "utf8", "-man", "-Tutf8", "-ww"], input=self.printed("help", "--man"), capture_output=True, text=True, env={**os.environ, "GROFF_NO_SGR": "1"})
        self.assertEqual((made.returncode, made.stderr), (0, ""))
        for text in ("LORAINE(1)", "SYNOPSIS", "--learning_rate", "loraine help COMMAND", "EXIT STATUS"):
            self.assertIn(text, re.sub(".\b", "", made.stdout))

    def completed(self, *words):
        """What bash completes the last of these words to; it cuts words at =."""
        line = " ".join(f"'{word}'" for word in words)
        asked = self.script("bash") + f"\nCOMP_WORDS=({line})\nCOMP_CWORD={len(words) - 1}\ncompopt() {{ :; }}\n_loraine '{words[0]}'\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n"
        return subprocess.run(["bash", "--norc", "-c", asked], check=True, capture_output=True, text=True, cwd=pathlib.Path(__file__).parent).stdout.split()

    def test_bash(self):
        program = str(tiny.program)
        self.assertEqual(self.completed(program, "tr"), ["train", "trace"])
        self.assertEqual(self.completed(program, "help", "expo"), ["export"])
        self.assertEqual(self.completed(program, "train", "--lora_a"), ["--lora_alpha"])
        self.assertEqual(self.completed(program, "train", "lora_a"), ["lora_alpha="])
        self.assertEqual(self.completed(program, "train", "help_te"), ["help_test.py"])
        self.assertEqual(self.completed(program, "train", "eval_strategy", "=", "st"), ["steps"])
        self.assertEqual(self.completed(program, "train", "eval_strategy", "="), ["no", "steps", "epoch"])
        self.assertEqual(self.completed(program, "train", "--eval-strategy", "e"), ["epoch"])
        self.assertEqual(self.completed(program, "train", "--bf16", ""), ["true", "false"])
        self.assertEqual(self.completed(program, "train", "--dataset_dir", "help_te"), ["help_test.py"])

    def test_zsh(self):
        if not shutil.which("zsh"):
            self.skipTest("zsh is not there")
        stubs = "compset() { :; }; _files() { print -r -- files; }; _describe() { print -rl -- ${(P)2}; }; compadd() { print -rl -- ${(P)2}; }\n"

        def asked(*words):
            text = stubs + f"words=({' '.join(words)}); CURRENT={len(words)}\n" + self.script("zsh")
            return subprocess.run(["zsh", "-f", "-c", text], check=True, capture_output=True, text=True).stdout.splitlines()

        program = str(tiny.program)
        self.assertIn("train:fine-tune a model: LoRA, some layers, or all of it", asked(program, "tr"))
        self.assertEqual(asked(program, "train", "--eval_strategy", "''"), ["no", "steps", "epoch"])
        self.assertEqual(asked(program, "train", "eval_strategy=s"), ["no", "steps", "epoch"])
        self.assertTrue(any(line.startswith("--lora_rank:") for line in asked(program, "train", "--lo")))
        self.assertTrue(any(line.startswith("lora_rank=:") for line in asked(program, "train", "lo")))
        self.assertEqual(asked(program, "train", "--dataset_dir", "''"), ["files"])

    def test_fish(self):
        if not shutil.which("fish"):
            self.skipTest("fish is not there")
        path = f"set PATH {pathlib.Path(tiny.program).resolve().parent} $PATH\n"

        def asked(line):
            return subprocess.run(["fish", "--no-config", "-c", path + self.script("fish") + f"complete -C '{line}'"], check=True, capture_output=True, text=True).stdout.splitlines()

        self.assertIn("train\tfine-tune a model: LoRA, some layers, or all of it", asked("loraine tr"))
        self.assertTrue(any(line.startswith("--lora_rank\t") for line in asked("loraine train --lora_r")))
        self.assertEqual([line.split("\t")[0] for line in asked("loraine train --eval_strategy ")], ["epoch", "no", "steps"])
        self.assertTrue(any(line.startswith("lora_rank=\t") for line in asked("loraine train lora_r")))
        self.assertEqual(asked("loraine train eval_strategy=st"), ["eval_strategy=steps"])


if __name__ == "__main__":
    unittest.main()
