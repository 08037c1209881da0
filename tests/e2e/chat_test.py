#!/usr/bin/env python3
"""loraine chat on a terminal."""
import json
import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny
from terminal import Terminal


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
