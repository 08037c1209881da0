#!/usr/bin/env python3
"""Stage grpo end to end: rewards from checks alone teach a format; the same for a seed, whatever the threads; resumed runs are the same runs, in the midst of a
generation too; evaluations, every base and method; a reward model; what is planned; what is refused. Run by ctest (label e2e)."""
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

lengths = {f"completions/{part}" for part in ("mean_length", "min_length", "max_length", "clipped_ratio", "mean_terminated_length", "min_terminated_length", "max_terminated_length")}
clips = {f"clip_ratio/{part}" for part in ("low_mean", "low_min", "high_mean", "high_max", "region_mean")}


class Grpo(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        self.rows("asks", [{"instruction": f"say {chr(97 + i)}", "output": chr(97 + i)} for i in range(16)])
        self.checks("- {name: has_a, type: regex, pattern: 'a'}\n- {name: short, type: length, max: 6, margin: 6, weight: 0.5}\n")

    def rows(self, name, rows, **entry):
        (self.data / f"{name}.json").write_text(json.dumps(rows))
        info = json.loads((self.data / "dataset_info.json").read_text())
        info[name] = dict(file_name=f"{name}.json", **entry)
        (self.data / "dataset_info.json").write_text(json.dumps(info))

    def checks(self, text, name="checks.yaml"):
        (self.work / name).write_text(text)
        return self.work / name

    def arguments(self, out, **settings):
        shown = dict(stage="grpo", dataset="asks", template="default", reward_checks=self.work / "checks.yaml", num_generations=4, max_completion_length=12, per_device_train_batch_size=8, gradient_accumulation_steps=1,
                     lr_scheduler_type="constant", learning_rate="2e-2", warmup_steps=0, max_steps=4) | settings
        return tiny.train_arguments(self.model, self.data, self.work / out, **shown)

    def train(self, out, **settings):
        return self.good(tiny.run(*self.arguments(out, **settings)))

    def log(self, out, key="loss"):
        return [entry for entry in json.loads((self.work / out / "trainer_state.json").read_text())["log_history"] if key in entry]

    def values(self, out):
        return tiny.read_safetensors(self.work / out / "adapter_model.safetensors")

    def test_rewards_alone_teach(self):
        self.train("learn", max_steps=60, plot_loss="true", log_completions="true", beta=0.01)
        log = self.log("learn")
        first, last = (sum(entry["reward"] for entry in part) / 8 for part in (log[:8], log[-8:]))
        self.assertGreater(last, first + 0.25)
        self.assertLessEqual({"reward", "reward_std", "frac_reward_zero_std", "rewards/has_a/mean", "rewards/has_a/std", "rewards/short/mean", "kl", "entropy"} | lengths | clips, set(log[0]))
        self.assertAlmostEqual(log[0]["reward"], log[0]["rewards/has_a/mean"] + 0.5 * log[0]["rewards/short/mean"], delta=1e-6)
        self.assertLess(abs(log[0]["kl"]), 1e-6)  # LoRA starts as the base
        self.assertGreater(log[-1]["kl"], 1e-3)
        self.assertEqual(log[0]["clip_ratio/region_mean"], 0)  # one update for each generation
        for curve in ("loss", "reward"):
            self.assertTrue((self.work / f"learn/training_{curve}.png").exists())
        lines = [json.loads(line) for line in (self.work / "learn/completions.jsonl").read_text().splitlines()]
        # trl's num_tokens: prompts, here all of one length, and answers
        prompts = {round(one["num_tokens"] - before["num_tokens"] - 8 * one["completions/mean_length"], 6) for before, one in zip(log, log[1:])}
        self.assertEqual((len(prompts), min(prompts) % 8), (1, 0))
        self.assertGreater(min(prompts), 0)
        self.assertEqual((len(lines), lines[0]["step"], lines[-1]["step"]), (60 * 8, 1, 60))
        for step in (1, 60):
            own = [line for line in lines if line["step"] == step]
            self.assertAlmostEqual(sum(line["rewards"]["has_a"] for line in own) / 8, log[step - 1]["rewards/has_a/mean"], delta=1e-6)
            self.assertTrue(all(line["rewards"]["has_a"] == ("a" in line["completion"]) for line in own))
            for group in (own[:4], own[4:]):
                self.assertEqual(len({line["prompt"] for line in group}), 1)
                self.assertAlmostEqual(sum(line["advantage"] for line in group), 0, delta=1e-5)

    def test_the_same_for_a_seed(self):
        settings = dict(num_iterations=2, beta=0.1, lora_dropout=0.1, max_steps=6)
        self.train("one", **settings)
        self.train("two", **settings)
        self.train("other", **settings | dict(seed=7))
        done = subprocess.run([tiny.program, *map(str, self.arguments("threads", **settings))], capture_output=True, text=True, env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=300)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(self.log("one"), self.log("two"))
        self.assertEqual(self.log("one"), self.log("threads"))
        self.assertEqual(self.values("one"), self.values("two"))
        self.assertEqual(self.values("one"), self.values("threads"))
        self.assertNotEqual(self.values("one"), self.values("other"))

    def test_resumed_run_is_the_same_run(self):
        kinds = {"plain": {}, "iterations": dict(num_iterations=3, beta=0.1, epsilon=0.05), "several": dict(steps_per_generation=4, per_device_train_batch_size=4, num_iterations=2),
                 "accumulated": dict(per_device_train_batch_size=2, gradient_accumulation_steps=4, loss_type="grpo"), "batch": dict(generation_batch_size=16, scale_rewards="batch", importance_sampling_level="sequence")}
        for name, settings in kinds.items():
            with self.subTest(name):
                settings = settings | dict(max_steps=8, save_steps=5, logging_steps=3, log_completions="true")
                self.train(f"{name}_whole", **settings)
                self.train(f"{name}_part", **settings)
                part = self.work / f"{name}_part"
                self.assertEqual((part / "checkpoint-5/rollouts.json").exists(), name in ("iterations", "several", "batch"))
                shutil.rmtree(part / "checkpoint-8")
                (part / "adapter_model.safetensors").unlink()
                self.assertIn("checkpoint-5", self.train(f"{name}_part", **settings))
                self.assertEqual(self.values(f"{name}_whole"), self.values(f"{name}_part"))
                self.assertEqual(self.log(f"{name}_whole"), self.log(f"{name}_part"))
                self.assertEqual((self.work / f"{name}_whole/completions.jsonl").read_text(), (part / "completions.jsonl").read_text())
        # several updates on one generation: the ratio moves off 1, and answers are generated once for them
        log = self.log("iterations_whole")
        self.assertGreater(max(entry["clip_ratio/region_mean"] for entry in log), 0)
        steps = {json.loads(line)["step"] for line in (self.work / "iterations_whole/completions.jsonl").read_text().splitlines()}
        self.assertEqual(steps, {1, 4, 7})
        part = self.work / "iterations_part"  # without its answers such a checkpoint is none
        shutil.rmtree(part / "checkpoint-8")
        (part / "adapter_model.safetensors").unlink()
        (part / "checkpoint-5/rollouts.json").unlink()
        self.assertNotEqual(tiny.run(*self.arguments("iterations_part", **kinds["iterations"] | dict(max_steps=8, save_steps=5, logging_steps=3, log_completions="true")))[0], 0)

    def test_shared_prompts_change_nothing(self):
        for name, settings in dict(plain={}, iterations=dict(num_iterations=2, beta=0.1), several=dict(steps_per_generation=2, per_device_train_batch_size=4)).items():
            with self.subTest(name):
                settings = settings | dict(max_steps=4)
                self.train(f"{name}_apart", share_prefixes="false", **settings)
                said = self.train(f"{name}_shared", **settings)
                results = json.loads((self.work / f"{name}_shared/all_results.json").read_text())
                self.assertIn(f"{results['train_tokens_computed']} of {results['train_tokens']} tokens were computed", said)
                self.assertLess(results["train_tokens_computed"], 0.8 * results["train_tokens"])
                first, other = (self.log(f"{name}_{kind}")[0] for kind in ("shared", "apart"))  # from the same weights, so of the same answers
                self.assertAlmostEqual(first["loss"], other["loss"], delta=1e-6)
                self.assertAlmostEqual(first["grad_norm"], other["grad_norm"], delta=1e-5 * other["grad_norm"])
                self.assertEqual(first["num_tokens"], other["num_tokens"])

    def test_accumulation_is_a_larger_batch(self):
        for loss_type in ("grpo", "dr_grpo", "dapo"):
            settings = dict(max_steps=3, loss_type=loss_type, beta=0.1)
            self.train(f"{loss_type}_8x1", **settings)
            self.train(f"{loss_type}_2x4", per_device_train_batch_size=2, gradient_accumulation_steps=4, **settings)
            for one, other in zip(self.log(f"{loss_type}_8x1"), self.log(f"{loss_type}_2x4")):
                self.assertAlmostEqual(one["reward"], other["reward"], delta=1e-6)
                self.assertAlmostEqual(one["loss"], other["loss"], delta=1e-5)
                self.assertAlmostEqual(one["grad_norm"], other["grad_norm"], delta=1e-3 * one["grad_norm"] + 1e-6)

    def test_over_other_bases_and_with_other_methods(self):
        kinds = {"qlora": dict(quantization_bit=4), "dora": dict(use_dora="true"), "head": dict(lora_target="q_proj,lm_head"), "whole": dict(additional_target="lm_head,norm"), "bf16": dict(bf16="true"),
                 "full": dict(finetuning_type="full", learning_rate="2e-3"), "freeze": dict(finetuning_type="freeze", freeze_trainable_layers=1), "recomputed": dict(gradient_checkpointing="true"),
                 "int8": dict(frozen_matmul="int8"), "adalora": dict(use_adalora="true"), "warm": dict(temperature=1.3, top_p=0.9, top_k=20, min_p=0.01, repetition_penalty=1.1), "entropy": dict(top_entropy_quantile=0.5),
                 "masked": dict(mask_truncated_completions="true"), "unscaled": dict(scale_rewards="false", loss_type="dr_grpo"), "two_sided": dict(delta=1.5, epsilon_high=0.3), "weights": dict(reward_weights="2,0"),
                 "reference": dict(ref_model=self.model)}
        for name, settings in kinds.items():
            with self.subTest(name):
                self.train(name, **dict(max_steps=3, beta=0.05, num_iterations=2) | settings)
                log = self.log(name)
                self.assertTrue(all(math.isfinite(entry[key]) for entry in log for key in ("loss", "entropy", "kl")))
                self.assertLess(abs(log[0]["kl"]), 1e-2 if name == "bf16" else 1e-6)  # whatever trains, the base is the reference
                self.assertLess(log[0]["clip_ratio/region_mean"], 1e-9)
        self.train("plain", max_steps=3, beta=0.05, num_iterations=2)
        self.assertEqual(self.log("plain"), self.log("reference"))
        for entry in self.log("weights"):
            if "reward" in entry:
                self.assertAlmostEqual(entry["reward"], 2 * entry["rewards/has_a/mean"], delta=1e-6)

    def test_evaluations(self):
        self.rows("held", [{"instruction": f"tell {chr(97 + i)}"} for i in range(5)])
        self.train("eval", max_steps=4, eval_dataset="held", eval_strategy="steps", eval_steps=2, eval_on_start="true", per_device_eval_batch_size=8, num_generations_eval=2, beta=0.1, metric_for_best_model="reward",
                   load_best_model_at_end="true", save_steps=2)
        found = self.log("eval", "eval_loss")
        self.assertEqual([entry["step"] for entry in found], [0, 2, 4])
        self.assertLessEqual({"eval_reward", "eval_rewards/has_a/mean", "eval_completions/mean_length", "eval_kl"}, set(found[0]))
        best = json.loads((self.work / "eval/trainer_state.json").read_text())
        self.assertEqual(best["best_metric"], max(entry["eval_reward"] for entry in found[1:]))

    def test_other_layouts_and_references(self):
        self.rows("talk", [{"messages": [{"role": "system", "content": "short"}, {"role": "user", "content": f"say {chr(97 + i)}"}]} for i in range(8)], formatting="openai",
                  columns=dict(messages="messages"), tags=dict(role_tag="role", content_tag="content", user_tag="user", assistant_tag="assistant", system_tag="system"))
        judge = self.work / "judge.py"
        judge.write_text("import json, sys\nfor line in sys.stdin:\n    a = json.loads(line)\n    open(sys.argv[1], 'a').write(line)\n    print(a['completion'].count('a') - len(a['completion']) * 0.1)\n")
        checks = self.checks(f"- {{name: judge, type: command, command: [python3, {judge}, {self.work}/seen.jsonl]}}\n- {{name: right, type: exact}}\n", "judge.yaml")
        self.train("talk", dataset="talk", reward_checks=checks, max_steps=2)
        seen = [json.loads(line) for line in (self.work / "seen.jsonl").read_text().splitlines()]
        self.assertEqual((len(seen), seen[0]["reference"], [m["role"] for m in seen[0]["messages"]]), (16, None, ["system", "user"]))
        self.assertNotIn("rewards/right/mean", self.log("talk")[0])  # it has nothing to say without references
        (self.work / "seen.jsonl").unlink()
        self.train("asks", reward_checks=checks, max_steps=2)
        seen = [json.loads(line) for line in (self.work / "seen.jsonl").read_text().splitlines()]
        self.assertTrue(all(line["reference"] == line["prompt"][-1] for line in seen))
        self.assertIn("rewards/right/mean", self.log("asks")[0])
        (self.work / "own.jsonl").write_text("".join(json.dumps({"prompt": f"say {chr(97 + i)}"}) + "\n" for i in range(8)))
        self.assertIn("questions in `prompt`", self.train("own", dataset=self.work / "own.jsonl", max_steps=1))
        text = self.good(tiny.run("data", "--model_name_or_path", self.model, "--stage", "grpo", "--dataset", "asks", "--dataset_dir", self.data, "--template", "default"))
        self.assertIn("prompt 1", text)
        self.assertIn("reference:", text)

    def test_a_reward_model_judges(self):
        self.rows("prefer", [{"instruction": f"say {chr(97 + i)}", "chosen": "aaaa", "rejected": "zzzz"} for i in range(16)], ranking=True, columns=dict(prompt="instruction", chosen="chosen", rejected="rejected"))
        self.good(tiny.run(*tiny.train_arguments(self.model, self.data, self.work / "rm", stage="rm", dataset="prefer", template="default", max_steps=20, learning_rate="1e-2")))
        self.train("judged", reward_checks=self.checks(f"- {{name: liked, type: reward_model, model: {self.work}/rm}}", "rm.yaml"), max_steps=24)
        log = self.log("judged")
        self.assertGreater(sum(entry["reward"] for entry in log[-5:]), sum(entry["reward"] for entry in log[:5]))
        self.assertTrue(all(math.isfinite(entry["rewards/liked/std"]) for entry in log))
        self.refused(tiny.run(*self.arguments("no", reward_checks=self.checks(f"- {{type: reward_model, model: {self.model}}}", "no.yaml"))), 3, "value_head.safetensors", "check 1")

    def test_a_dry_run_plans_generation(self):
        self.model = tiny.write_model(self.work / "wide", vocab=2000, channels=192, inner=512, layers=4, heads=4, kv_heads=2)  # so that it shows
        tiny.write_tokenizer(self.model)
        small, large = self.forecast(), self.forecast(max_completion_length=400)
        self.assertIn("generation", small[1])
        self.assertGreater(large[0], small[0] + 5)
        self.assertFalse((self.work / "dry").exists())
        code, text = tiny.run(*self.arguments("tight", max_completion_length=400, memory_limit="60MiB"))
        self.assertEqual(code, 4, text)
        self.assertIn("max_completion_length", text)
        text = self.train("planned", max_completion_length=200, max_steps=2, beta=0.1, num_iterations=2)
        measured, forecast = (self.mib(text, word) for word in ("peak memory: ", "the forecast was "))
        self.assertLess(measured, forecast * 1.05 + 4)

    def mib(self, text, word):
        number, unit = text[text.rindex(word) + len(word):].split()[:2]
        return float(number) * {"KiB": 1 / 1024, "MiB": 1, "GiB": 1024}[unit.rstrip(").,")]

    def forecast(self, **settings):
        text = self.train("dry", dry_run="true", **settings)
        return self.mib(text, "memory forecast: "), text

    def test_what_is_refused(self):
        bad = self.checks("- {type: regex, pattern: '('}", "bad.yaml")
        failing = self.checks("- {name: judge, type: command, command: 'echo broken >&2; exit 3'}", "failing.yaml")
        slow = self.checks("- {name: judge, type: command, command: 'sleep 30', timeout: 0.5}", "slow.yaml")
        for settings, words in ((dict(reward_checks=self.work / "none.yaml"), ("none.yaml",)), (dict(reward_checks=bad), ("regular expression", "check 1")), (dict(reward_checks=failing), ("(judge)", "exit code 3", "broken")),
                                (dict(reward_checks=slow), ("0.5 seconds",)), (dict(reward_weights="1"), ("reward_weights",)), (dict(reward_weights="a,b"), ("'a'",)), (dict(num_generations=3), ("num_generations 3",)),
                                (dict(num_generations=1), ("num_generations",)), (dict(steps_per_generation=2, generation_batch_size=16), ("leave one of the two out",)), (dict(generation_batch_size=12), ("generation_batch_size is 12",)),
                                (dict(loss_type="cispo"), ("cispo",)), (dict(temperature=0), ("temperature",)), (dict(cutoff_len=20), ("max_prompt_length",)), (dict(packing="true"), ("packing",)),
                                (dict(use_vllm="true"), ("use_vllm",)), (dict(sync_ref_model="true"), ("sync_ref_model",)), (dict(reward_funcs="accuracy_reward"), ("type command", "reward_checks")), (dict(streaming="true"), ("streaming",)),
                                (dict(stage="sft", dataset="rows"), ("reward_checks", "stage grpo")), (dict(dataset="rows"), ("token ids",)), (dict(beta=0.1, pissa_init="true"), ("ref_model",)),
                                (dict(per_device_train_batch_size=80), ("16 prompts",)), (dict(val_size=4, per_device_eval_batch_size=6), ("per_device_eval_batch_size",)), (dict(stage="ppo"), ("stage: grpo",))):
            with self.subTest(settings):
                code, text = tiny.run(*self.arguments("refused", **settings))
                self.assertIn(code, (2, 3), text)
                for word in words:
                    self.assertIn(word, text)
        code, text = tiny.run(*[word for word in self.arguments("refused") if str(word) not in ("--reward_checks", str(self.work / "checks.yaml"))])
        self.assertEqual(code, 2)
        self.assertIn("reward_checks", text)


unittest.main()
