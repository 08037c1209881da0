#!/usr/bin/env python3
"""Ollama's protocol of loraine serve: names of fields, lines of JSON, what is refused. Run by ctest (label e2e)."""
import json
import pathlib
import re
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
from serve_test import Served, text_of

durations = ["total_duration", "load_duration", "prompt_eval_count", "prompt_eval_duration", "eval_count", "eval_duration"]


class Ollama(Served):
    def ask(self, path, **body):
        return self.server.ask("POST", f"/api/{path}", body)

    def chat(self, **more):
        return self.ask("chat", **({"model": "a", "messages": [{"role": "user", "content": "hello"}], "options": {"temperature": 0, "num_predict": 12}} | more))

    def lines(self, reply):
        self.assertEqual(reply[0], 200, reply[2])
        self.assertEqual(reply[1]["content-type"], "application/x-ndjson")
        self.assertTrue(reply[2].endswith("\n"))
        return [json.loads(line) for line in reply[2].splitlines()]

    def refused_with(self, reply, status, words):
        self.assertEqual(reply[0], status, reply[2])
        self.assertEqual(list(reply[2]), ["error"])
        self.assertIn(words, reply[2]["error"])

    def test_chat(self):
        wanted = text_of(self.good(self.server.chat(model="a")))
        for model in ("a", "a:latest", "tiny:a"):
            whole = self.good(self.chat(model=model, stream=False))
            self.assertEqual(list(whole), ["model", "created_at", "message", "done", "done_reason", *durations])
            self.assertEqual(whole["message"], {"role": "assistant", "content": wanted})
            self.assertEqual((whole["model"], whole["done"]), (model, True))
            self.assertRegex(whole["created_at"], r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{9}Z$")
            self.assertTrue(whole["total_duration"] >= whole["eval_duration"] > 0 and 0 < whole["eval_count"] <= 12 and whole["prompt_eval_count"] > 5)
            said = self.lines(self.chat(model=model))
            self.assertEqual("".join(one["message"]["content"] for one in said), wanted)
            self.assertEqual([one["done"] for one in said], [False] * (len(said) - 1) + [True])
            self.assertEqual(list(said[0]), ["model", "created_at", "message", "done"])
            self.assertEqual(list(said[-1]), ["model", "created_at", "message", "done", "done_reason", *durations])
            self.assertEqual(said[-1]["done_reason"], whole["done_reason"])
        self.assertEqual(self.good(self.chat(stream=False, options={"temperature": 0, "num_predict": 1}))["done_reason"], "length")
        told = self.good(self.chat(stream=False, logprobs=True, top_logprobs=2))["logprobs"]
        self.assertTrue(all(len(one["top_logprobs"]) == 2 and one["logprob"] <= 0 for one in told) and told)
        seeded = dict(stream=False, options={"temperature": 1, "seed": 5, "top_k": 20, "top_p": 0.9, "min_p": 0.01, "repeat_penalty": 1.1, "stop": ["\n"], "num_ctx": 512})
        self.assertEqual(self.good(self.chat(**seeded))["message"], self.good(self.chat(**seeded))["message"])

    def test_generate(self):
        options = {"temperature": 0, "num_predict": 12}
        whole = self.good(self.ask("generate", model="b", prompt="hello", stream=False, options=options))
        self.assertEqual(list(whole), ["model", "created_at", "response", "done", "done_reason", "context", *durations])
        self.assertEqual(whole["response"], text_of(self.good(self.server.chat(model="b"))))
        self.assertEqual(len(whole["context"]), whole["prompt_eval_count"] + whole["eval_count"])
        said = self.lines(self.ask("generate", model="b", prompt="hello", options=options))
        self.assertEqual("".join(one["response"] for one in said), whole["response"])
        self.assertEqual(said[-1]["context"], whole["context"])
        with_system = self.good(self.ask("generate", model="b", prompt="hello", system="be brief", stream=False, options=options))
        self.assertEqual(with_system["prompt_eval_count"], whole["prompt_eval_count"] + len("s:be brief "))
        after = self.good(self.ask("generate", model="b", prompt="more", context=whole["context"], stream=False, options=options))
        self.assertEqual(after["prompt_eval_count"], len(whole["context"]) + whole["prompt_eval_count"] - 1)
        raw = self.good(self.ask("generate", model="b", prompt="hello", raw=True, stream=False, options=options))
        completed = self.good(self.server.ask("POST", "/v1/completions", {"model": "b", "prompt": "hello", "temperature": 0, "max_tokens": 12}))
        self.assertEqual(raw["response"], completed["choices"][0]["text"])
        self.assertNotIn("context", raw)
        for path, empty in (("generate", {"response": ""}), ("chat", {"message": {"role": "assistant", "content": ""}})):
            loaded = self.good(self.ask(path, model="a", stream=False))
            self.assertEqual({key: loaded[key] for key in empty}, empty)
            self.assertEqual((loaded["done"], loaded["done_reason"]), (True, "load"))

    def test_embeddings(self):
        wanted = [one["embedding"] for one in self.good(self.server.ask("POST", "/v1/embeddings", {"model": "a", "input": ["one", "another"]}))["data"]]
        reply = self.good(self.ask("embed", model="a:latest", input=["one", "another"]))
        self.assertEqual(list(reply), ["model", "embeddings", "total_duration", "load_duration", "prompt_eval_count"])
        self.assertEqual(reply["embeddings"], wanted)
        self.assertEqual(reply["prompt_eval_count"], 10)
        self.assertEqual(self.good(self.ask("embeddings", model="a", prompt="one")), {"embedding": wanted[0]})
        self.assertEqual(len(self.good(self.ask("embed", model="a", input="one", dimensions=4))["embeddings"][0]), 4)
        self.assertEqual(self.good(self.ask("embed", model="a", input="x" * 1200))["prompt_eval_count"], 1024)
        self.refused_with(self.ask("embed", model="a", input="x" * 1200, truncate=False), 400, "1024")
        self.assertEqual(self.good(self.ask("embed", model="a", input=[]))["embeddings"], [])

    def test_models(self):
        models = self.good(self.server.ask("GET", "/api/tags"))["models"]
        self.assertEqual([one["name"] for one in models], ["tiny:latest", "a:latest", "b:latest"])
        for one in models:
            self.assertEqual(list(one), ["name", "model", "modified_at", "size", "digest", "details"])
            self.assertTrue(re.fullmatch("[0-9a-f]{64}", one["digest"]), one)
            self.assertEqual(list(one["details"]), ["parent_model", "format", "family", "families", "parameter_size", "quantization_level"])
        self.assertEqual(models[0]["details"] | {"parameter_size": ""}, {"parent_model": "", "format": "safetensors", "family": "llama", "families": ["llama"], "parameter_size": "", "quantization_level": "F32"})
        self.assertEqual(len({one["digest"] for one in models}), 3)
        running = self.good(self.server.ask("GET", "/api/ps"))["models"]
        self.assertEqual(running[0] | models[0], running[0])
        self.assertEqual(running[0]["context_length"], 1024)
        shown = self.good(self.ask("show", model="a"))
        self.assertEqual(shown["model_info"]["llama.context_length"], 1024)
        self.assertEqual(shown["details"]["parent_model"], "tiny")
        self.assertIn("completion", shown["capabilities"])
        self.assertIn("content", shown["template"])
        self.assertEqual(self.good(self.ask("show", name="tiny"))["details"]["parent_model"], "")
        self.assertIn("version", self.good(self.server.ask("GET", "/api/version")))

    def test_what_is_refused(self):
        for path in ("pull", "push", "create", "copy"):
            self.refused_with(self.ask(path, model="x"), 501, f"/api/{path}")
        self.refused_with(self.server.ask("DELETE", "/api/delete", {"model": "a"}), 501, "/api/delete")
        self.refused_with(self.chat(model="nobody"), 404, "nobody")
        self.refused_with(self.ask("show", model="nobody"), 404, "nobody")
        self.refused_with(self.ask("nothing"), 404, "/api/nothing")
        for change, words in (({"messages": [{"role": "user", "content": "x", "images": ["aGk="]}]}, "images"), ({"options": {"mirostat": 2}}, "mirostat"), ({"options": {"who_knows": 2}}, "who_knows"),
                              ({"options": {"temperature": 9}}, "temperature"), ({"options": {"num_predict": "many"}}, "num_predict"), ({"format": 5}, "format"), ({"stream": "no"}, "stream"),
                              ({"model": None}, "model"), ({"who_knows": 1}, "who_knows"), ({"messages": [{"role": "wizard", "content": "x"}]}, "role")):
            self.refused_with(self.chat(**change), 400, words)
        for change, words in (({"suffix": "x"}, "suffix"), ({"template": "x"}, "template"), ({"context": [1, 999]}, "context"), ({"images": ["aGk="]}, "images")):
            self.refused_with(self.ask("generate", **({"model": "a", "prompt": "x"} | change)), 400, words)


if __name__ == "__main__":
    unittest.main()
