#!/usr/bin/env python3
"""`loraine serve` with `device: cuda` on the emulated GPU: answers, log-probabilities, embeddings and scores are the CPU's, of several adapters at once too; what
has no GPU code is refused. Run by ctest (label e2e)."""
import concurrent.futures
import json
import os
import pathlib
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import tiny_model as tiny
from serve_test import Server


class GpuServe(tiny.Case):
    def setUp(self):
        super().setUp()
        if "this build has no CUDA code" not in tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "no", device="cuda"))[1]:
            self.skipTest("a build with CUDA code has no emulated GPU")
        tiny.write_tokenizer(self.model)
        (self.work / "adapters").mkdir()
        for name, more in (("one", {}), ("two", dict(lora_rank=2)), ("dora", dict(use_dora="true")), ("whole", dict(additional_target="norm"))):
            out = self.work / "adapters" / name
            self.good(tiny.run(*tiny.train_arguments(self.model, self.data, out, max_steps=3, learning_rate="5e-2", seed=len(name), **more)))
        rows = [{"instruction": "say", "chosen": "abc", "rejected": "cba"}]
        (self.data / "prefer.json").write_text(json.dumps(rows))
        (self.data / "dataset_info.json").write_text(json.dumps({"prefer": dict(file_name="prefer.json", ranking=True, columns=dict(prompt="instruction", chosen="chosen", rejected="rejected"))}))
        self.good(tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "adapters/reward", stage="rm", dataset="prefer", template="default", max_steps=2)))

    def serve(self, device):
        adapters = ",".join(f"{name}={self.work}/adapters/{name}" for name in ("one", "two", "dora", "reward"))
        return Server(self.work, "--model_name_or_path", self.model, "--adapter_name_or_path", adapters, "--device", device, "--adapter_dir", self.work / "adapters",
                      "--allow_runtime_lora_updating", "true", "--max_seqs", 4, "--max_model_len", 96, environment={"LORAINE_GPU": "emulated"})

    def asked(self, server):
        """All that is compared, as one JSON."""
        def chat(model):
            return server.ask("POST", "/v1/chat/completions", {"model": model, "messages": [{"role": "user", "content": f"hello {model}"}], "max_tokens": 6, "temperature": 0,
                                                              "logprobs": True, "top_logprobs": 2})

        base = server.ask("GET", "/v1/models")[2]["data"][0]["id"]
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            replies = list(pool.map(chat, [base, "one", "two", "dora"]))
        replies.append(server.ask("POST", "/v1/completions", {"model": "two", "prompt": "abc", "max_tokens": 5, "seed": 3, "temperature": 1}))
        replies.append(server.ask("POST", "/v1/embeddings", {"model": base, "input": ["abc", "hello there"]}))
        replies.append(server.ask("POST", "/v1/score/evaluation", {"model": "reward", "messages": ["abc", "cba"]}))
        for status, _, reply in replies:
            self.assertEqual(status, 200, reply)
        return [reply for _, _, reply in replies]

    def near(self, one, other):
        if isinstance(one, dict):
            self.assertEqual(one.keys(), other.keys())
            for key in one.keys() - {"id", "created", "system_fingerprint", "timings"}:
                self.near(one[key], other[key])
        elif isinstance(one, list):
            self.assertEqual(len(one), len(other))
            for a, b in zip(one, other):
                self.near(a, b)
        elif isinstance(one, float):
            self.assertAlmostEqual(one, other, delta=1e-4 * max(1, abs(other)))
        else:
            self.assertEqual(one, other)

    def test_answers_are_those_of_the_cpu(self):
        replies = []
        for device in ("cpu", "cuda"):
            server = self.serve(device)
            try:
                self.assertEqual("device: emulated GPU" in server.said(), device == "cuda")
                replies.append(self.asked(server))
                status, _, reply = server.ask("POST", "/v1/load_lora_adapter", {"lora_name": "whole", "lora_path": "whole"})
                self.assertEqual(status == 200, device == "cpu", reply)
                if device == "cuda":
                    self.assertIn("trained whole", json.dumps(reply))
                    self.near(self.asked(server), replies[-1])  # the adapters were let go of meanwhile
                self.assertNotIn("emulated GPU: ", server.said().replace("device: emulated GPU", ""))
            finally:
                server.stop()
        self.near(replies[1], replies[0])


if __name__ == "__main__":
    unittest.main()
