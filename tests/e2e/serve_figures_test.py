#!/usr/bin/env python3
"""What loraine serve answers with figures: embeddings and next tokens beside those that transformers and PEFT gave (tests/golden/serving.json), adapters with
scales, questions with few answers. Run by ctest (label e2e)."""
import base64
import concurrent.futures
import json
import math
import pathlib
import shutil
import struct
import sys
import tempfile
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import tiny_model as tiny
from serve_test import Served, Server

golden = tiny.root / "tests/golden"


def lora_field(scales):
    return [{"name": name, "scale": scale} for name, scale in scales.items()]


class Golden(unittest.TestCase):
    """Models and adapters of PEFT's cases, whose prompts are given as ids."""

    def test_embeddings_and_next_tokens(self):
        cases = json.loads((golden / "serving.json").read_text())["cases"]
        for family in sorted({case["family"] for case in cases}):
            with tempfile.TemporaryDirectory() as holder:
                work = pathlib.Path(holder)
                shutil.copytree(golden / "peft" / family / "model", work / "model")
                tiny.write_tokenizer(work / "model")
                adapters = {"lora": golden / "peft" / family / "lora", "other": golden / "peft" / family / "train_final"}
                server = Server(work, "--model_name_or_path", work / "model", "--adapter_name_or_path", ",".join(f"{n}={p}" for n, p in adapters.items()))
                try:
                    for case in (one for one in cases if one["family"] == family):
                        self.check(server, case)
                finally:
                    server.stop()

    def check(self, server, case):
        shared = {"lora": lora_field(case["lora"])} if case["lora"] else {"model": "base"}
        told = f"{case['family']} {case['lora']} {len(case['prompt'])} ids"

        def embedded(**more):
            status, _, reply = server.ask("POST", "/v1/embeddings", {"input": case["prompt"]} | shared | more)
            self.assertEqual(status, 200, reply)
            self.assertEqual(reply["usage"], {"prompt_tokens": len(case["prompt"]), "total_tokens": len(case["prompt"])})
            return reply["data"][0]["embedding"]

        for wanted, more in ((case["mean"], {}), (case["last"], {"pooling": "last"}), (case["first_eight"], {"dimensions": 8})):
            given = embedded(**more)
            self.assertEqual(len(given), len(wanted), told)
            self.assertLess(max(abs(a - b) for a, b in zip(given, wanted)), 2e-5, told)
        for label, wanted in zip(case["labels"], case["logprobs"]):
            status, _, reply = server.ask("POST", "/v1/completions", {"prompt": case["prompt"], "max_tokens": 1, "allowed_token_ids": [label], "logprobs": 0} | shared)
            self.assertEqual(status, 200, reply)
            self.assertAlmostEqual(reply["choices"][0]["logprobs"]["token_logprobs"][0], wanted, delta=1e-4, msg=told)


class Figures(Served):
    @classmethod
    def more(cls):
        return ("--allow_runtime_lora_updating", "true", "--adapter_dir", cls.folder)

    def embed(self, text, **more):
        return self.server.ask("POST", "/v1/embeddings", {"input": text, "model": "a"} | more)

    def test_embeddings(self):
        reply = self.good(self.embed("one text"))
        self.assertEqual((reply["object"], reply["model"], reply["data"][0]["object"], reply["data"][0]["index"]), ("list", "a", "embedding", 0))
        alone = reply["data"][0]["embedding"]
        self.assertAlmostEqual(sum(x * x for x in alone), 1, places=5)
        written = self.good(self.embed("one text", encoding_format="base64"))["data"][0]["embedding"]
        self.assertEqual(list(struct.unpack(f"<{len(alone)}f", base64.b64decode(written))), alone)
        ids = self.good(self.server.ask("POST", "/tokenize", {"prompt": "one text"}))["tokens"]
        self.assertEqual(self.good(self.embed(ids))["data"][0]["embedding"], alone)
        self.assertNotEqual(self.good(self.embed("one text", model="b"))["data"][0]["embedding"], alone)
        many = self.good(self.embed(["one text", "x" * 150, "another"] * 20))
        self.assertEqual([one["index"] for one in many["data"]], list(range(60)))
        self.assertEqual(many["usage"]["prompt_tokens"], 20 * (8 + 150 + 7))
        for i, one in enumerate(many["data"]):
            self.assertEqual(one["embedding"] == alone, i % 3 == 0)
        with concurrent.futures.ThreadPoolExecutor(16) as pool:  # the same bits whoever else asks
            chats = [pool.submit(self.server.chat, f"question {i}", model=["a", "b"][i % 2]) for i in range(12)]
            texts = [pool.submit(self.embed, "one text") for _ in range(12)]
            for one in texts:
                self.assertEqual(self.good(one.result())["data"][0]["embedding"], alone)
            for one in chats:
                self.good(one.result())
        for body, param in (({"input": []}, "input"), ({"input": ""}, "input"), ({"input": [[1], "a"]}, "input"), ({"input": [300]}, "input"), ({"input": ["a"] * 2049}, "input"),
                            ({}, "input"), ({"input": "a", "dimensions": 0}, "dimensions"), ({"input": "a", "dimensions": 17}, "dimensions"),
                            ({"input": "a", "encoding_format": "int8"}, "encoding_format"), ({"input": "a", "pooling": "cls"}, "pooling")):
            self.refused(self.server.ask("POST", "/v1/embeddings", body), 400, param)
        self.refused(self.embed("x" * 1200), 400, "input", "context_length_exceeded")
        self.refused(self.embed("x", model="nobody"), 404, "model", "model_not_found")

    def test_scales(self):
        ask = lambda lora, **more: self.good(self.server.ask("POST", "/v1/completions", {"prompt": "hello", "max_tokens": 12, "temperature": 0, "logprobs": 3, "lora": lora} | more))["choices"][0]
        figures = lambda lora, **more: ask(lora, **more)["logprobs"]["token_logprobs"]
        self.assertEqual(figures([{"name": "a"}]), figures(None, model="a"))
        self.assertEqual(figures([]), figures(None, model="base"))
        self.assertEqual(figures([{"name": "a", "scale": 0}]), figures(None, model="base"))
        self.assertEqual(figures([{"id": 1, "scale": 0.5}]), figures([{"name": "b", "scale": 0.25}, {"name": "b", "scale": 0.25}]))
        both = figures([{"name": "a", "scale": 0.5}, {"name": "b", "scale": -1}])
        self.assertEqual(len({tuple(one) for one in (both, figures([{"name": "a", "scale": 0.5}]), figures([{"name": "a"}]), figures([]))}), 4)
        self.refused(self.server.ask("POST", "/v1/completions", {"prompt": "x", "lora": [{"name": "nobody", "scale": 1}]}), 404, "lora")
        self.refused(self.server.ask("POST", "/v1/completions", {"prompt": "x", "lora": [{"name": "a", "scale": 101}]}), 400, "lora.scale")
        asked = [[{"name": "a", "scale": i % 5 / 4}, {"name": "b", "scale": i % 3 - 1}] for i in range(24)]
        alone = [figures(one) for one in asked]
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            self.assertEqual(list(pool.map(figures, asked)), alone)
        # What requests have that say nothing.
        self.good(self.server.ask("POST", "/lora-adapters", [{"id": 0, "scale": 0.5}, {"id": 1, "scale": -1}]))
        try:
            self.assertEqual([one["scale"] for one in self.good(self.server.ask("GET", "/lora-adapters"))], [0.5, -1])
            self.assertEqual(figures(None), both)
            self.assertEqual(figures(None, model="a"), figures([{"name": "a"}]))
        finally:
            self.good(self.server.ask("POST", "/lora-adapters", []))
        self.assertEqual(figures(None), figures([]))

    def test_decisions(self):
        questions = [
            {"type": "predicate", "name": "urgent", "instructions": "This is urgent."},
            {"type": "choice", "instructions": "Who should answer?", "choices": [{"value": "sales"}, {"value": "support", "description": "broken things"}, {"value": True}]},
            {"type": "score", "instructions": "How angry is it?", "levels": [{"label": "calm"}, {"label": "cross"}, {"label": "furious", "description": "shouts"}]},
            {"type": "choice", "instructions": "Which number?", "choices": [{"value": f"n{i}"} for i in range(30)]},
        ]
        body = {"model": "a", "input": "My payouts have been failing for three days, " * 4, "questions": questions}
        reply = self.good(self.server.ask("POST", "/v1/decisions", body))
        predicate, choice, score, many = reply["answers"]
        self.assertEqual((predicate["type"], predicate["name"]), ("predicate", "urgent"))
        self.assertTrue(0 < predicate["probability"] < 1)
        for answer, values in ((choice, ["sales", "support", True]), (score, [0, 1, 2]), (many, [f"n{i}" for i in range(30)])):
            shares = [one["probability"] for one in answer["probabilities"]]
            self.assertAlmostEqual(sum(shares), 1, places=9)
            self.assertEqual([one["value"] for one in answer["probabilities"]], values)
            self.assertTrue(0 < answer["confidence"] <= max(shares) + 1e-12)
        self.assertEqual(choice["choice"], max(choice["probabilities"], key=lambda one: one["probability"])["value"])
        self.assertAlmostEqual(score["score"], sum(i * one["probability"] for i, one in enumerate(score["probabilities"])))
        self.assertEqual([one["label"] for one in score["probabilities"]], ["calm", "cross", "furious"])
        usage = reply["usage"]
        self.assertEqual(usage["output_tokens"], 0)
        self.assertGreaterEqual(usage["input_tokens_details"]["cached_tokens"], 3 * 128)  # what all begin with was read once
        self.assertEqual(self.good(self.server.ask("POST", "/v1/decisions", body))["answers"], reply["answers"])  # found in the cache: the same bits
        self.assertNotEqual(self.good(self.server.ask("POST", "/v1/decisions", body | {"model": "b"}))["answers"], reply["answers"])

    def test_decisions_are_the_probabilities_of_labels(self):
        body = {"input": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "input_text", "text": "hello"}]}],
                "questions": [{"type": "choice", "instructions": "Which?", "choices": [{"value": "x"}, {"value": "y"}]}]}
        answer = self.good(self.server.ask("POST", "/v1/decisions", body))["answers"][0]
        messages = [{"role": "system", "content": "s"}, {"role": "user", "content": "hello\n\nWhich?\nA: x\nB: y\nAnswer with one label only: A, B."}]
        prompt = self.good(self.server.ask("POST", "/apply-template", {"messages": messages}))["prompt"]
        weights = []
        for label in "AB":
            told = self.good(self.server.ask("POST", "/v1/completions", {"prompt": prompt + label, "max_tokens": 0, "echo": True, "logprobs": 0}))
            weights.append(math.exp(told["choices"][0]["logprobs"]["token_logprobs"][-1]))
        for one, weight in zip(answer["probabilities"], weights):
            self.assertAlmostEqual(one["probability"], weight / sum(weights), places=5)
        self.assertAlmostEqual(answer["confidence"], max(weights), places=5)

    def test_system_one(self):
        body = {"model": "a", "state": {"message": "My payouts fail", "since": 3}, "questions": {
            "urgent": {"type": "noul", "instructions": "Is it urgent?", "criteria": {"true": "needs an answer today", "false": "can wait"}},
            "team": {"type": "choice", "instructions": {"question": "Which team?"}, "criteria": {"billing": "money", "support": None}},
            "anger": {"type": "score", "instructions": "How angry?", "criteria": ["calm", "cross", "furious"]}}}
        reply = self.good(self.server.ask("POST", "/v1/systemone", body))
        answers = reply["answers"]
        self.assertEqual(list(answers), ["urgent", "team", "anger"])
        self.assertTrue(0 < answers["urgent"]["noul"] < 1)
        self.assertEqual(list(answers["team"]["probabilities"]), ["billing", "support"])
        self.assertEqual(answers["anger"]["legend"], {"0": "calm", "1": "cross", "2": "furious"})
        self.assertAlmostEqual(sum(answers["anger"]["probabilities"].values()), 1)
        self.assertEqual(reply["usage"]["output_tokens"], 0)

    def test_bad_questions(self):
        good = {"type": "choice", "instructions": "?", "choices": [{"value": "x"}, {"value": "y"}]}
        for change, param in (({"questions": []}, "questions"), ({"questions": [good] * 401}, "questions"), ({"input": 5}, "input"), ({"input": []}, "input"),
                              ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "x"}]}]}, "input[0].content"),
                              ({"questions": [good | {"type": "poem"}]}, "questions[0].type"), ({"questions": [good | {"choices": [{"value": "x"}]}]}, "questions[0].choices"),
                              ({"questions": [good | {"choices": [{"value": "x"}, {"value": "x"}]}]}, "questions[0].choices"),
                              ({"questions": [good | {"choices": [{"value": "x"}, {"value": 5}]}]}, "questions[0].choices"),
                              ({"questions": [{"type": "score", "instructions": "?", "levels": [{"label": "x"}]}]}, "questions[0].levels"),
                              ({"questions": [{"type": "predicate"}]}, "questions[0].instructions"), ({"input": "x" * 1200}, "input")):
            self.refused(self.server.ask("POST", "/v1/decisions", {"input": "a", "questions": [good]} | change), 400, param)
        for change, param in (({"state": None}, "state"), ({"questions": {}}, "questions"), ({"questions": {"q": {"type": "noul"}}}, "questions.q.instructions"),
                              ({"questions": {"q": {"type": "choice", "instructions": "?", "criteria": {"x": "y"}}}}, "questions.q.criteria")):
            self.refused(self.server.ask("POST", "/v1/systemone", {"state": "a", "questions": {"q": {"type": "noul", "instructions": "?"}}} | change), 400, param)
        self.assertEqual(self.server.ask("POST", "/v1/score/evaluation", {"messages": ["a"]})[0], 405)


if __name__ == "__main__":
    unittest.main()
