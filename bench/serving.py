#!/usr/bin/env python3
"""The speed of loraine serve, as ratios within one run: beside llama-server on one GGUF file, adapters beside one, a cached prefix beside a step of decoding,
a busy machine beside a quiet one, and a trace of many adapters beside the same trace of one.

usage: PYTHON bench/serving.py [--parts against,adapters,prefix,busy,zipf] [--gguf FILE] [--llama-server PROGRAM] [--frozen_matmul int8] [--rounds 3] [--json FILE] MODEL

MODEL is a folder whose config.json is Llama's; its adapters are made here, at random (rank 8, q_proj and v_proj). `against` needs --gguf and --llama-server and
PYTHON with the gguf package. The sides take turns, round by round, so that what else runs on the machine meets both; the median of the rounds' ratios counts.
Answers have a fixed length (ignore_eos), prompts are ids that no two requests share, unless the part is about that."""
import argparse
import concurrent.futures
import http.client
import json
import math
import os
import pathlib
import random
import re
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
program = os.environ.get("LORAINE_PROGRAM", str(root / "build/loraine"))
BUSY = "import os, sys\nos.sched_setaffinity(0, {int(sys.argv[1])})\nwhile True: pass\n"
RANK = 8


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Server:
    def __init__(self, words, port, log):
        self.port, self.log = port, open(log, "w+")
        self.process = subprocess.Popen([str(word) for word in words], stdin=subprocess.DEVNULL, stdout=self.log, stderr=self.log)

    def ready(self, path):
        end = time.monotonic() + 300
        while time.monotonic() < end:
            if self.process.poll() is not None:
                break
            try:
                if self.ask("GET", path)[0] == 200:
                    return self
            except OSError:
                pass
            time.sleep(0.1)
        self.log.seek(0)
        sys.exit(f"the server did not start:\n{self.log.read()[-3000:]}")

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        try:
            connection.request(method, path, json.dumps(body) if body is not None else None, {"Content-Type": "application/json"})
            reply = connection.getresponse()
            return reply.status, reply.read()
        finally:
            connection.close()

    def complete(self, body):
        """The tokens of an answer that comes whole."""
        status, text = self.ask("POST", "/v1/completions", body)
        if status != 200:
            sys.exit(f"status {status}: {text[:500]}")
        return json.loads(text)["usage"]["completion_tokens"]

    def stream(self, body):
        """Seconds to the first token, and between the following ones."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=900)
        begin, times = time.perf_counter(), []
        try:
            connection.request("POST", "/v1/completions", json.dumps(body | {"stream": True}), {"Content-Type": "application/json"})
            reply = connection.getresponse()
            if reply.status != 200:
                sys.exit(f"status {reply.status}: {reply.read()[:500]}")
            for line in reply:
                if line.startswith(b"data: {"):
                    times.append(time.perf_counter())
        finally:
            connection.close()
        return times[0] - begin, [b - a for a, b in zip(times, times[1:])]

    def metric(self, name):
        for line in self.ask("GET", "/metrics")[1].decode().splitlines():
            if line.startswith(name):
                return float(line.rsplit(" ", 1)[1])
        raise KeyError(name)

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(60)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.log.close()


class Bench:
    def __init__(self, options, work):
        self.options, self.work = options, work
        self.config = json.loads((pathlib.Path(options.model) / "config.json").read_text())
        self.numbers = random.Random(1)
        self.report = {}

    def loraine(self, model, *more):
        port = free_port()
        words = [program, "serve", "--model_name_or_path", model, "--port", port, "--max_seqs", "32", "--max_model_len", "2048",
                 "--frozen_matmul", self.options.frozen_matmul, *more]
        return Server(words, port, self.work / f"loraine-{port}").ready("/ready")

    def prompt(self, length):
        return [self.numbers.randrange(100, self.config["vocab_size"] - 100) for _ in range(length)]

    def body(self, **more):
        return {"prompt": self.prompt(self.options.prompt_tokens), "max_tokens": self.options.new_tokens, "temperature": 0, "ignore_eos": True} | more

    def tokens_per_second(self, server, clients, body):
        """Of all answers together; body(i): of request i."""
        bodies = [body(i) for i in range(clients * self.options.requests)]
        with concurrent.futures.ThreadPoolExecutor(clients) as pool:
            begin = time.perf_counter()
            tokens = sum(pool.map(server.complete, bodies))
            return tokens / (time.perf_counter() - begin)

    def tell(self, what, ratios, mark, at_least=True, shown=""):
        value = statistics.median(ratios)
        met = value >= mark if at_least else value <= mark
        self.report[what] = {"ratio": round(value, 3), "rounds": [round(ratio, 3) for ratio in ratios], "mark": mark, "met": met}
        print(f"| {what} | {value:.2f} | {'≥' if at_least else '≤'} {mark:g} | {', '.join(f'{ratio:.2f}' for ratio in ratios)} |{f' {shown} |' if shown else ''}", flush=True)

    # Adapters of PEFT's form, at random.
    def shapes(self):
        c = self.config
        head = c.get("head_dim") or c["hidden_size"] // c["num_attention_heads"]
        return {"q_proj": (c["hidden_size"], c["num_attention_heads"] * head), "v_proj": (c["hidden_size"], c["num_key_value_heads"] * head)}

    def values(self, count, seed, spread):
        """Little-endian f32, as good as random: a block of draws, begun elsewhere for each adapter."""
        if not hasattr(self, "block"):
            draw = random.Random(3)
            self.block = struct.pack("<65536f", *(draw.gauss(0, 1) * spread for _ in range(65536))) * 4
        begin = seed * 7919 % 65536 * 4
        part = self.block[begin : begin + count * 4]
        return part if len(part) == count * 4 else (part * (count * 4 // len(part) + 1))[: count * 4]

    def adapter_tensors(self, seed):
        for layer in range(self.config["num_hidden_layers"]):
            for name, (inner, outer) in self.shapes().items():
                seed += 1
                yield layer, name, "A", (RANK, inner), self.values(RANK * inner, seed, 0.02)
                yield layer, name, "B", (outer, RANK), self.values(RANK * outer, seed + 1, 0.02)

    def write_adapter(self, folder, seed):
        folder.mkdir(parents=True)
        header, data = {}, []
        offset = 0
        for layer, name, side, shape, values in self.adapter_tensors(seed * 1000):
            header[f"base_model.model.model.layers.{layer}.self_attn.{name}.lora_{side}.weight"] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + len(values)]}
            data.append(values)
            offset += len(values)
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        (folder / "adapter_model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + b"".join(data))
        (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": RANK, "lora_alpha": 2 * RANK, "lora_dropout": 0.0, "bias": "none",
                                                                "target_modules": list(self.shapes()), "base_model_name_or_path": ""}))
        return folder

    def write_gguf_adapter(self, path, seed):
        import gguf
        import numpy

        writer = gguf.GGUFWriter(path, "llama")
        writer.add_string("general.type", "adapter")
        writer.add_string("adapter.type", "lora")
        writer.add_float32("adapter.lora.alpha", float(2 * RANK))
        for layer, name, side, shape, values in self.adapter_tensors(seed * 1000):
            writer.add_tensor(f"blk.{layer}.attn_{name[0]}.weight.lora_{side.lower()}", numpy.frombuffer(values, "<f4").reshape(shape).copy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        return path

    def named(self, count, first=0):
        return {f"a{i:04}": self.write_adapter(self.work / f"a{i:04}", i) for i in range(first, first + count)}

    # The parts.
    def against(self):
        """Total tokens/s beside llama-server on the same file, with 1, 8 and 32 clients, and with an adapter for each of 8."""
        if not (self.options.gguf and self.options.llama_server):
            return print("against: left out, it needs --gguf and --llama-server")
        adapters = self.named(8)
        files = [self.write_gguf_adapter(self.work / f"{name}.gguf", i) for i, name in enumerate(adapters)]
        threads = str(len(os.sched_getaffinity(0)))
        sides = {}

        def start(clients, with_adapters):
            port = free_port()
            extra = [word for file in files for word in ("--lora", file)] + ["--lora-init-without-apply"] if with_adapters else []
            llama = Server([self.options.llama_server, "-m", self.options.gguf, "--port", port, "-np", clients, "-c", str(clients * 512), "-t", threads, "-tb", threads, "--no-webui", *extra], port,
                           self.work / f"llama-{port}")
            ours = self.loraine(self.options.gguf, *(["--adapter_name_or_path", ",".join(f"{n}={p}" for n, p in adapters.items())] if with_adapters else []))
            return {"loraine": ours, "llama": llama.ready("/health")}

        for clients, with_adapters, mark in ((1, False, 1.3), (8, False, 1.5), (32, False, 1.5), (8, True, 3)):
            sides = start(clients, with_adapters)
            body = (lambda i: self.body(lora=[{"id": i % 8, "scale": 1.0}])) if with_adapters else (lambda i: self.body())
            try:
                ratios, rates = [], {"loraine": [], "llama": []}
                for attempt in range(self.options.rounds + 1):
                    for name, server in sides.items():
                        rates[name].append(self.tokens_per_second(server, clients, body))
                    if attempt == 0:
                        rates = {"loraine": [], "llama": []}  # the first one touches the memory
                    else:
                        ratios.append(rates["loraine"][-1] / rates["llama"][-1])
                shown = f"{statistics.median(rates['loraine']):.0f} and {statistics.median(rates['llama']):.0f} tokens/s"
                self.tell(f"tokens/s over llama-server's, {clients} client{'s' if clients > 1 else ''}{', 8 adapters' if with_adapters else ''}", ratios, mark, shown=shown)
            finally:
                for server in sides.values():
                    server.stop()

    def adapters(self):
        """Tokens/s of 16 clients with an adapter each, over those of 16 clients with one."""
        adapters = self.named(16)
        server = self.loraine(self.options.model, "--adapter_name_or_path", ",".join(f"{n}={p}" for n, p in adapters.items()))
        try:
            ratios = []
            for attempt in range(self.options.rounds + 1):
                one = self.tokens_per_second(server, 16, lambda i: self.body(model="a0000"))
                many = self.tokens_per_second(server, 16, lambda i: self.body(model=f"a{i % 16:04}"))
                if attempt > 0:
                    ratios.append(many / one)
            self.tell("16 adapters in a batch over one", ratios, 0.95, shown=f"{one:.0f} tokens/s of one")
        finally:
            server.stop()

    def prefix(self):
        """The first token behind 1,000 ids that are in the cache, over a step of decoding behind as many."""
        server = self.loraine(self.options.model)
        try:
            shared = self.prompt(1024)
            ratios = []
            server.stream(self.body(prompt=shared + self.prompt(1)))
            for _ in range(3 * self.options.rounds):
                first, steps = server.stream(self.body(prompt=shared + self.prompt(1), max_tokens=24))
                ratios.append(first / statistics.median(steps))
            self.tell("first token behind a cached prefix of 1,024 ids over a step", ratios, 1.5, at_least=False, shown=f"a step {statistics.median(steps) * 1e3:.1f} ms")
        finally:
            server.stop()

    def busy(self):
        """Tokens/s of 8 clients beside a loop on every core, over those alone."""
        server = self.loraine(self.options.model)
        try:
            ratios = []
            for attempt in range(self.options.rounds + 1):
                alone = self.tokens_per_second(server, 8, lambda i: self.body())
                loops = [subprocess.Popen([sys.executable, "-c", BUSY, str(core)]) for core in sorted(os.sched_getaffinity(0))]
                try:
                    beside = self.tokens_per_second(server, 8, lambda i: self.body())
                finally:
                    for loop in loops:
                        loop.kill()
                        loop.wait()
                if attempt > 0:
                    ratios.append(beside / alone)
            self.tell("beside a loop on every core over alone, 8 clients", ratios, 0.4)
        finally:
            server.stop()

    def zipf(self):
        """A trace of requests of many adapters, as often as Zipf's law says, beside the same trace of one; 16 clients."""
        count, requests = self.options.zipf_adapters, self.options.zipf_requests
        folder = self.work / "zipf"
        for i in range(count):
            self.write_adapter(folder / f"z{i:04}", 5000 + i)
        size = (folder / "z0000/adapter_model.safetensors").stat().st_size
        draw = random.Random(7)
        weights = [1 / (i + 1) for i in range(count)]
        names = draw.choices([f"z{i:04}" for i in range(count)], weights, k=requests)
        shape = [(draw.randrange(16, 65), draw.randrange(4, 17)) for _ in range(requests)]
        trace = [self.body(prompt=self.prompt(length), max_tokens=new) for length, new in shape]

        def run(name_of):
            server = self.loraine(self.options.model, "--adapter_dir", folder, "--allow_runtime_lora_updating", "true", "--max_loaded_adapters", str(count + 1), "--max_resident_adapters", "64",
                                  "--kv_memory", "512MiB")
            try:
                server.complete(self.body(model=names[0]))
                before = server.metric("process_resident_memory_bytes")
                with concurrent.futures.ThreadPoolExecutor(16) as pool:
                    begin = time.perf_counter()
                    firsts = list(pool.map(lambda i: server.stream(trace[i] | {"model": name_of(i)})[0], range(requests)))
                    seconds = time.perf_counter() - begin
                firsts.sort()
                loads, load_seconds = server.metric("loraine_adapter_load_seconds_count"), server.metric("loraine_adapter_load_seconds_sum")
                return {"tokens_per_second": sum(new for _, new in shape) / seconds, "p50": firsts[len(firsts) // 2], "p99": firsts[min(len(firsts) - 1, math.ceil(len(firsts) * 0.99))],
                        "loads": loads, "load_ms": 1e3 * load_seconds / max(loads, 1), "grown": server.metric("process_resident_memory_bytes") - before, "seconds": seconds}
            finally:
                server.stop()

        p99, speed, many, one = [], [], {}, {}
        for _ in range(self.options.zipf_rounds):
            one = run(lambda i: names[0])
            many = run(lambda i: names[i])
            p99.append(many["p99"] / one["p99"])
            speed.append(many["tokens_per_second"] / one["tokens_per_second"])
            print(f"  one adapter: {one}\n  {count} adapters: {many}", flush=True)
        what = f"{requests:,} requests over {count:,} adapters"
        self.tell(f"{what}: p99 of the first token over that of one adapter", p99, 1.3, at_least=False)
        self.tell(f"{what}: tokens/s over those of one adapter", speed, 0.9)
        self.tell(f"{what}: milliseconds to load an adapter", [many["load_ms"]], 10, at_least=False)
        self.tell(f"{what}: memory gained beyond that of one adapter's trace, over 64 adapters", [(many["grown"] - one["grown"]) / (64 * size)], 1, at_least=False,
                  shown=f"an adapter {size / 2**20:.1f} MiB")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--parts", default="against,adapters,prefix,busy,zipf")
    parser.add_argument("--gguf", type=pathlib.Path)
    parser.add_argument("--llama-server", type=pathlib.Path)
    parser.add_argument("--frozen_matmul", default="exact", help="of loraine's side")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2, help="of each client in a round")
    parser.add_argument("--prompt_tokens", type=int, default=32)
    parser.add_argument("--new_tokens", type=int, default=48)
    parser.add_argument("--zipf_adapters", type=int, default=1000)
    parser.add_argument("--zipf_requests", type=int, default=5000)
    parser.add_argument("--zipf_rounds", type=int, default=1)
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as work:
        bench = Bench(options, pathlib.Path(work))
        print("| what | ratio | mark | rounds | |\n|---|---|---|---|---|")
        for part in options.parts.split(","):
            getattr(bench, part)()
    if options.json:
        options.json.write_text(json.dumps({"load": round(os.getloadavg()[0], 1), "cores": len(os.sched_getaffinity(0)), "model": pathlib.Path(options.model).name, "figures": bench.report}, indent=1) + "\n")


main()
