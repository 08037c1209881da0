#!/usr/bin/env python3
"""loraine serve and loraine api: a real server with a random model and two adapters, asked over plain sockets. Run by ctest (label e2e)."""
import concurrent.futures
import http.client
import json
import math
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

patience = 60  # seconds that anything may take on a busy machine


class Server:
    """A program that listens on a port of its own choice."""

    def __init__(self, work, *arguments, command="serve", environment=None, wait=True):
        self.log = open(work / f"log-{time.monotonic_ns()}", "w+")
        words = [tiny.program, command, "--port", "0", *map(str, arguments)]
        self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log, env=os.environ | (environment or {}))
        self.port = int(self.wait_for(r"listens on http://[^ ]*:(\d+)")[1])
        if wait:
            self.wait_for(r"ready: ")

    def said(self):
        self.log.seek(0)
        return self.log.read()

    def wait_for(self, pattern):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if found := re.search(pattern, self.said()):
                return found
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"no {pattern}: {self.said()}")

    def ask(self, method, path, body=None, headers=None, timeout=patience):
        """(status, headers, body: JSON where it is)"""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            data = body if body is None or isinstance(body, (bytes, str)) else json.dumps(body)
            kind = {} if data is None else {"Content-Type": "application/json"}
            connection.request(method, path, data, kind | (headers or {}))
            reply = connection.getresponse()
            content = reply.read()
            is_json = reply.headers.get("content-type", "").startswith("application/json") and content
            return reply.status, reply.headers, json.loads(content) if is_json else content.decode()
        finally:
            connection.close()

    def chat(self, text="hello", path="/v1/chat/completions", **more):
        body = {"messages": [{"role": "user", "content": text}], "temperature": 0, "max_tokens": 12} | more
        return self.ask("POST", path, body)

    def raw(self, data, timeout=patience, shut=False):
        """All bytes that come for these bytes, until the server closes or nothing comes for a while."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=timeout) as s:
            s.sendall(data)
            out = b""
            try:
                while piece := s.recv(65536):
                    out += piece
                    if shut and b"\r\n\r\n" in out:
                        break
            except (TimeoutError, ConnectionResetError):
                pass
            return out

    def open_stream(self, key="", **more):
        """A socket on which a stream of events is asked for."""
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "stream": True, "ignore_eos": True} | more).encode()
        s = socket.create_connection(("127.0.0.1", self.port), timeout=patience)
        s.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
                  + (f"Authorization: Bearer {key}\r\n".encode() if key else b"") + b"Content-Length: %d\r\n\r\n" % len(body) + body)
        return s

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[2].splitlines():
            if line.startswith(name):
                return float(line.rsplit(" ", 1)[1])
        raise AssertionError(name)

    def until(self, condition, what):
        end = time.monotonic() + patience
        while time.monotonic() < end:
            if condition():
                return
            time.sleep(0.02)
        raise AssertionError(what + "\n" + self.said())

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.log.close()


def events(text):
    """The JSON values of a stream, and whether it ended with [DONE]."""
    found = [line[6:] for line in text.split("\n") if line.startswith("data: ")]
    done = bool(found) and found[-1] == "[DONE]"
    return [json.loads(one) for one in found[: -1 if done else None]], done


def text_of(answer):
    return answer["choices"][0]["message"]["content"]


class Served(unittest.TestCase):
    """One model, two adapters, one server for all tests of a class."""

    sizes = dict(vocab=259)
    arguments = ()
    trained = dict(a={}, b=dict(lora_rank=2, lora_target="v_proj,up_proj", seed=7))  # the adapters, and what differs

    @classmethod
    def setUpClass(cls):
        cls.holder = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.holder.name)
        cls.model = tiny.write_model(cls.work / "tiny", **cls.sizes)
        tiny.write_byte_tokenizer(cls.model)
        cls.folder = cls.work / "adapters"
        cls.folder.mkdir()
        data = tiny.write_rows(cls.work / "data", vocab=259)
        for name, changes in cls.trained.items():
            done = tiny.run(*tiny.train_arguments(cls.model, data, cls.folder / name, **(dict(learning_rate="5e-2", max_steps=6) | changes)))
            assert done[0] == 0, done[1]
        adapters = ["--adapter_name_or_path", ",".join(f"{name}={cls.folder / name}" for name in cls.trained)] if cls.trained else []
        cls.server = Server(cls.work, "--model_name_or_path", cls.model, *adapters, *cls.more())

    @classmethod
    def more(cls):
        return cls.arguments

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()
        cls.holder.cleanup()

    def good(self, reply):
        self.assertEqual(reply[0], 200, reply[2])
        return reply[2]

    def refused(self, reply, status, param=None, code=None):
        self.assertEqual(reply[0], status, reply[2])
        self.assertTrue(reply[2]["error"]["message"])
        if param:
            self.assertEqual(reply[2]["error"]["param"], param)
        if code:
            self.assertEqual(reply[2]["error"]["code"], code)
        return reply


class Answers(Served):
    @classmethod
    def more(cls):
        return ("--allow_runtime_lora_updating", "true", "--adapter_dir", cls.folder)

    def test_greedy_answers_are_those_of_chat(self):
        for adapter in (None, "a", "b"):
            given = ["--adapter_name_or_path", self.folder / adapter] if adapter else []
            words = [tiny.program, "chat", "--model_name_or_path", self.model, "--do_sample", "false", "--max_new_tokens", "12", *map(str, given)]
            chat = subprocess.run(words, input=b"hello\n", capture_output=True, timeout=patience)
            wanted = chat.stdout.decode().split("Assistant: ", 1)[1].rstrip("\n")
            for name in [adapter, f"tiny:{adapter}"] if adapter else ["tiny", None, "base"]:
                more = {"model": name} if name else {}
                answer = self.good(self.server.chat(**more))
                self.assertEqual(text_of(answer).rstrip("\n"), wanted, name)
                self.assertEqual(answer["object"], "chat.completion")
                streamed, done = events(self.good(self.server.chat(stream=True, **more)))
                self.assertTrue(done)
                self.assertEqual("".join(one["choices"][0]["delta"].get("content", "") for one in streamed), text_of(answer))
                self.assertEqual(streamed[-1]["choices"][0]["finish_reason"], answer["choices"][0]["finish_reason"])
                self.assertEqual(len({one["id"] for one in streamed}), 1)
        self.refused(self.server.chat(model="nowhere"), 404, "model", "model_not_found")
        self.assertIn("did you mean", self.server.chat(model="tinny")[2]["error"]["message"])

    def test_many_at_once_are_each_alone(self):
        asked = [dict(text=f"question {i}", model=["tiny", "a", "b"][i % 3], max_tokens=10 + i, **({"temperature": 1, "seed": i} if i % 2 else {})) for i in range(24)]
        alone = [text_of(self.good(self.server.chat(**one))) for one in asked]
        self.assertGreater(len(set(alone)), 12)
        with concurrent.futures.ThreadPoolExecutor(24) as pool:
            together = list(pool.map(lambda one: text_of(self.good(self.server.chat(**one))), asked))
        self.assertEqual(together, alone)

    def test_choices_follow_the_seed(self):
        three = self.good(self.server.chat(n=3, seed=5, temperature=1.5))
        self.assertEqual([one["index"] for one in three["choices"]], [0, 1, 2])
        texts = [one["message"]["content"] for one in three["choices"]]
        self.assertGreater(len(set(texts)), 1)
        self.assertEqual([one["message"]["content"] for one in self.good(self.server.chat(n=3, seed=5, temperature=1.5))["choices"]], texts)
        self.assertEqual(text_of(self.good(self.server.chat(n=1, seed=5, temperature=1.5))), texts[0])
        streamed, _ = events(self.good(self.server.chat(n=3, seed=5, temperature=1.5, stream=True)))
        joined = ["", "", ""]
        for one in streamed:
            joined[one["choices"][0]["index"]] += one["choices"][0]["delta"].get("content", "")
        self.assertEqual(joined, texts)

    def test_usage_stops_and_lengths(self):
        whole = self.good(self.server.chat(max_tokens=20, ignore_eos=True, return_token_ids=True))
        usage = whole["usage"]
        self.assertEqual(usage["completion_tokens"], 20)
        self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + 20)
        self.assertEqual(len(whole["prompt_token_ids"]), usage["prompt_tokens"])
        self.assertEqual(whole["choices"][0]["finish_reason"], "length")
        self.assertEqual(whole["timings"]["predicted_n"], 20)
        ids, text = whole["choices"][0]["token_ids"], text_of(whole)
        stop = text[4:7]
        at = text.index(stop)
        for include in (False, True):
            cut = self.good(self.server.chat(max_tokens=20, ignore_eos=True, stop=[stop], include_stop_str_in_output=include))
            self.assertEqual(text_of(cut), text[: at + (len(stop) if include else 0)])
            self.assertEqual(cut["choices"][0]["finish_reason"], "stop")
            self.assertEqual(cut["choices"][0]["stop_reason"], stop)
        by_id = self.good(self.server.chat(max_tokens=20, ignore_eos=True, stop_token_ids=[ids[5]]))
        self.assertEqual(by_id["choices"][0]["stop_reason"], ids[5])
        self.assertEqual(by_id["usage"]["completion_tokens"], ids.index(ids[5]) + 1)
        one = self.good(self.server.chat(max_completion_tokens=1, max_tokens=5, ignore_eos=True))
        self.assertEqual(one["usage"]["completion_tokens"], 1)
        streamed, _ = events(self.good(self.server.chat(stream=True, stream_options={"include_usage": True})))
        self.assertEqual(streamed[-1]["choices"], [])
        self.assertEqual(streamed[-1]["usage"]["prompt_tokens"], usage["prompt_tokens"])
        self.assertTrue(all(one["usage"] is None for one in streamed[:-1]))
        forced = self.good(self.server.chat(logit_bias={"70": 100}, max_tokens=3))
        self.assertEqual(text_of(forced), 3 * text_of(forced)[0])
        allowed = self.good(self.server.chat(allowed_token_ids=[70, 71], max_tokens=8, return_token_ids=True))
        self.assertLessEqual(set(allowed["choices"][0]["token_ids"]), {70, 71})
        longest = self.refused(self.server.chat("x" * 1200), 400, "messages", "context_length_exceeded")
        self.assertIn("1024", longest[2]["error"]["message"])
        self.refused(self.server.chat(max_tokens=1020), 400, "messages", "context_length_exceeded")

    def test_log_probabilities(self):
        answer = self.good(self.server.chat(logprobs=True, top_logprobs=5, max_tokens=6, ignore_eos=True, repetition_penalty=1.5, temperature=0.3, seed=1))
        content = answer["choices"][0]["logprobs"]["content"]
        self.assertEqual(len(content), 6)
        self.assertEqual(bytes(b for one in content for b in one["bytes"]).decode(errors="replace"), text_of(answer))
        for one in content:
            values = [top["logprob"] for top in one["top_logprobs"]]
            self.assertEqual(values, sorted(values, reverse=True))
            self.assertLess(sum(map(math.exp, values)), 1 + 1e-5)
        scored = self.good(self.server.ask("POST", "/v1/completions", dict(prompt=[70, 71, 72], echo=True, logprobs=1, max_tokens=0)))["choices"][0]
        self.assertEqual(len(scored["logprobs"]["tokens"]), 3)
        self.assertIsNone(scored["logprobs"]["token_logprobs"][0])
        self.assertTrue(all(x < 0 for x in scored["logprobs"]["token_logprobs"][1:]))
        self.assertEqual(scored["text"], "".join(scored["logprobs"]["tokens"]))

    def test_completions(self):
        body = dict(prompt=["one", "two"], temperature=0, max_tokens=5, n=2)
        answer = self.good(self.server.ask("POST", "/v1/completions", body))
        self.assertEqual(answer["object"], "text_completion")
        texts = [one["text"] for one in answer["choices"]]
        self.assertEqual(texts[0], texts[1])
        self.assertEqual(texts[2], texts[3])
        streamed, done = events(self.good(self.server.ask("POST", "/v1/completions", body | {"stream": True})))
        self.assertTrue(done)
        joined = [""] * 4
        for one in streamed:
            joined[one["choices"][0]["index"]] += one["choices"][0]["text"]
        self.assertEqual(joined, texts)
        ids = self.good(self.server.ask("POST", "/tokenize", {"prompt": "one"}))["tokens"]
        again = self.good(self.server.ask("POST", "/v1/completions", dict(prompt=ids, temperature=0, max_tokens=5, echo=True)))
        self.assertEqual(again["choices"][0]["text"], "one" + texts[0])

    def test_text_tools(self):
        text = "hé 你好 🙂"
        told = self.good(self.server.ask("POST", "/v1/tokenize", {"prompt": text, "return_token_strs": True}))
        self.assertEqual(told["count"], len(text.encode()))
        self.assertEqual(told["max_model_len"], 1024)
        self.assertEqual(self.good(self.server.ask("POST", "/detokenize", {"tokens": told["tokens"]}))["prompt"], text)
        self.assertEqual(self.good(self.server.ask("POST", "/tokenize", {"content": text}))["tokens"], told["tokens"])
        messages = [{"role": "user", "content": "hello"}]
        prompt = self.good(self.server.ask("POST", "/apply-template", {"messages": messages}))["prompt"]
        self.assertEqual(prompt, "u:hello a:")
        ids = self.good(self.server.ask("POST", "/tokenize", {"messages": messages}))["tokens"]
        self.assertEqual(self.good(self.server.ask("POST", "/detokenize", {"tokens": ids}))["content"], prompt)
        self.refused(self.server.ask("POST", "/detokenize", {"tokens": [259]}), 400, "tokens")

    def test_models_and_state(self):
        listed = self.good(self.server.ask("GET", "/v1/models"))["data"]
        self.assertEqual([one["id"] for one in listed][0], "tiny")
        self.assertLessEqual({"a", "b"}, {one["id"] for one in listed})
        self.assertEqual(self.good(self.server.ask("GET", "/v1/models/a"))["parent"], "tiny")
        self.refused(self.server.ask("GET", "/v1/models/zzzzzz"), 404, code="model_not_found")
        for path in ("/health", "/ping", "/v1/health", "/version", "/ready", "/props"):
            self.good(self.server.ask("GET", path))
            status, headers, body = self.server.ask("HEAD", path)
            self.assertEqual((status, body), (200, ""))
        self.good(self.server.chat(model="a"))
        lines = self.good(self.server.ask("GET", "/metrics")).splitlines()
        for line in lines:
            self.assertRegex(line, r"^(# (HELP|TYPE) \S+ .+|[a-z0-9_:]+(\{([a-z_]+=\"[^\"]*\",?)*\})? [0-9.e+-]+)$")
        self.assertTrue(any(line.startswith('loraine_adapter_tokens_total{adapter="a"}') for line in lines))
        self.assertGreater(self.server.metric("vllm:generation_tokens_total"), 0)

    def test_adapters_come_and_go_under_load(self):
        wanted = {name: text_of(self.good(self.server.chat(model=name))) for name in ("a", "b")}
        shutil.copytree(self.folder / "a", self.folder / "c")
        ends, failures, seen = threading.Event(), [], {"a": 0, "c": set()}

        def load():
            while not ends.is_set():
                answer = self.server.chat(model="a")
                if answer[0] != 200 or text_of(answer[2]) != wanted["a"]:
                    failures.append(answer)
                seen["a"] += 1
                answer = self.server.chat(model="c")
                if answer[0] == 200:
                    seen["c"].add(text_of(answer[2]))

        threads = [threading.Thread(target=load) for _ in range(4)]
        for thread in threads:
            thread.start()
        try:
            ask = lambda path, **body: self.server.ask("POST", path, body)
            self.assertEqual(ask("/v1/load_lora_adapter", lora_name="x1", lora_path="b")[0], 200)
            self.assertEqual(text_of(self.good(self.server.chat(model="x1"))), wanted["b"])
            status, headers, _ = self.refused(ask("/v1/load_lora_adapter", lora_name="x1", lora_path="a"), 400)
            self.assertEqual(headers["x-should-retry"], "false")
            self.assertEqual(ask("/v1/load_lora_adapter", lora_name="x1", lora_path="a", load_inplace=True)[0], 200)
            self.assertEqual(text_of(self.good(self.server.chat(model="x1"))), wanted["a"])
            told = ask("/v1/unload_lora_adapter", lora_name="x1")
            self.assertIn("Success", told[2])
            self.refused(self.server.chat(model="x1"), 404)
            self.refused(ask("/v1/unload_lora_adapter", lora_name="x1"), 404)
            told = self.good(ask("/load_lora_adapter", lora_name="x2", lora_path="b", pinned=True))
            self.assertIn("x2", told["loaded_adapters"])
            self.assertNotIn("x2", self.good(ask("/unload_lora_adapter", lora_name="x2"))["loaded_adapters"])
            listed = self.good(self.server.ask("GET", "/lora-adapters"))
            number = next(one["id"] for one in listed if one["name"] == "b")
            self.assertEqual(text_of(self.good(self.server.chat(lora=[{"id": number, "scale": 1.0}]))), wanted["b"])
            self.good(self.server.ask("POST", "/lora-adapters", [{"id": number, "scale": 1.0}]))
            self.assertEqual(text_of(self.good(self.server.chat())), wanted["b"])
            self.good(self.server.ask("POST", "/lora-adapters", []))
            self.assertNotEqual(text_of(self.good(self.server.chat())), wanted["b"])
            for path in ("../tiny", "/etc", "a/../../tiny", "nowhere", "", "a\0", "."):
                self.refused(ask("/v1/load_lora_adapter", lora_name="bad", lora_path=path), 400)
            (self.folder / "link").symlink_to(self.work / "tiny")
            self.refused(ask("/v1/load_lora_adapter", lora_name="bad", lora_path="link"), 400)
            for name in ("tiny", "base", "../a", "a b", "x" * 129, ""):
                self.refused(ask("/v1/load_lora_adapter", lora_name=name, lora_path="a"), 400)
            (self.folder / "broken").mkdir(exist_ok=True)
            (self.folder / "broken/adapter_config.json").write_text("{")
            told = self.refused(ask("/v1/load_lora_adapter", lora_name="bad", lora_path="broken"), 400)
            self.assertNotIn("/proc/", told[2]["error"]["message"])
        finally:
            ends.set()
            for thread in threads:
                thread.join()
        self.assertEqual(failures, [])
        self.assertGreater(seen["a"], 3)
        self.assertEqual(seen["c"], {wanted["a"]})  # loaded by its name alone

    def test_bodies_and_heads_that_are_not_taken(self):
        post = b"POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        for data, status in [
            (post + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
            (post + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!", 400),
            (post + b"Content-Length: -1\r\n\r\n", 400),
            (post + b"Content-Length: 99999999999999999999\r\n\r\n", 400),
            (post + b"Content-Length: 17000000\r\n\r\n", 413),
            (post + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 400),
            (post + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n", 400),
            (post + b"Content-Length: 2\r\nContent-Encoding: gzip\r\n\r\nhi", 415),
            (post.replace(b"application/json", b"text/plain") + b"Content-Length: 2\r\n\r\nhi", 415),
            (post.replace(b"application/json", b"multipart/form-data; boundary=x") + b"Content-Length: 2\r\n\r\nhi", 415),
            (post + b"Content-Length: 2\r\nExpect: magic\r\n\r\nhi", 417),
            (post + b"X: " + b"a" * 70000 + b"\r\n\r\n", 431),
            (b"GET /health HTTP/1.0\r\n\r\n", 505),
            (b"GET /health HTTP/1.1\r\n\r\n", 400),
            (b"GET /%zz HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
            (b"GET /a%00b HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", 400),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(50) + b"\r\n\r\n", 400),
            (b"GET /health HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n", 403),
            (b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nOrigin: https://evil.example\r\nConnection: close\r\n\r\n", 403),
            (b"BREW /health HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n", 405),
        ]:
            reply = self.server.raw(data)
            self.assertTrue(reply.startswith(b"HTTP/1.1 %d " % status), (data[:150], reply[:200]))
            self.assertIn(b'"error"', reply)
        for body in (b"", b"{", b"[]", b"\xff", b'{"messages":[]}', b"[" * 100000):
            start = time.monotonic()
            self.refused(self.server.ask("POST", "/v1/chat/completions", body), 400)
            self.assertLess(time.monotonic() - start, 5)
        self.refused(self.server.ask("GET", "/nowhere"), 404)
        reply = self.refused(self.server.ask("GET", "/v1/chat/completions"), 405)
        self.assertIn("POST", reply[1]["allow"])
        self.assertEqual(self.server.ask("OPTIONS", "/v1/models")[0], 204)

    def test_ways_to_send_a_request(self):
        body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "temperature": 0, "max_tokens": 12}).encode()
        wanted = text_of(self.good(self.server.chat())).encode()
        head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json; charset=utf-8\r\n"
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(body[i : i + 7]), body[i : i + 7]) for i in range(0, len(body), 7)) + b"0\r\n\r\n"
        reply = self.server.raw(head + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
        self.assertTrue(reply.startswith(b"HTTP/1.1 200"), reply)
        self.assertEqual(text_of(json.loads(reply.split(b"\r\n\r\n", 1)[1])).encode(), wanted)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=patience) as s:  # asks first
            s.sendall(head + b"Expect: 100-continue\r\nContent-Length: %d\r\n\r\n" % len(body))
            self.assertEqual(s.recv(100), b"HTTP/1.1 100 Continue\r\n\r\n")
            s.sendall(body)
            self.assertTrue(s.recv(65536).startswith(b"HTTP/1.1 200"))
            s.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\nGET /version HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
            rest = b""
            while piece := s.recv(65536):
                rest += piece
            self.assertEqual(rest.count(b"HTTP/1.1 200"), 2)
        with socket.create_connection(("127.0.0.1", self.server.port), timeout=patience) as s:  # byte by byte
            for byte in head + b"Connection: close\r\nContent-Length: %d\r\n\r\n" % len(body):
                s.sendall(bytes([byte]))
            s.sendall(body)
            self.assertTrue(s.recv(65536).startswith(b"HTTP/1.1 200"))
        status, headers, _ = self.server.ask("GET", "/health", headers={"X-Request-Id": "mine-1.2_3"})
        self.assertEqual(headers["x-request-id"], "mine-1.2_3")
        self.assertEqual((headers["cache-control"], headers["x-content-type-options"]), ("no-store", "nosniff"))
        self.assertNotEqual(self.server.ask("GET", "/health", headers={"X-Request-Id": "a b"})[1]["x-request-id"], "a b")


class Busy(Served):
    """A slow model with room for two: what waits, what goes away, what reads slowly."""

    sizes = tiny.large | dict(vocab=259)
    trained = {}
    arguments = ("--max_seqs", "2", "--max_queued_requests", "2", "--drain_timeout", "1", "--max_model_len", "1000")

    def two_that_run(self):
        streams = [self.server.open_stream() for _ in range(2)]
        self.server.until(lambda: self.server.metric("vllm:num_requests_running") == 2, "two run")
        return streams

    def test_clients_that_go_away(self):
        before = self.server.metric('vllm:request_success_total{finished_reason="abort"')
        streams = self.two_that_run() + [self.server.open_stream()]
        self.assertIn(b"data: ", streams[0].recv(65536))
        self.server.until(lambda: self.server.metric("vllm:num_requests_waiting") == 1, "one waits")
        start = time.monotonic()
        for s in streams:
            s.close()
        self.server.until(lambda: self.server.metric("vllm:num_requests_running") + self.server.metric("vllm:num_requests_waiting") == 0, "none runs")
        self.assertLess(time.monotonic() - start, 5)
        self.assertEqual(self.server.metric('vllm:request_success_total{finished_reason="abort"'), before + 3)
        self.assertLess(self.server.metric("vllm:kv_cache_usage_perc"), 1e-9)

    def test_a_full_queue(self):
        streams = self.two_that_run() + [self.server.open_stream() for _ in range(2)]
        try:
            self.server.until(lambda: self.server.metric("vllm:num_requests_waiting") == 2, "two wait")
            status, headers, _ = self.refused(self.server.chat(), 429, code="queue_full")
            self.assertGreater(int(headers["retry-after"]), 0)
        finally:
            for s in streams:
                s.close()
        self.server.until(lambda: self.server.chat()[0] == 200, "room again")

    def test_a_slow_reader_rests(self):
        s = self.server.open_stream(n=2, logprobs=True, top_logprobs=20, max_tokens=950)  # some 2 MB of events
        try:
            self.assertIn(b"data: ", s.recv(4096))
            self.server.until(lambda: self.still(), "it rests")
            out = b""
            while b"[DONE]" not in out[-100:]:
                piece = s.recv(1 << 20)
                self.assertTrue(piece, out[-300:])
                out += piece
            self.assertEqual(out.count(b'"finish_reason":"length"'), 2)
        finally:
            s.close()

    def still(self):
        """Whether something runs and no token comes of it."""
        first = self.server.metric("vllm:generation_tokens_total")
        time.sleep(0.5)
        return self.server.metric("vllm:num_requests_running") > 0 and self.server.metric("vllm:generation_tokens_total") == first

    def test_a_thousand_idle_connections(self):
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
        count = min(1000, hard - 100)
        idle = [socket.create_connection(("127.0.0.1", self.server.port), timeout=patience) for _ in range(count)]
        try:
            answer = self.good(self.server.chat())
            self.assertTrue(answer["choices"])
            idle[count // 2].sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")
            self.assertTrue(idle[count // 2].recv(1000).startswith(b"HTTP/1.1 200"))
            more = [socket.create_connection(("127.0.0.1", self.server.port), timeout=patience) for _ in range(40)]
            if count == 1000:
                self.assertTrue(more[-1].recv(1000).startswith(b"HTTP/1.1 503"))
            for s in more:
                s.close()
        finally:
            for s in idle:
                s.close()
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        self.server.until(lambda: self.server.ask("GET", "/health")[0] == 200, "room again")


class Ends(Served):
    """How a server ends. Each test has one of its own."""

    sizes = tiny.large | dict(vocab=259)
    trained = dict(a=dict(max_steps=1, lora_rank=1, lora_target="v_proj"))

    def start(self, *arguments, **more):
        server = Server(self.work, "--model_name_or_path", self.model, *arguments, **more)
        self.addCleanup(server.stop)
        return server

    def test_sigterm_lets_answers_end(self):
        server = self.start("--max_seqs", "1")
        runs = server.open_stream(max_tokens=60)
        self.assertIn(b"data: ", runs.recv(65536))
        waits = server.open_stream(max_tokens=60)
        server.until(lambda: server.metric("vllm:num_requests_waiting") == 1, "one waits")
        server.process.send_signal(signal.SIGTERM)
        self.assertTrue(waits.recv(65536).startswith(b"HTTP/1.1 503"))
        rest = b""
        while piece := runs.recv(65536):
            rest += piece
        self.assertIn(b"data: [DONE]", rest)
        self.assertEqual(server.process.wait(patience), 0)

    def test_what_takes_too_long_ends_with_an_error(self):
        server = self.start("--drain_timeout", "0.3")
        runs = server.open_stream()
        self.assertIn(b"data: ", runs.recv(65536))
        idle = socket.create_connection(("127.0.0.1", server.port), timeout=patience)
        idle.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n")  # answered, so it was accepted: otherwise its end is a reset
        self.assertTrue(idle.recv(65536).startswith(b"HTTP/1.1 200"))
        server.process.send_signal(signal.SIGINT)
        rest = b""
        while piece := runs.recv(65536):
            rest += piece
        self.assertIn(b'"error"', rest)
        self.assertNotIn(b"[DONE]", rest)
        self.assertEqual(idle.recv(10), b"")
        self.assertEqual(server.process.wait(patience), 0)

    def test_a_second_signal_ends_at_once(self):
        server = self.start()
        runs = server.open_stream()
        self.assertIn(b"data: ", runs.recv(65536))
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("ending")
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(patience), 130)

    def test_keys_sockets_and_refusals(self):
        for given, words in [
            (("--host", "0.0.0.0"), "api_key"), (("--allow_runtime_lora_updating", "true"), "adapter_dir"), (("--kv_memory", "no"), "kv_memory"),
            (("--max_model_len", "100000"), "positions"), (("--port", "70000"), "port"),
        ]:
            code, text = tiny.run("serve", "--model_name_or_path", self.model, *given)
            self.assertEqual(code, 2, text)
            self.assertIn(words, text)
        key_file = self.work / "keys"
        key_file.write_text("# keys\nfrom-file\n")
        server = self.start("--api_key_file", key_file, environment={"LORAINE_API_KEY": "from-env"})
        self.assertEqual(server.ask("GET", "/health")[0], 200)
        self.refused(server.ask("GET", "/v1/models"), 401, code="invalid_api_key")
        for headers in ({"Authorization": "Bearer from-file"}, {"x-api-key": "from-env"}):
            self.assertEqual(server.ask("GET", "/v1/models", headers=headers)[0], 200)
        path = self.work / "s"
        server = Server.__new__(Server)
        server.log = open(self.work / "unix-log", "w+")
        server.process = subprocess.Popen([tiny.program, "serve", "--model_name_or_path", self.model, "--unix_socket", path], stdin=subprocess.DEVNULL,
                                          stdout=server.log, stderr=server.log)
        self.addCleanup(server.stop)
        server.wait_for("ready: ")
        self.assertEqual(path.stat().st_mode & 0o777, 0o600)
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(path))
            s.sendall(b"GET /ready HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            self.assertTrue(s.recv(1000).startswith(b"HTTP/1.1 200"))
        server.process.send_signal(signal.SIGTERM)
        self.assertEqual(server.process.wait(patience), 0)
        self.assertFalse(path.exists())

    def test_llama_factorys_api(self):
        environment = {"API_KEY": "k", "FASTAPI_ROOT_PATH": "/v0", "API_MODEL_NAME": "mine"}
        server = self.start("--adapter_name_or_path", self.folder / "a", command="api", environment=environment)
        key = {"Authorization": "Bearer k"}
        status, _, body = server.ask("GET", "/v0/v1/models")
        self.assertEqual((status, body["detail"]), (401, "Invalid API key."))
        listed = self.good(server.ask("GET", "/v0/v1/models", headers=key))
        self.assertEqual([one["id"] for one in listed["data"]], ["mine"])
        ask = lambda **body: server.ask("POST", "/v1/chat/completions", {"messages": [{"role": "user", "content": "hello"}]} | body, headers=key)
        answer = self.good(ask(model="whatever", do_sample=False, max_tokens=12))
        self.assertEqual(text_of(answer), text_of(self.good(self.server.chat(model="a"))))
        self.assertEqual(ask(messages=[{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}])[0], 400)
        self.assertEqual(server.ask("POST", "/v1/score/evaluation", {"messages": ["a"]}, headers=key)[0], 405)


if __name__ == "__main__":
    unittest.main()
