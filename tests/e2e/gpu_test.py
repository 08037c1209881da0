#!/usr/bin/env python3
"""`device: cuda` in whole runs on the emulated GPU: the figures and files are the CPU's within rounding, in every order of threads, blocks and copies
with the same bits; a run goes on from a checkpoint of either; recorded runs of LLaMA-Factory; what has no GPU code is refused by name. Run by ctest
(label e2e)."""
import array
import json
import math
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

RECORDED = ["sft_lora", "sft_lora_qwen3"]  # the others that the GPU can take are as slow, and no other code


def apart(ours, theirs):
    """The largest difference of two files of tensors, to the largest element of each tensor."""
    ours, theirs = tiny.read_safetensors(ours), tiny.read_safetensors(theirs)
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    worst = 0
    for name, (shape, values) in theirs.items():
        assert shape == ours[name][0], name
        largest = max(map(abs, values)) or 1
        worst = max(worst, max(abs(a - b) for a, b in zip(ours[name][1], values)) / largest)
    return worst


def log_of(out):
    return json.loads((out / "trainer_state.json").read_text())["log_history"]


class Gpu(tiny.Case):
    def setUp(self):
        super().setUp()
        if "this build has no CUDA code" not in tiny.run(*self.arguments(device="cuda"))[1]:
            self.skipTest("a build with CUDA code has no emulated GPU")
        os.environ["LORAINE_GPU"] = "emulated"
        self.addCleanup(os.environ.pop, "LORAINE_GPU", None)
        self.addCleanup(os.environ.pop, "LORAINE_GPU_ORDER", None)

    def train(self, name, **changes):
        out = self.work / name
        text = self.good(tiny.run(*self.arguments(out=out, **{"max_steps": 6, "save_steps": 3, **changes})))
        self.assertNotIn("emulated GPU: the host touches", text)
        self.assertNotIn("emulated GPU: a kernel or copy touches", text)
        self.assertEqual("device: emulated GPU" in text, changes.get("device") == "cuda", text)
        return out

    def same_figures(self, ours, theirs, limit):
        ours, theirs = log_of(ours), log_of(theirs)
        self.assertEqual(len(ours), len(theirs))
        for entry, wanted in zip(ours, theirs):
            for key in ("loss", "grad_norm", "learning_rate", "eval_loss", "eval_accuracy"):
                self.assertEqual(key in entry, key in wanted)
                if key in wanted:
                    self.assertTrue(math.isclose(entry[key], wanted[key], rel_tol=limit, abs_tol=1e-12), (key, entry[key], wanted[key]))

    def test_a_run_is_that_of_the_cpu(self):
        evaluated = dict(val_size=5, eval_strategy="steps", eval_steps=2, per_device_eval_batch_size=2, compute_accuracy="true", weight_decay=0.1)
        for name, changes, limit in (("f32", evaluated, 1e-4), ("dropout", {"lora_dropout": 0.2}, 1e-4), ("bf16", {"bf16": "true"}, 2e-2), ("nf4", {"quantization_bit": 4}, 1e-4),
                                     ("loftq", {"init_lora_weights": "loftq"}, 1e-4), ("loraplus", {"loraplus_lr_ratio": 4, "weight_decay": 0.1}, 1e-4),
                                     ("dora", {"use_dora": "true", "lora_dropout": 0.1}, 1e-4), ("neftune", {"neftune_noise_alpha": 5}, 1e-4)):
            with self.subTest(name):
                cpu, gpu = self.train(f"{name}_cpu", device="cpu", **changes), self.train(f"{name}_gpu", device="cuda", **changes)
                self.same_figures(gpu, cpu, limit)
                if name == "bf16":
                    continue
                for file in ("adapter_model.safetensors", "checkpoint-3/adapter_model.safetensors", "checkpoint-3/optimizer.safetensors"):
                    self.assertLess(apart(gpu / file, cpu / file), 1e-3, file)
                self.assertEqual({path.name for path in gpu.iterdir()}, {path.name for path in cpu.iterdir()})
                for place, out in (("cpu", cpu), ("gpu", gpu)):
                    self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", out, "--export_dir", self.work / f"{name}_{place}_merged"))
                self.assertLess(apart(*(self.work / f"{name}_{place}_merged/model.safetensors" for place in ("gpu", "cpu"))), 1e-3)

    def test_checkpoints_of_codes(self):
        """As bitsandbytes writes them: trained, traced and asked, with the figures of the same codes that are made while loading."""
        ids = [5, 9, 33, 7, 12, 40]
        batch = self.work / "codes.safetensors"
        tiny.write_safetensors(batch, {"input_ids": ("I64", [1, 6], array.array("q", ids).tobytes())})
        for name, bits in (("nf4", ["--quantization_bit", 4]), ("fp4", ["--quantization_bit", 4, "--quantization_type", "fp4", "--double_quantization", "false"]),
                           ("int8", ["--quantization_bit", 8])):
            with self.subTest(name):
                base = self.work / f"{name}_base"
                self.good(tiny.run("export", "--model_name_or_path", self.model, "--export_dir", base, *bits))
                settings = {word.strip("-"): value for word, value in zip(bits[::2], bits[1::2])}
                stored = self.train(f"{name}_stored", device="cuda", model_name_or_path=base, max_steps=2)
                loading = self.train(f"{name}_loading", device="cuda", max_steps=2, **settings)
                cpu = self.train(f"{name}_cpu", device="cpu", max_steps=2, **settings)
                self.assertEqual((stored / "adapter_model.safetensors").read_bytes(), (loading / "adapter_model.safetensors").read_bytes())
                self.assertLess(apart(stored / "adapter_model.safetensors", cpu / "adapter_model.safetensors"), 1e-3)
                traced = []
                for device in ("cpu", "cuda"):
                    out = self.work / f"{name}_{device}_trace"
                    self.quiet(tiny.run("trace", "--model_name_or_path", base, "--adapter_name_or_path", cpu, "--device", device, "--batch", batch, "--output", out,
                                        "--max_new_tokens", 4))
                    traced.append(tiny.read_safetensors(out))
                self.assertEqual(traced[0]["generated_ids"], traced[1]["generated_ids"])
                for one, other in zip(traced[0]["logits"][1], traced[1]["logits"][1]):
                    self.assertAlmostEqual(one, other, delta=1e-5)

    def test_every_order_has_the_same_bits(self):
        results = set()
        for order in range(4):
            os.environ["LORAINE_GPU_ORDER"] = str(order)
            out = self.train(f"order_{order}", device="cuda", max_steps=3)
            results.add((out / "adapter_model.safetensors").read_bytes() + (out / "checkpoint-3/optimizer.safetensors").read_bytes())
        self.assertEqual(len(results), 1)

    def test_resumed_runs(self):
        whole = self.train("whole", device="cuda")
        for device in ("cuda", "cpu"):
            half = self.train(f"half_{device}", device=device, resume_from_checkpoint=whole / "checkpoint-3")
            file = "checkpoint-6/optimizer.safetensors"
            if device == "cuda":
                self.assertEqual((half / "adapter_model.safetensors").read_bytes(), (whole / "adapter_model.safetensors").read_bytes())
                self.assertEqual((half / file).read_bytes(), (whole / file).read_bytes())
            else:
                self.assertLess(apart(half / "adapter_model.safetensors", whole / "adapter_model.safetensors"), 1e-3)
                self.assertLess(apart(half / file, whole / file), 1e-3)

    def test_the_best_checkpoint_is_loaded_and_evaluated(self):
        best = dict(val_size=5, eval_strategy="steps", eval_steps=1, save_steps=1, load_best_model_at_end="true", learning_rate=1, max_steps=3)
        cpu, gpu = self.train("best_cpu", device="cpu", **best), self.train("best_gpu", device="cuda", **best)
        states = [json.loads((out / "trainer_state.json").read_text()) for out in (cpu, gpu)]
        self.assertEqual(states[0]["best_global_step"], states[1]["best_global_step"])
        results = [json.loads((out / "all_results.json").read_text())["eval_loss"] for out in (cpu, gpu)]
        self.assertTrue(math.isclose(*results, rel_tol=1e-4), results)

    def test_levels_of_recomputing_have_the_same_bits(self):
        files = set()
        for level in ("false", "mlp", "true"):
            out = self.train(f"level_{level}", device="cuda", max_steps=2, lora_dropout=0.1, gradient_checkpointing=level)
            files.add((out / "adapter_model.safetensors").read_bytes())
        self.assertEqual(len(files), 1)
        self.addCleanup(os.environ.pop, "LORAINE_GPU_BYTES", None)

        def dry(level, free):
            os.environ["LORAINE_GPU_BYTES"] = str(free)
            return tiny.run(*self.arguments(device="cuda", gradient_checkpointing=level, dry_run="true"))

        def need(level):  # within 1 KiB
            few, enough = 1 << 20, 1 << 26
            while enough - few > 1024:
                middle = (few + enough) // 2
                few, enough = (few, middle) if dry(level, middle)[0] == 0 else (middle, enough)
            return enough

        kept, blocks = need("false"), need("true")
        self.assertLess(blocks, kept)
        for free, words in ((kept, "nothing"), (kept - 1024, "gate and up"), (blocks, "blocks")):
            self.assertIn(words, self.good(dry("auto", free)))
        self.refused(dry("auto", blocks - 1024), 4, "MiB of GPU memory")
        self.refused(dry("false", blocks), 4, "MiB of GPU memory", "gradient_checkpointing: auto")

    def test_answers_are_those_of_the_cpu(self):
        tiny.write_tokenizer(self.model)
        adapter = self.train("adapter", device="cpu", max_steps=8, learning_rate=0.05)
        info = json.loads((self.data / "dataset_info.json").read_text()) | {"talk": {"file_name": "talk.json"}}
        (self.data / "dataset_info.json").write_text(json.dumps(info))
        (self.data / "talk.json").write_text(json.dumps([{"instruction": f"say {w}", "input": "", "output": f"{w} {w}"} for w in ("one", "two", "fog")]))
        (self.work / "text.txt").write_text("the quick brown fox jumps over the lazy dog " * 4)
        (self.work / "choice.jsonl").write_text('{"question": "pick", "choices": ["one", "two", "six"], "answer": "B"}\n')
        batch = self.work / "batch.safetensors"
        rows = [[5, 9, 33, 7, 21, 60], [4, 18, 3, 11, 0, 0]]
        flat = lambda values: array.array("q", [x for row in values for x in row]).tobytes()
        tiny.write_safetensors(batch, {"input_ids": ("I64", [2, 6], flat(rows)), "labels": ("I64", [2, 6], flat(rows)),
                                       "attention_mask": ("I64", [2, 6], flat([[1] * 6, [1] * 4 + [0] * 2]))})
        chats, traces, evaluations, answers = [], [], [], []
        for device in ("cpu", "cuda"):
            given = ["--model_name_or_path", self.model, "--adapter_name_or_path", adapter, "--device", device]
            done = subprocess.run([tiny.program, "chat", *map(str, given), "--do_sample", "false", "--max_new_tokens", "6", "--num_beams", "2"],
                                  input="hello\nagain\nexit\n", capture_output=True, text=True, timeout=120)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual("device: emulated GPU" in done.stderr, device == "cuda", done.stderr)
            chats.append(done.stdout)
            traced = self.work / f"trace_{device}.safetensors"
            self.quiet(tiny.run("trace", *given, "--batch", batch, "--output", traced, "--gradients", "true", "--max_new_tokens", 6))
            traces.append(tiny.read_safetensors(traced))
            out = self.work / f"eval_{device}"
            self.quiet(tiny.run("eval", *given, "--dataset_dir", self.data, "--eval_dataset", "talk", "--predict_with_generate", "true", "--max_new_tokens", 4,
                                "--do_sample", "false", "--ppl_file", self.work / "text.txt", "--choice_file", self.work / "choice.jsonl", "--compare", "true",
                                "--output_dir", out, "--template", "default", "--compute_accuracy", "true"))
            evaluations.append(json.loads((out / "eval_comparison.json").read_text()))
            answers.append((out / "generated_predictions.jsonl").read_bytes())
        self.assertEqual(chats[0], chats[1])
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(traces[0].keys(), traces[1].keys())
        for name, (shape, values) in traces[0].items():
            limit = 0 if name == "generated_ids" else 1e-5
            self.assertLessEqual(max(abs(a - b) for a, b in zip(values, traces[1][name][1])), limit * max(map(abs, values)), name)
        self.near(evaluations[0], evaluations[1])

    def near(self, a, b):
        if isinstance(a, dict):
            self.assertEqual(a.keys(), b.keys())
            for key in a:
                self.near(a[key], b[key])
        elif isinstance(a, list):
            self.assertEqual(len(a), len(b))
            for x, y in zip(a, b):
                self.near(x, y)
        elif isinstance(a, float):
            self.assertTrue(math.isclose(a, b, rel_tol=1e-4, abs_tol=1e-6), (a, b))
        else:
            self.assertEqual(a, b)

    def quiet(self, answer):
        text = self.good(answer)
        self.assertNotIn("emulated GPU: the host touches", text)
        self.assertNotIn("emulated GPU: a kernel or copy touches", text)

    def test_predictions_at_the_end_of_a_run(self):
        tiny.write_tokenizer(self.model)
        (self.data / "talk.json").write_text(json.dumps([{"instruction": f"say {w}", "input": "", "output": f"{w} {w}"} for w in ("one", "two")]))
        (self.data / "dataset_info.json").write_text(json.dumps({"talk": {"file_name": "talk.json"}}))
        more = dict(dataset="talk", eval_dataset="talk", do_predict="true", predict_with_generate="true", max_new_tokens=3, do_sample="false", template="default",
                    max_steps=2)
        cpu, gpu = (self.train(f"predicted_{device}", device=device, **more) for device in ("cpu", "cuda"))
        self.assertEqual(*((out / "generated_predictions.jsonl").read_bytes() for out in (cpu, gpu)))

    def test_recorded_runs_of_llama_factory(self):
        runs = tiny.root.parent / "shared/golden/llamafactory/runs"
        if not runs.exists():
            self.skipTest("no recorded runs of LLaMA-Factory")
        for model in ("tiny_llama", "tiny_qwen3"):
            (self.work / model).symlink_to(runs.parent / model)
        for name in RECORDED:
            with self.subTest(name):
                here = self.work / "runs" / name
                shutil.copytree(runs / name, here, ignore=shutil.ignore_patterns("output"))
                self.good(tiny.run("train", "train.yaml", "--device", "cuda", cwd=here))
                self.same_recorded(here, runs / name)

    def same_recorded(self, here, recorded):
        """Within what tools/golden.py allows of the CPU."""
        wanted = log_of(recorded / "output" if (recorded / "output/trainer_state.json").exists() else recorded)
        ours = log_of(here / "output")
        for kind in ("loss", "eval_loss"):
            mine, theirs = ([entry for entry in log if kind in entry] for log in (ours, wanted))
            self.assertEqual(len(mine), len(theirs))
            for entry, other in zip(mine, theirs):
                for key in (kind, "grad_norm") if kind == "loss" else (kind,):
                    self.assertLess(abs(entry[key] - other[key]) / abs(other[key]), 1e-3, key)
        final, other = (tiny.read_safetensors(folder / "output/adapter_model.safetensors") for folder in (here, recorded))
        self.assertEqual(final.keys(), other.keys())
        for name, (shape, values) in other.items():
            self.assertLess(max(abs(a - b) for a, b in zip(final[name][1], values)), 1e-3, name)

    def test_what_has_no_gpu_code_is_refused(self):
        for changes, word in (
            ({"stage": "grpo", "reward_checks": "checks.json", "num_generations": 2}, "stage: grpo"), ({"finetuning_type": "full"}, "finetuning_type: full"), ({"quantization_bit": 8, "frozen_matmul": "int8"}, "frozen_matmul: int8"),
            ({"use_adalora": "true"}, "use_adalora"), ({"optim": "lion_32bit"}, "optim: lion_32bit"),
            ({"lora_target": "q_proj,lm_head"}, "lora_target: lm_head"),
            ({"use_eaft_loss": "true"}, "use_eaft_loss"), ({"share_prefixes": "true"}, "share_prefixes: true"),
        ):
            self.refused(tiny.run(*self.arguments(device="cuda", **changes)), 2, "device: cuda", word, "has no GPU code")
        self.assertFalse(self.out.exists())
        config = json.loads((self.model / "config.json").read_text())
        (self.model / "config.json").write_text(json.dumps(config | {"rope_scaling": {"rope_type": "dynamic", "factor": 2.0}}))
        self.refused(tiny.run(*self.arguments(device="cuda")), 2, "model_type llama", "rotations that depend on the length")
        (self.model / "config.json").write_text(json.dumps(config))
        whole = self.train("whole", device="cpu", additional_target="norm", max_steps=1)
        given = ["--model_name_or_path", self.model, "--device", "cuda"]
        out = ["--output_dir", self.work / "evaluated"]
        for words, word in ((["chat", "--adapter_name_or_path", whole], "trained whole"), (["chat", "--frozen_matmul", "int8"], "frozen_matmul: int8"),
                            (["serve", "--port", 0, "--frozen_matmul", "int8"], "frozen_matmul: int8")):
            tiny.write_tokenizer(self.model)
            self.refused(tiny.run(*words, *given), 2, "device: cuda", word)
        self.refused(tiny.run("export", "--model_name_or_path", self.model, "--export_dir", self.work / "merged", "--device", "cuda"), 2, "device")

    def test_no_gpu(self):
        os.environ.pop("LORAINE_GPU")
        self.refused(tiny.run(*self.arguments(device="cuda")), 2, "device cuda: this build has no CUDA code")
        text = self.good(tiny.run(*self.arguments(device="auto", max_steps=1)))
        self.assertNotIn("device:", text)

    def test_auto_takes_no_emulated_gpu(self):
        self.assertNotIn("device:", self.good(tiny.run(*self.arguments(max_steps=1))))


if __name__ == "__main__":
    unittest.main()
