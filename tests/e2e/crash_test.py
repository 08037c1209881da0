#!/usr/bin/env python3
"""Runs that are killed, stopped or denied the disk at any instant: they resume to the same adapter, byte for byte. The short form runs in
ctest (label e2e); `./dev crash [TEST…]` runs the long one (LORAINE_CRASH=long): SIGKILL, and SIGTERM or SIGINT, at 200 instants each in f32
and bf16 on one and two threads; every write, fsync, rename, mmap and creation of a file failing once, or from then on, with each of ENOSPC,
EIO and EDQUOT. One test alone: Interrupted.test_kill_f32_1, Interrupted.test_stop_bf16_2, …; LORAINE_CRASH_INSTANTS=50 shortens it."""
import array
import errno
import itertools
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import time
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

long = os.environ.get("LORAINE_CRASH") == "long"
instants = int(os.environ.get("LORAINE_CRASH_INSTANTS", 200))  # of a test of the long form
shim = os.environ.get("LORAINE_FAILING_IO", "")
stopped, io_failed = 75, 6
adapter_file = "adapter_model.safetensors"


class Interrupted(tiny.Case):
    """Runs that are interrupted, each going on where the one before was, of a model whose products run in generated kernels."""

    def setUp(self):
        super().setUp()
        self.wide = tiny.write_model(self.work / "wide", **tiny.wide)
        self.rows = tiny.write_rows(self.work / "rows", 12, vocab=tiny.wide["vocab"], lengths=(100, 200))

    def start(self, out, **settings):
        """A run, and when it began."""
        arguments = tiny.train_arguments(self.wide, self.rows, out, **dict(self.settings, **settings))
        begin = time.time()
        process = subprocess.Popen([tiny.program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": self.threads})
        return process, begin

    def finish(self, out):
        process, _ = self.start(out, save_steps=500)
        text = process.communicate()[1]
        self.assertEqual(process.returncode, 0, text)
        return (out / adapter_file).read_bytes()

    def first_step(self, process):
        """Whether one was done before the run ended; the lines that it printed."""
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith(b"train "):
                return True, lines
        return False, lines

    def interrupt(self, kinds, wanted, expected, dtype, threads):
        self.threads = threads
        self.settings = dict(max_steps=8, save_total_limit=2, per_device_train_batch_size=1, gradient_accumulation_steps=1, bf16=str(dtype == "bf16").lower())
        process, begin = self.start(self.work / "whole", save_steps=1)
        self.assertTrue(self.first_step(process)[0])
        start = time.time() - begin
        self.assertEqual(process.wait(), 0)
        steps = time.time() - begin - start  # seconds of all of them
        process.stderr.close()
        whole = (self.work / "whole" / adapter_file).read_bytes()
        draw = random.Random(f"{kinds} {dtype} {threads}")
        lost, done = [], 0
        for rounds in itertools.count(1):
            self.assertLess(rounds, 4 * wanted + 20, "the runs end before they can be interrupted")
            out = self.work / f"out{rounds}"
            early = rounds % 2 == 0  # no checkpoint but at the end, or when it is stopped: what is killed begins anew
            tries = 0
            while done < wanted and not (out / adapter_file).exists() and tries < (3 if early else 100):
                tries += 1
                step = max((int(p.name.split("-")[1]) for p in out.glob("checkpoint-*")), default=0)
                left = steps * (1 - step / self.settings["max_steps"])
                kind = draw.choice(kinds)
                process, _ = self.start(out, save_steps=500 if early else 1)
                lines = []
                if kind == signal.SIGKILL:
                    time.sleep(draw.uniform(0, start + left))
                else:  # behind its first step it has a place to go on from
                    _, lines = self.first_step(process)
                    time.sleep(draw.uniform(0, left))
                process.send_signal(kind)
                text = b"".join(lines) + process.communicate()[1]
                done += process.returncode != 0
                if process.returncode not in (*expected, 0):
                    lost.append(f"{kind.name}: exit {process.returncode}\n{text.decode()[-600:]}")
            if self.finish(out) != whole:
                lost.append(f"run {rounds} ended in another adapter")
            shutil.rmtree(out)
            if done >= wanted:
                break
        print(f"{'/'.join(kind.name for kind in kinds)}, {dtype}, {threads} threads: {len(lost)} of {done} lost in {rounds} runs")
        self.assertEqual(lost, [])


def add_interrupted(name, kinds, expected, dtype, threads, in_short_form):
    def test(self):
        if not long and not in_short_form:
            self.skipTest("part of the long form")
        self.interrupt(kinds, instants if long else 4, expected, dtype, threads)

    setattr(Interrupted, f"test_{name}_{dtype}_{threads}", test)


for name, kinds, expected, short in (
    ("kill", [signal.SIGKILL], [-signal.SIGKILL], ("f32_2", "bf16_1")),
    ("stop", [signal.SIGTERM, signal.SIGINT], [stopped], ("f32_1", "bf16_2")),
):
    for dtype in ("f32", "bf16"):
        for threads in ("1", "2"):
            add_interrupted(name, kinds, expected, dtype, threads, f"{dtype}_{threads}" in short)


class Crash(tiny.Case):
    def arguments(self, out, **changes):
        settings = dict(max_steps=60, save_steps=1, logging_steps=20, save_total_limit=2)
        settings.update(changes)
        return tiny.train_arguments(self.model, self.data, out, **settings)

    def finish(self, out, **settings):
        code, text = tiny.run(*self.arguments(out, **settings))
        self.assertEqual(code, 0, text)
        return (out / adapter_file).read_bytes()

    def test_kill(self):
        """Kills of a tiny model: most of its time goes into saving."""
        draw = random.Random(9)
        begin = time.time()
        whole = self.finish(self.work / "whole")
        length = time.time() - begin
        done = rounds = 0
        wanted = instants if long else 12
        while done < wanted:
            rounds += 1
            self.assertLess(rounds, 4 * wanted + 20, "the runs end before they can be killed")
            out = self.work / f"out{rounds}"
            while done < wanted and not (out / adapter_file).exists():
                process = subprocess.Popen([tiny.program, *map(str, self.arguments(out))], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.PIPE)
                time.sleep(draw.uniform(0, length))
                process.kill()
                text = process.communicate()[1]
                self.assertIn(process.returncode, (-signal.SIGKILL, 0), text)
                done += process.returncode != 0
            self.assertEqual(self.finish(out), whole)
            self.assertEqual([p.name for p in out.iterdir() if p.name.startswith(".") and p.name != ".loraine.lock"], [])
            self.assertEqual(len(list(out.glob("checkpoint-*"))), 2)
            shutil.rmtree(out)
        print(f"{done} kills, {rounds} runs, each ended in the same adapter")

    def with_shim(self, arguments, **environment):
        return subprocess.run([tiny.program, *map(str, arguments)], capture_output=True, text=True, timeout=60,
                              env={**os.environ, "LD_PRELOAD": shim, **environment})

    def calls(self, arguments):
        """How many calls of each kind there are in a command that succeeds, in the order of the shim."""
        file = self.work / "counts"
        done = self.with_shim(arguments, FAIL_COUNTS=str(file))
        self.assertEqual(done.returncode, 0, done.stderr)
        return {kind: int(n) for kind, n in (line.split() for line in file.read_text().splitlines())}

    def denied(self, counts, every):
        """(call, description) of what the disk denies: each call once, and each write or creation with all that follow; every n-th of them."""
        wishes = [(kind, k, "") for kind, count in counts.items() for k in range(1, count + 1) if kind != "disk"]
        wishes += [("disk", k, "+") for k in range(1, counts["disk"] + 1)]
        for index, ((kind, k, on), number) in enumerate(itertools.product(wishes, (errno.ENOSPC, errno.EIO, errno.EDQUOT))):
            if long or index % every == 0:
                yield f"{kind}:{k}{on}:{number}", f"{kind} {k}{on} of {counts[kind]} with {errno.errorcode[number]}"

    @unittest.skipUnless(shim, "the preloaded library is not built (LORAINE_FAILING_IO)")
    def test_every_call_that_can_fail(self):
        settings = dict(max_steps=4, save_steps=2, save_total_limit=5)
        whole = self.finish(self.work / "whole", **settings)
        half = self.work / "half"  # stopped behind its first checkpoint
        self.finish(half, **{**settings, "max_steps": 2})
        for path in half.iterdir():
            if path.is_file():
                path.unlink()
        first = sorted((p.name, p.read_bytes()) for p in (half / "checkpoint-2").iterdir() if p.is_file())
        # from a checkpoint; from nothing; from nothing without any checkpoint; with logs for other programs
        for beginning, more, every in ((half, {}, 67), (None, {}, 67), (None, {"save_strategy": "no"}, 31), (None, {"report_to": "all"}, 59)):
            counts = self.calls(self.arguments(self.work / f"counted{every}{beginning is None}", **settings, **more))
            out = self.work / "out"
            for call, what in self.denied(counts, every):
                if beginning:
                    shutil.copytree(half, out)
                done = self.with_shim(self.arguments(out, **settings, **more), FAIL_CALL=call)
                what = f"{what}: exit {done.returncode}\n{done.stderr}"
                if done.returncode != 0:
                    self.assertEqual(done.returncode, io_failed, what)
                    self.assertIn("error: ", done.stderr, what)
                if beginning:
                    self.assertEqual(sorted((p.name, p.read_bytes()) for p in (out / "checkpoint-2").iterdir() if p.is_file()), first, what)
                if done.returncode == 0 or (out / adapter_file).exists():
                    self.assertEqual((out / adapter_file).read_bytes(), whole, what)
                if "save_strategy" in more and done.returncode != 0:
                    self.assertFalse((out / adapter_file).exists(), what)
                if done.returncode != 0:
                    code, text = tiny.run(*self.arguments(out, **settings, **more))
                    self.assertEqual(code, 0, f"{what}\n{text}")
                    self.assertEqual((out / adapter_file).read_bytes(), whole, what)
                self.assertEqual([p.name for p in out.iterdir() if p.name.startswith(".") and p.name != ".loraine.lock"], [], what)
                shutil.rmtree(out)
            print(f"calls of a run: {counts}")

    @unittest.skipUnless(shim, "the preloaded library is not built (LORAINE_FAILING_IO)")
    def test_a_disk_that_has_no_room_for_ids(self):
        """Ids of examples that are too many for memory go to a file, which cannot grow or be written."""
        self.finish(self.work / "whole", max_steps=2)
        said = ""
        for place in range(1, 6):
            done = self.with_shim(self.arguments(self.work / "out", max_steps=2), FAIL_CALL=f"write:{place}+:28", LORAINE_IDS_IN_MEMORY="0")
            self.assertEqual(done.returncode, io_failed, done.stderr)
            said += done.stderr
        for words in ("the file for ids of examples cannot grow, 0 MB so far: No space left on device", "the ids of examples cannot be written, ", "TMPDIR"):
            self.assertIn(words, said)
        done = self.with_shim(self.arguments(self.work / "out", max_steps=2), LORAINE_IDS_IN_MEMORY="0")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(*((self.work / name / adapter_file).read_bytes() for name in ("whole", "out")))

    @unittest.skipUnless(shim, "the preloaded library is not built (LORAINE_FAILING_IO)")
    def test_a_disk_that_fills_leaves_nothing(self):
        """Commands that write several files: none is left, and the next try succeeds."""
        tiny.write_tokenizer(self.model)
        adapter = self.work / "adapter"
        self.finish(adapter, max_steps=2)
        out = self.work / "written"
        base = ["--model_name_or_path", self.model, "--adapter_name_or_path", adapter]
        gguf = next(p for p in sorted((tiny.root / "fuzz/corpus/gguf").iterdir()) if tiny.run("convert", p, self.work / "tried")[0] == 0)
        whole = {}
        for name, arguments in {
            "export": ["export", *base, "--export_dir", out],
            "legacy": ["export", *base, "--export_dir", out, "--export_legacy_format", "true"],
            "quantised": ["export", "--model_name_or_path", self.model, "--quantization_bit", 4, "--export_dir", out],
            "loftq": ["export", "--model_name_or_path", self.model, "--init_lora_weights", "loftq", "--lora_target", "all", "--export_dir", out],
            "convert": ["convert", gguf, out],
            "eval": ["eval", *base, "--eval_dataset", "rows", "--dataset_dir", self.data, "--compare", "true", "--output_dir", out],
        }.items():
            counts = self.calls(arguments)
            whole[name] = sorted(p.relative_to(out) for p in out.rglob("*"))
            self.assertGreater(len(whole[name]), 1, name)
            shutil.rmtree(out)
            for call, what in self.denied(counts, 41):
                done = self.with_shim(arguments, FAIL_CALL=call)
                what = f"{name}, {what}: exit {done.returncode}\n{done.stderr}"
                if done.returncode != 0:
                    self.assertEqual(done.returncode, io_failed, what)
                    self.assertFalse(out.exists(), what)
                    code, text = tiny.run(*arguments)
                    self.assertEqual(code, 0, f"{what}\n{text}")
                self.assertEqual(sorted(p.relative_to(out) for p in out.rglob("*")), whole[name], what)
                shutil.rmtree(out)
            print(f"calls of {name}: {counts}")

    def test_killed_exports(self):
        """What a killed export left is not in the way of the next one, unless it is the whole model."""
        out = self.work / "written"
        arguments = ["export", "--model_name_or_path", self.model, "--export_dir", out]
        begin = time.time()
        self.assertEqual(tiny.run(*arguments)[0], 0)
        length = time.time() - begin
        whole = {p.name: p.read_bytes() for p in out.iterdir()}
        draw = random.Random(4)
        kills = complete = 0
        for _ in range(100 if long else 10):
            shutil.rmtree(out)
            for _ in range(3):
                process = subprocess.Popen([tiny.program, *map(str, arguments)], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(draw.uniform(0, length))
                process.kill()
                kills += process.wait() != 0
            code, text = tiny.run(*arguments)
            complete += code != 0
            self.assertIn(code, (0, 2), text)  # 2: it was complete
            self.assertEqual({p.name: p.read_bytes() for p in out.iterdir()}, whole, text)
        print(f"{kills} kills of exports, {complete} of them behind the end")

    def damage(self, path, run, what):
        """Flips a bit and cuts the file at every 64th byte; `run` gives the exit code and text. None may end by a signal or without a message."""
        whole = path.read_bytes()
        tried = refused = 0
        try:
            for at in range(0, len(whole), 64 if long else 64 * 7):
                flipped = bytearray(whole)
                flipped[at] ^= 1 << at // 64 % 8
                for data in (bytes(flipped), whole[:at]):
                    path.write_bytes(data)
                    code, text = run()
                    self.assertIn(code, (0, 2, 3, 5, 6), f"{what}, byte {at}: {text}")
                    if code:
                        self.assertRegex(text, r"(?m)^error: .{10,}", f"{what}, byte {at}")
                    if data == whole[:at]:
                        self.assertNotEqual(code, 0, f"{what} cut at byte {at} of {len(whole)} was taken for a whole one")
                    tried += 1
                    refused += code != 0
        finally:
            path.write_bytes(whole)
        print(f"{what}: {tried} damaged files, {refused} refused, none crashed")

    def test_damaged_files(self):
        out = self.work / "run"
        self.finish(out, max_steps=2)
        ids = array.array("q", [5, 9, 20, 33]).tobytes()
        batch = self.work / "in.safetensors"
        tiny.write_safetensors(batch, {"input_ids": ("I64", [1, 4], ids)})

        def trace():
            return tiny.run("trace", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--batch", batch, "--output", self.work / "x")

        self.assertEqual(trace()[0], 0)
        for path in (self.model / "model.safetensors", self.model / "config.json", out / "adapter_model.safetensors", out / "adapter_config.json"):
            self.damage(path, trace, path.name)
        for path in sorted((tiny.root / "fuzz/corpus/gguf").iterdir()):
            copy = self.work / "model.gguf"
            shutil.copy(path, copy)
            target = self.work / "converted"

            def convert():
                shutil.rmtree(target, ignore_errors=True)
                return tiny.run("convert", copy, target)

            self.damage(copy, convert, f"GGUF {path.name}")

    def test_damaged_checkpoint(self):
        """A checkpoint has checksums: a damaged one is named and passed over, so that the run ends in the same adapter."""
        settings = dict(max_steps=3)
        whole = self.finish(self.work / "whole", **settings)
        out = self.work / "run"
        self.finish(out, max_steps=2)
        for path in out.iterdir():
            if path.is_file():
                path.unlink()
        last = out / "checkpoint-2"
        for path in sorted(p for p in last.iterdir() if p.is_file()):
            data = path.read_bytes()
            for at in range(0, len(data), 64 if long else 64 * 31):
                copy = self.work / "copy"
                shutil.copytree(out, copy)
                flipped = bytearray(data)
                flipped[at] ^= 1 << at // 64 % 8
                (copy / "checkpoint-2" / path.name).write_bytes(bytes(flipped))
                code, text = tiny.run(*self.arguments(copy, **settings))
                self.assertEqual(code, 0, text)
                self.assertEqual((copy / "adapter_model.safetensors").read_bytes(), whole, f"{path.name}, byte {at}\n{text}")
                shutil.rmtree(copy)


if __name__ == "__main__":
    unittest.main()
