#!/usr/bin/env python3
"""loraine adapter from end to end: every subcommand on small trained adapters; what it writes answers in `trace` as it should, and where PEFT can be
imported (INTEROP_VENV, or the running Python) its own sums are compared. Run by ctest (label e2e)."""
import array
import json
import math
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


class Adapter(tiny.Case):
    def adapter(self, *words):
        """stdout of a run that ends well"""
        done = subprocess.run([tiny.program, "adapter", *map(str, words)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        self.said = done.stderr
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        return done.stdout

    def refused(self, code, words, *texts):
        done = subprocess.run([tiny.program, "adapter", *map(str, words)], capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
        self.assertEqual(done.returncode, code, done.stdout + done.stderr)
        for text in texts:
            self.assertIn(text, done.stderr)

    def trained(self, name, **changes):
        out = self.work / name
        self.good(tiny.run(*tiny.train_arguments(self.model, self.data, out, **({"learning_rate": "3e-2", "max_steps": 4} | changes))))
        return out

    def good(self, result):
        self.assertEqual(result[0], 0, result[1])
        return result[1]

    def merged(self, name, *adapters):
        self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", ",".join(map(str, adapters)), "--export_dir", self.work / name))
        return self.work / name

    def logits(self, model, *adapters):
        ids = array.array("q", [3 + (7 * i) % 60 for i in range(24)]).tobytes()
        batch, output = self.work / "batch.safetensors", self.work / "trace.safetensors"
        tiny.write_safetensors(batch, {"input_ids": ("I64", [2, 12], ids), "labels": ("I64", [2, 12], ids)})
        given = ["--adapter_name_or_path", ",".join(map(str, adapters))] if adapters else []
        self.good(tiny.run("trace", "--model_name_or_path", model, *given, "--batch", batch, "--output", output))
        return tiny.read_safetensors(output)["logits"][1]

    def close(self, one, two, tolerance=2e-5):
        self.assertEqual(len(one), len(two))
        self.assertLess(max(abs(a - b) for a, b in zip(one, two)), tolerance)

    def deltas(self, folder):
        """module -> ΔW as rows, of a folder with plain targets and no patterns"""
        config = json.loads((folder / "adapter_config.json").read_text())
        scale = config["lora_alpha"] / (math.sqrt(config["r"]) if config["use_rslora"] else config["r"])
        tensors = tiny.read_safetensors(folder / "adapter_model.safetensors")
        found = {}
        for name, (shape, a) in tensors.items():
            if not name.endswith(".lora_A.weight"):
                continue
            r, inputs = shape
            (outputs, _), b = tensors[name.replace("lora_A", "lora_B")]
            found[name[len("base_model.model."):-len(".lora_A.weight")]] = [
                [scale * sum(b[o * r + k] * a[k * inputs + i] for k in range(r)) for i in range(inputs)] for o in range(outputs)]
        return found

    def test_list_and_info(self):
        first = self.trained("first", lora_target="q_proj,v_proj")
        second = self.trained("second", lora_rank=8, use_dora="true", lora_target="q_proj")
        (self.work / "broken").mkdir()
        (self.work / "broken/adapter_config.json").write_text('{"peft_type": "LORA"')
        table = self.adapter("list", self.work)
        self.assertIn("dora", table)
        self.assertIn("q_proj, v_proj", table)
        self.assertIn("unreadable", table)
        listed = {pathlib.Path(each["path"]).name: each for each in json.loads(self.adapter("list", self.work, "--json"))}
        self.assertEqual((listed["first"]["method"], listed["second"]["method"]), ("lora", "dora"))
        self.assertIn("error", listed["broken"])
        info = json.loads(self.adapter("info", first, "--json"))
        self.assertEqual((info["r"], info["lora_alpha"], info["target_modules"], info["dtype"], info["adapted_modules"]), (4, 8, ["q_proj", "v_proj"], "F32", 4))
        self.assertEqual(info["parameters"], 2 * (4 * 16 + 16 * 4) + 2 * (4 * 16 + 8 * 4))
        self.assertEqual(info["base_model_name_or_path"], str(self.model))
        self.assertIn("peft_version", self.adapter("info", second))
        self.refused(3, ["info", self.work / "broken"], "adapter_config.json")
        self.refused(3, ["list", self.work / "absent"], "no such folder")

    def test_check(self):
        plain, dora = self.trained("plain", lora_rank=20, lora_target="q_proj"), self.trained("dora", use_dora="true", lora_target="q_proj")
        self.assertIn("--max-lora-rank 32", self.adapter("check", plain))
        self.assertIn("loraine export", self.adapter("check", dora))
        self.assertEqual({v["verdict"] for v in json.loads(self.adapter("check", plain, "--for", "loraine,peft", "--json"))}, {"loads"})
        done = tiny.run("adapter", "check", dora, "--for", "vllm")
        self.assertEqual((done[0], "use_dora" in done[1]), (1, True))
        self.refused(2, ["check", plain, "--for", "torch"], "one or more of")

    def test_merge(self):
        one, two = self.trained("one", lora_target="q_proj,down_proj"), self.trained("two", lora_rank=2, lora_target="q_proj,v_proj", seed=7)
        self.assertIn("rank 6", self.adapter("merge", one, two, "--output_dir", self.work / "cat") + self.said)
        self.close(self.logits(self.model, self.work / "cat"), self.logits(self.model, one, two))
        self.close(self.logits(self.model, self.work / "cat"), self.logits(self.merged("whole", one, two)))
        self.adapter("merge", one, two, "--weights", "0.5,-1", "--output_dir", self.work / "weighted", "--combination_type", "svd", "--svd_rank", 6)
        got, a, b = (self.deltas(folder) for folder in (self.work / "weighted", one, two))
        q = "model.layers.0.self_attn.q_proj"
        for row in range(16):
            self.close(got[q][row], [0.5 * x - y for x, y in zip(a[q][row], b[q][row])])
        self.assertEqual(set(got), set(a) | set(b))
        card = (self.work / "weighted/README.md").read_text()
        self.assertIn("combination_type `svd`", card)
        for kind in ("ties_svd", "dare_linear_svd", "dare_ties_svd", "magnitude_prune_svd"):
            self.adapter("merge", one, two, "--combination_type", kind, "--density", 0.5, "--output_dir", self.work / kind)
            self.logits(self.model, self.work / kind)
        self.adapter("merge", one, two, "--combination_type", "dare_linear_svd", "--density", 0.5, "--output_dir", self.work / "again")
        self.assertEqual((self.work / "again/adapter_model.safetensors").read_bytes(), (self.work / "dare_linear_svd/adapter_model.safetensors").read_bytes())
        self.adapter("merge", one, two, "--combination_type", "dare_linear_svd", "--density", 0.5, "--seed", 7, "--output_dir", self.work / "seed")
        self.assertNotEqual((self.work / "again/adapter_model.safetensors").read_bytes(), (self.work / "seed/adapter_model.safetensors").read_bytes())
        out = self.work / "none"
        self.refused(2, ["merge", one, two, "--combination_type", "linear", "--output_dir", out], "ranks differ")
        self.refused(2, ["merge", one, two, "--combination_type", "ties", "--output_dir", out], "density")
        self.refused(2, ["merge", one, two, "--weights", "1", "--output_dir", out], "weights has 1")
        self.refused(2, ["merge", one, two, "--weigths", "1", "--output_dir", out], "--weights")
        self.refused(2, ["merge", one, two, "--output_dir", self.work / "cat"], "already")
        self.refused(2, ["merge", one, two], "output_dir")
        self.refused(2, ["merge", one, self.trained("dora", use_dora="true", lora_target="q_proj"), "--output_dir", out], "use_dora")
        self.assertFalse(out.exists())

    def test_diff(self):
        one, two = self.trained("one"), self.trained("two", seed=7, lora_rank=2)
        self.assertIn("φ in", self.adapter("diff", one, two))
        found = json.loads(self.adapter("diff", one, two, "--json", "--plot", self.work / "apart.png"))
        self.assertEqual((self.work / "apart.png").read_bytes()[:4], b"\x89PNG")
        a, b = self.deltas(one), self.deltas(two)
        norm = lambda rows: math.sqrt(sum(x * x for row in rows for x in row))
        for name, module in found["modules"].items():
            self.assertAlmostEqual(module["first_norm"], norm(a[name]), delta=1e-5 * norm(a[name]))
            apart = norm([[x - y for x, y in zip(*rows)] for rows in zip(a[name], b[name])])
            self.assertAlmostEqual(module["distance"], apart, delta=1e-5 * apart)
            dot = sum(x * y for rows in zip(a[name], b[name]) for x, y in zip(*rows))
            self.assertAlmostEqual(module["cosine"], dot / norm(a[name]) / norm(b[name]), delta=1e-5)
            self.assertTrue(0 <= module["phi_in"] <= 1.000001 and module["directions"] <= 2)
        same = json.loads(self.adapter("diff", one, one, "--json"))["total"]
        self.assertEqual(same["distance"], 0)
        self.assertAlmostEqual(same["phi_out"], 1, delta=1e-5)
        self.refused(2, ["diff", one], "expected two")

    def test_resize(self):
        one = self.trained("one", lora_rank=8)
        self.assertIn("energy kept", self.adapter("resize", one, "--rank", 8, "--output_dir", self.work / "same"))
        self.close(self.logits(self.model, self.work / "same"), self.logits(self.model, one))
        kept = json.loads(self.adapter("resize", one, "--rank", 2, "--output_dir", self.work / "two", "--json"))
        apart = json.loads(self.adapter("diff", one, self.work / "two", "--json"))
        for name, module in kept["modules"].items():
            self.assertAlmostEqual(1 - module["energy_kept"], (apart["modules"][name]["distance"] / module["norm"]) ** 2, delta=1e-5)
        kept = json.loads(self.adapter("resize", one, "--energy", 0.9, "--output_dir", self.work / "energy", "--json"))
        self.assertTrue(all(module["energy_kept"] >= 0.9 for module in kept["modules"].values()))
        self.logits(self.model, self.work / "energy")  # ranks of their own: patterns
        self.adapter("resize", one, "--energy", 0.9, "--uniform", "--dtype", "bfloat16", "--output_dir", self.work / "uniform")
        self.assertEqual(json.loads((self.work / "uniform/adapter_config.json").read_text())["rank_pattern"], {})
        self.close(self.logits(self.model, self.work / "uniform"), self.logits(self.model, self.work / "energy"), 2e-2)
        self.refused(2, ["resize", one, "--output_dir", self.work / "x"], "neither rank nor energy")
        self.refused(2, ["resize", one, "--energy", "2", "--output_dir", self.work / "x"], "energy")

    def test_extract(self):
        one = self.trained("one", lora_target="q_proj,down_proj")
        tuned = self.merged("tuned", one)
        self.adapter("extract", self.model, tuned, "--rank", 4, "--output_dir", self.work / "found")
        self.assertIn("11 equal", self.said)
        self.close(self.logits(self.model, self.work / "found"), self.logits(tuned), 1e-4)
        self.adapter("extract", self.model, tuned, "--energy", 0.5, "--output_dir", self.work / "half")
        self.logits(self.model, self.work / "half")
        whole = tiny.llama_tensors(1)
        values = array.array("f", whole["model.norm.weight"][2])
        values[0] += 1
        whole["model.norm.weight"] = (*whole["model.norm.weight"][:2], values.tobytes())
        q = "model.layers.0.self_attn.q_proj.weight"
        changed = array.array("f", whole[q][2])
        changed[5] += 0.5
        whole[q] = (*whole[q][:2], changed.tobytes())
        other = tiny.write_model(self.work / "other")
        tiny.write_safetensors(other / "model.safetensors", whole)
        self.adapter("extract", self.model, other, "--rank", 1, "--output_dir", self.work / "partly")
        self.assertIn("model.norm.weight", self.said)
        self.adapter("extract", self.model, other, "--rank", 1, "--modules_to_save", "norm", "--output_dir", self.work / "wholly")
        self.assertNotIn("warning", self.said)
        self.close(self.logits(self.model, self.work / "wholly"), self.logits(other), 1e-4)
        self.refused(3, ["extract", self.model, tiny.write_model(self.work / "wide", inner=40), "--rank", 2, "--output_dir", self.work / "x"], "[32, 16] in the base")
        self.refused(3, ["extract", self.model, self.model, "--rank", 2, "--output_dir", self.work / "x"], "same values")

    def test_convert(self):
        one = self.trained("one", use_rslora="true")
        right = self.logits(self.model, one)
        base = ["--model_name_or_path", self.model]
        for kind, output, more in (("mlx", "mlx", []), ("gguf", "one.gguf", base), ("kohya", "one.safetensors", base)):
            self.adapter("convert", one, "--to", kind, "--output", self.work / output, *(base if kind == "gguf" else []))
            back = self.work / ("back_" + kind)
            self.adapter("convert", self.work / output, "--output", back, *more)
            self.close(self.logits(self.model, back), right)
            self.refused(2, ["convert", one, "--to", kind, "--output", self.work / output, *base], "already")
        config = json.loads((self.work / "mlx/adapter_config.json").read_text())
        self.assertEqual((config["lora_parameters"]["rank"], config["num_layers"]), (4, -1))
        self.adapter("convert", self.work / "mlx", "--to", "kohya", "--output", self.work / "direct.safetensors")
        self.refused(2, ["convert", self.work / "one.safetensors", "--output", self.work / "x"], "underscores")
        self.refused(2, ["convert", self.work / "one.gguf", "--output", self.work / "x"], "pairs")
        self.refused(2, ["convert", one, "--output", self.work / "x"], "peft already")
        self.refused(3, ["convert", self.model, "--output", self.work / "x"], "adapter_config.json")
        self.assertEqual([path.name for path in self.work.iterdir() if path.name.startswith(".")], [])

    def test_help(self):
        self.assertIn("resize", self.adapter())
        for name in ("list", "info", "check", "merge", "diff", "resize", "extract", "convert"):
            self.assertIn(f"usage: loraine adapter {name}", self.adapter(name, "--help"))
        self.refused(2, ["mrege"], "did you mean 'merge'?")

    def test_peft_adds_them_up_alike(self):
        python = pathlib.Path(os.environ.get("INTEROP_VENV", tiny.root / "build/venv")) / "bin/python"
        if not python.exists():
            self.skipTest("no PEFT: ./dev interop installs it, INTEROP_VENV names it")
        one, two = self.trained("one", lora_target="q_proj,down_proj", use_rslora="false"), self.trained("two", lora_target="q_proj,v_proj", seed=7)
        script = pathlib.Path(__file__).resolve().parent.parent.parent / "tools/interop_adapters.py"
        done = subprocess.run([python, script, self.model, one, two, self.work], capture_output=True, text=True, timeout=600, env={**os.environ, "LORAINE_PROGRAM": str(tiny.program)})
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)


if __name__ == "__main__":
    unittest.main()
