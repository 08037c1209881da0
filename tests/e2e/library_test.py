#!/usr/bin/env python3
"""The installed library: cmake --install, find_package(loraine), the examples of examples/cpp. Run by ctest (label e2e)."""
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


def command(*words):
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=500)
    return done.returncode, done.stdout + done.stderr


class Library(tiny.Case):
    def test_examples_build_against_the_installed_library_and_run(self):
        prefix, build = self.work / "prefix", self.work / "examples"
        self.good(command("cmake", "--install", os.environ.get("LORAINE_BUILD", tiny.program.parent), "--prefix", prefix))
        self.assertEqual([p.name for p in (prefix / "include/loraine").iterdir()], ["chat_model.h"])
        self.good(command(prefix / "bin/loraine", "version"))
        self.good(command("cmake", "-S", tiny.root / "examples/cpp", "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}"))
        self.good(command("cmake", "--build", build))
        tiny.write_tokenizer(self.model)
        self.good(tiny.run(*self.arguments(max_steps=30)))
        text = self.good(command(build / "chat", self.model, "hello", f"tuned={self.out}"))
        lines = text.splitlines()
        self.assertEqual([line.split(" ")[0] for line in lines], ["base", "tuned"])
        answers = [line.split("): ", 1)[1] for line in lines]
        self.assertNotEqual(answers[0], answers[1])
        for adapter, answer in zip((None, self.out), answers):  # the same as the program's own chat
            words = ["--adapter_name_or_path", adapter] if adapter else []
            done = subprocess.run([tiny.program, "chat", "--model_name_or_path", self.model, "--do_sample", "false", "--max_new_tokens", "32", *map(str, words)],
                                  input="hello\n", capture_output=True, text=True, timeout=100)
            self.assertEqual(done.stdout.split("Assistant: ", 1)[1].rstrip("\n"), answer, done.stderr)
        one, two = self.good(command(build / "stream", self.model)).splitlines()
        self.assertTrue(one and two)
        code, text = command(build / "chat", self.work, "hello")
        self.assertEqual(code, 1, text)
        self.assertIn("error: ", text)


if __name__ == "__main__":
    unittest.main()
