#!/usr/bin/env python3
"""loraine chat on a terminal."""
import json
import os
import pathlib
import pty
import select
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Terminal:
    """The program with a terminal of its own."""

    def __init__(self, home, *arguments):
        self.seen = b""
        self.process, self.end = pty.fork()
        if self.process == 0:
            os.execve(tiny.program, [str(tiny.program), *map(str, arguments)], os.environ | {"HOME": str(home), "TERM": "vt100", "LC_ALL": "C"})

    def type(self, text):
        os.write(self.end, text)

    def wait_for(self, text, seconds=60):
        """What came up to `text`, which has to come."""
        stop = time.time() + seconds
        while text not in self.seen:
            if time.time() > stop:
                raise AssertionError(f"{text} did not come; there is {self.seen}")
            if select.select([self.end], [], [], 0.05)[0]:
                try:
                    self.seen += os.read(self.end, 4096)
                except OSError:
                    raise AssertionError(f"the program ended before {text}; there is {self.seen}")
        before, _, self.seen = self.seen.partition(text)
        return before

    def exit_code(self):
        code = os.waitstatus_to_exitcode(os.waitpid(self.process, 0)[1])
        os.close(self.end)
        return code


class OnATerminal(tiny.Case):
    def test_ctrl_c_drops_a_line_and_stops_an_answer(self):
        model = tiny.write_model(self.work / "slow", **(tiny.large | {"vocab": tiny.vocab}))  # some hundred tokens a second
        tiny.write_tokenizer(model)
        tensors = {name: ("F32", shape, values) for name, (shape, values) in tiny.read_safetensors(model / "model.safetensors").items()}
        width = tiny.large["channels"]
        for i in range(2 * width, 3 * width):  # a logit of 0: the end is never the likeliest token
            tensors["lm_head.weight"][2][i] = 0
        tiny.write_safetensors(model / "model.safetensors", {name: (dtype, shape, values.tobytes()) for name, (dtype, shape, values) in tensors.items()})
        chat = Terminal(self.work, "chat", "--model_name_or_path", model, "--max_new_tokens", 900, "--do_sample", "false")
        chat.wait_for(b"User: ")
        chat.type(b"abc")
        chat.wait_for(b"abc")
        chat.type(b"\x03")
        chat.wait_for(b"User: ")
        chat.type(b"hello\n")
        chat.wait_for(b"Assistant: ")
        chat.type(b"\x03")
        answer = chat.wait_for(b"User: ")
        self.assertIn(" …".encode(), answer)
        self.assertEqual(self.saved(chat)[0]["content"], "hello")

    def saved(self, chat):
        """The conversation as /save writes it; the program ends."""
        chat.type(f"/save {self.work}/saved.json\n".encode())
        chat.wait_for(b"saved to")
        chat.type(b"exit\n")
        self.assertEqual(chat.exit_code(), 0)
        return json.loads((self.work / "saved.json").read_text())

    def test_letters_of_every_language_under_a_locale_without_them(self):
        tiny.write_tokenizer(self.model)
        chat = Terminal(self.work, "chat", "--model_name_or_path", self.model, "--max_new_tokens", 4)
        asked = ["你好，世界", "café naïve", "🙂👩‍👧 e\u0301", "длинная строка " * 12]
        for line in asked:
            chat.wait_for(b"User: ")
            chat.type(line.encode() + b"\n")
            chat.wait_for(b"tokens/s]")
        chat.wait_for(b"User: ")
        chat.type("xy你z".encode() + b"\x02\x08\n")  # back over z, delete 你
        chat.wait_for(b"tokens/s]")
        chat.wait_for(b"User: ")
        self.assertEqual([message["content"] for message in self.saved(chat)[::2]], [*asked, "xyz"])


if __name__ == "__main__":
    unittest.main()
