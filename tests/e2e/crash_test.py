#!/usr/bin/env python3
"""Runs that are killed, stopped or denied the disk at any instant: they resume to the same adapter, byte for byte. The short form runs in
ctest (label e2e); `./dev crash` runs the long one (LORAINE_CRASH=long): SIGKILL at 200 and SIGTERM at 20 instants, every write, fsync, rename
and mmap failing once with each of ENOSPC, EIO and EDQUOT."""
import array
import errno
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
shim = os.environ.get("LORAINE_FAILING_IO", "")
stopped, io_failed = 75, 6


class Crash(tiny.Case):
    def arguments(self, out, **changes):
        settings = dict(max_steps=60, save_steps=1, logging_steps=20, save_total_limit=2)
        settings.update(changes)
        return tiny.train_arguments(self.model, self.data, out, **settings)

    def finish(self, out, **settings):
        code, text = tiny.run(*self.arguments(out, **settings))
        self.assertEqual(code, 0, text)
        return (out / "adapter_model.safetensors").read_bytes()

    def interrupt(self, kind, wanted, expected):
        """Interrupts runs at random instants, each going on where the one before was interrupted, until it was done `wanted` times."""
        draw = random.Random(kind)
        begin = time.time()
        whole = self.finish(self.work / "whole")
        length = time.time() - begin
        done = rounds = 0
        while done < wanted:
            rounds += 1
            self.assertLess(rounds, 4 * wanted + 20, "the runs end before they can be interrupted")
            out = self.work / f"out{rounds}"
            while not (out / "adapter_model.safetensors").exists():
                process = subprocess.Popen([tiny.program, *map(str, self.arguments(out))], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                           stderr=subprocess.PIPE)
                try:
                    _, text = process.communicate(timeout=draw.uniform(0, length))
                    self.assertEqual(process.returncode, 0, text)
                except subprocess.TimeoutExpired:
                    process.send_signal(kind)
                    _, text = process.communicate()
                    self.assertIn(process.returncode, (*expected, 0), text)
                    done += process.returncode != 0
                if done >= wanted:
                    break
            self.assertEqual(self.finish(out), whole)
            shutil.rmtree(out)
        print(f"{kind.name}: {done} instants, {rounds} runs, each ended in the same adapter")

    def test_kill(self):
        self.interrupt(signal.SIGKILL, 200 if long else 12, [-signal.SIGKILL])

    def test_stop(self):
        # before the run listens for the signal it ends as any program does
        self.interrupt(signal.SIGTERM, 20 if long else 4, [stopped, -signal.SIGTERM])

    def test_every_call_that_can_fail(self):
        if not shim:
            self.skipTest("the preloaded library is not built (LORAINE_FAILING_IO)")
        settings = dict(max_steps=4, save_steps=2, save_total_limit=5)
        whole = self.finish(self.work / "whole", **settings)
        half = self.work / "half"  # stopped behind its first checkpoint
        self.finish(half, **{**settings, "max_steps": 2})
        for path in half.iterdir():
            if path.is_file():
                path.unlink()
        first = sorted((p.name, p.read_bytes()) for p in (half / "checkpoint-2").iterdir() if p.is_file())

        def run(out, **environment):
            return subprocess.run([tiny.program, *map(str, self.arguments(out, **settings))], capture_output=True, text=True, timeout=60,
                                  env={**os.environ, "LD_PRELOAD": shim, **environment})

        counts_file = self.work / "counts"
        self.assertEqual(run(self.work / "counted", FAIL_COUNTS=str(counts_file)).returncode, 0)
        counts = {kind: int(n) for kind, n in (line.split() for line in counts_file.read_text().splitlines())}
        tried = 0
        for kind, count in counts.items():
            self.assertGreater(count, 0, kind)
            for k in range(1, count + 1):
                for number in (errno.ENOSPC, errno.EIO, errno.EDQUOT):
                    tried += 1
                    if not long and tried % 17:
                        continue
                    out = self.work / f"{kind}{k}"
                    shutil.copytree(half, out)
                    done = run(out, FAIL_CALL=f"{kind}:{k}:{number}")
                    what = f"{kind} {k} of {count} with {errno.errorcode[number]}: exit {done.returncode}\n{done.stderr}"
                    if done.returncode != 0:
                        self.assertEqual(done.returncode, io_failed, what)
                        self.assertIn("error: ", done.stderr, what)
                    kept = sorted((p.name, p.read_bytes()) for p in (out / "checkpoint-2").iterdir() if p.is_file())
                    self.assertEqual(kept, first, what)
                    if done.returncode == 0 or (out / "adapter_model.safetensors").exists():
                        self.assertEqual((out / "adapter_model.safetensors").read_bytes(), whole, what)
                    if done.returncode != 0:
                        self.assertEqual(self.finish(out, **settings), whole, what)
                    shutil.rmtree(out)
        print(f"calls of a run: {counts}")

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
