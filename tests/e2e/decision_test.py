#!/usr/bin/env python3
"""Questions with few answers end to end: stage decision trains, calibrates and resumes; loraine eval --task decision measures it; loraine serve gives the same
probabilities; what is refused. Run by ctest (label e2e)."""
import json
import math
import pathlib
import random
import re
import shutil
import sys
import unittest

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parent), str(pathlib.Path(__file__).resolve().parent.parent / "support")]
import tiny_model as tiny
from serve_test import Server

teams = ["billing", "support", "sales"]


class Decisions(tiny.Case):
    def setUp(self):
        super().setUp()
        self.model = tiny.write_model(self.work / "bytes", vocab=300)
        tiny.write_byte_tokenizer(self.model)
        draw = random.Random(5)
        mixed = lambda letter, n: "".join(draw.choice(letter * 5 + "mn") for _ in range(n))
        self.rows = {
            "teams": [dict(text=mixed("abc"[k], 10), choices=teams, label=teams[k]) for k in (draw.randrange(3) for _ in range(48))],
            "truths": [dict(messages=[dict(role="user", content=mixed("ab"[k], 10))], question="It is full of a.", label=k == 0) for k in (draw.randrange(2) for _ in range(48))],
            "stars": [dict(text=mixed("abcde"[k], 10), choices={"from": 1, "to": 5}, label=k + 1) for k in (draw.randrange(5) for _ in range(48))],
            "many": [dict(text=mixed("ab"[k], 6), choices=[f"n{i}" for i in range(30)], label=k * 7) for k in (draw.randrange(2) for _ in range(24))],
        }
        for name, rows in self.rows.items():
            self.write(name, rows)

    def write(self, name, rows):
        path = self.data / f"{name}.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return path

    def arguments(self, out, data="teams", **settings):
        shown = dict(stage="decision", dataset=self.data / f"{data}.jsonl", template="default", lr_scheduler_type="constant", learning_rate="1e-2", warmup_steps=0, lora_rank=8,
                     per_device_train_batch_size=4, gradient_accumulation_steps=1) | settings
        return tiny.train_arguments(self.model, self.data, self.work / out, **shown)

    def train(self, out, data="teams", **settings):
        return self.good(tiny.run(*self.arguments(out, data, **settings)))

    def log(self, out, key="loss"):
        return [entry for entry in json.loads((self.work / out / "trainer_state.json").read_text())["log_history"] if key in entry]

    def json_of(self, path):
        return json.loads((self.work / path).read_text())

    def eval(self, adapter, data, out, **settings):
        words = [word for key, value in (dict(template="default", per_device_eval_batch_size=8) | settings).items() for word in (f"--{key}", value)]
        over = ["--adapter_name_or_path", self.work / adapter] if adapter else []
        text = self.good(tiny.run("eval", "--task", "decision", "--model_name_or_path", self.model, *over, "--eval_dataset", self.data / f"{data}.jsonl", "--output_dir", self.work / out, *words))
        return text, self.json_of(f"{out}/eval_results.json"), [json.loads(line) for line in (self.work / out / "decisions.jsonl").read_text().splitlines()]

    def test_every_kind_learns_and_is_calibrated(self):
        for data, choices in (("teams", 3), ("truths", 2), ("stars", 5), ("many", 30)):
            with self.subTest(data):
                text = self.train(data, data, num_train_epochs=8, max_steps=-1)
                self.assertIn(f"{'3' if data == 'many' else '5'} rows are held out of training", text)
                log = self.log(data)
                first, last = (sum(entry["loss"] for entry in part) / 8 for part in (log[:8], log[-8:]))
                self.assertLess(last, first)
                self.assertLess(first, math.log(choices) + 1.5)
                self.assertLessEqual({"accuracy", "brier", "nll"}, set(log[0]))
                self.assertEqual("mae" in log[0], data == "stars")
                beside = self.json_of(f"{data}/decision.json")
                self.assertEqual((beside["fitted_on"], beside["rows"]), ("held out of training", 3 if data == "many" else 5))
                self.assertTrue(0.05 <= beside["temperature"] <= 20)
                text, results, lines = self.eval(data, data, f"{data}_eval")
                self.assertEqual(len(lines), len(self.rows[data]))
                self.assertEqual(results["eval_accuracy"], sum(line["answer"] == line["label"] for line in lines) / len(lines))
                self.assertEqual(results["eval_temperature"], beside["temperature"])
                self.assertGreater(results["eval_answers_per_second"], 0)
                self.assertGreater(results["eval_accuracy"], 1.5 / choices)
                self.assertIn("eval_calibration_error", text)
                self.assertEqual((self.work / f"{data}_eval/reliability.png").read_bytes()[:4], b"\x89PNG")
                self.check_figures(results, lines)

    def check_figures(self, results, lines):
        """By the definitions, from what is written of each row."""
        bins, nll, brier = [[] for _ in range(15)], 0, 0
        for line in lines:
            shares = line["probabilities"]
            self.assertAlmostEqual(sum(shares.values()), 1, places=9)
            top = max(shares.values())
            self.assertEqual(shares[line["answer"]], top)
            bins[min(max(math.ceil(top * 15) - 1, 0), 14)].append((top, line["answer"] == line["label"]))
            nll -= math.log(shares[line["label"]]) / len(lines)
            brier += sum((share - (name == line["label"])) ** 2 for name, share in shares.items()) / len(lines)
        error = sum(abs(sum(top for top, _ in one) - sum(right for _, right in one)) for one in bins) / len(lines)
        for name, value in (("nll", nll), ("brier", brier), ("calibration_error", error)):
            self.assertAlmostEqual(results[f"eval_{name}"], value, places=9)
        if "eval_mae" in results:
            expected = [sum(float(name) * share for name, share in line["probabilities"].items()) for line in lines]
            for line, value in zip(lines, expected):
                self.assertAlmostEqual(line["expected_value"], value, places=9)
            self.assertAlmostEqual(results["eval_mae"], sum(abs(value - float(line["label"])) for line, value in zip(lines, expected)) / len(lines), places=9)

    def test_resumed_run_is_the_same_run(self):
        settings = dict(save_steps=5, logging_steps=3, max_steps=12, plot_loss="true", lora_dropout=0.1)
        self.train("whole", **settings)
        self.train("part", **settings)
        for step in (12, 10):
            shutil.rmtree(self.work / f"part/checkpoint-{step}")
        (self.work / "part/adapter_model.safetensors").unlink()
        self.assertIn("checkpoint-5", self.train("part", **settings))
        for file in ("adapter_model.safetensors", "decision.json", "checkpoint-10/decision.json", "checkpoint-10/adapter_model.safetensors"):
            self.assertEqual((self.work / "whole" / file).read_bytes(), (self.work / "part" / file).read_bytes(), file)
        self.assertEqual(self.log("whole"), self.log("part"))
        self.assertTrue((self.work / "part/training_accuracy.png").exists())

    def test_accumulation_is_a_larger_batch(self):
        for data in ("teams", "many"):
            settings = dict(max_steps=4, disable_shuffling="true", logging_steps=1)
            self.train("4x1", data, per_device_train_batch_size=4, **settings)
            self.train("1x4", data, per_device_train_batch_size=1, **settings | dict(gradient_accumulation_steps=4))
            for one, other in zip(self.log("4x1"), self.log("1x4")):
                for key in ("loss", "accuracy", "brier"):
                    self.assertAlmostEqual(one[key], other[key], delta=1e-5)
            for out in ("4x1", "1x4"):
                shutil.rmtree(self.work / out)

    def test_validation_rows_calibrate_and_choose(self):
        self.write("held", self.rows["teams"][:12])
        self.train("held", eval_dataset=self.data / "held.jsonl", eval_strategy="steps", eval_steps=4, save_steps=4, max_steps=12, load_best_model_at_end="true", metric_for_best_model="brier",
                   greater_is_better="false")
        evaluated = self.log("held", "eval_loss")
        self.assertLessEqual({"eval_accuracy", "eval_brier", "eval_nll", "eval_calibration_error"}, set(evaluated[0]))
        best = min((entry for entry in evaluated[:3]), key=lambda entry: entry["eval_brier"])["step"]
        beside = self.json_of("held/decision.json")
        self.assertEqual((beside["fitted_on"], beside["rows"]), ("validation", 12))
        self.assertEqual(beside, self.json_of(f"held/checkpoint-{best}/decision.json"))
        self.assertLessEqual(beside["nll"], beside["nll_before"] + 0.2)
        _, results, _ = self.eval("held", "held", "held_eval", per_device_eval_batch_size=5)
        self.assertAlmostEqual(results["eval_nll"], beside["nll"], delta=1e-5)
        self.assertAlmostEqual(results["eval_calibration_error"], beside["calibration_error"], delta=1e-4)
        self.assertAlmostEqual(results["eval_calibration_error_before"], beside["calibration_error_before"], delta=1e-4)
        self.train("none", decision_holdout=0, max_steps=2)
        self.assertEqual({key: self.json_of("none/decision.json")[key] for key in ("temperature", "fitted_on", "rows")}, dict(temperature=1, fitted_on="nothing", rows=0))

    def test_serving_gives_the_same_probabilities(self):
        asked = {"teams": dict(type="choice", choices=[dict(value=team) for team in teams]), "truths": dict(type="predicate", instructions="It is full of a."),
                 "stars": dict(type="score", levels=[dict(label=str(i)) for i in range(1, 6)]), "many": dict(type="choice", choices=[dict(value=f"n{i}") for i in range(30)])}
        for data in asked:
            self.train(data, data, max_steps=20)
        server = Server(self.work, "--model_name_or_path", self.model, "--adapter_name_or_path", ",".join(f"{data}={self.work / data}" for data in asked), "--template", "default",
                        "--adapter_dir", self.work, "--allow_runtime_lora_updating", "true")
        try:
            status, _, reply = server.ask("POST", "/v1/load_lora_adapter", {"lora_name": "later", "lora_path": "teams"})
            self.assertEqual(status, 200, reply)
            for data, question in asked.items():
                _, results, lines = self.eval(data, data, f"{data}_eval")
                self.assertNotEqual(results["eval_temperature"], 1)
                for row, line in list(zip(self.rows[data], lines))[:4]:
                    text = row.get("text") or row["messages"][0]["content"]
                    for model in (data, "later") if data == "teams" else (data,):
                        status, _, reply = server.ask("POST", "/v1/decisions", {"model": model, "input": text, "questions": [question]})
                        self.assertEqual(status, 200, reply)
                        answer, shares = reply["answers"][0], list(line["probabilities"].values())
                        if data == "truths":
                            self.assertAlmostEqual(answer["probability"], shares[0], places=4)
                            continue
                        for one, share in zip(answer["probabilities"], shares, strict=True):
                            self.assertAlmostEqual(one["probability"], share, places=4)
                        self.assertAlmostEqual(answer["confidence"], max(shares), places=4)
                        if data == "stars":
                            self.assertAlmostEqual(answer["expected_value"], line["expected_value"], places=3)
                            self.assertAlmostEqual(answer["score"], line["expected_value"] - 1, places=3)
        finally:
            server.stop()

    def test_merged_and_whole_models_keep_it(self):
        self.train("adapter", max_steps=20)
        _, results, lines = self.eval("adapter", "teams", "one")
        self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", self.work / "adapter", "--template", "default", "--export_dir", self.work / "merged"))
        self.assertEqual(self.json_of("merged/decision.json"), self.json_of("adapter/decision.json"))
        self.model = self.work / "merged"
        _, merged, others = self.eval(None, "teams", "two")
        self.assertEqual(merged["eval_temperature"], results["eval_temperature"])
        for line, other in zip(lines, others):
            for name, share in line["probabilities"].items():
                self.assertAlmostEqual(other["probabilities"][name], share, places=3)
        self.model = self.work / "bytes"
        self.train("full", finetuning_type="full", max_steps=8, learning_rate="2e-3")
        self.model = self.work / "full"
        _, whole, _ = self.eval(None, "teams", "three")
        self.assertEqual(whole["eval_temperature"], self.json_of("full/decision.json")["temperature"])

    def test_over_other_bases_and_with_other_methods(self):
        for kind, settings in {"qlora": dict(quantization_bit=4), "dora": dict(use_dora="true"), "head": dict(lora_target="q_proj,lm_head"), "whole": dict(additional_target="lm_head,norm"),
                               "bf16": dict(bf16="true"), "freeze": dict(finetuning_type="freeze", freeze_trainable_layers=1), "recomputed": dict(gradient_checkpointing="true"),
                               "averages": dict(optim="schedule_free_adamw", lr_scheduler_type="constant"), "ada": dict(use_adalora="true", init_r=6, target_r=2)}.items():
            with self.subTest(kind):
                self.train(kind, "many" if kind in ("head", "whole") else "teams", **dict(max_steps=8, save_steps=4) | settings)
                self.assertTrue(all(math.isfinite(entry["loss"]) for entry in self.log(kind)))
                self.assertTrue((self.work / kind / "checkpoint-4/decision.json").exists())

    def test_forecast(self):
        self.model = tiny.write_model(self.work / "large", **tiny.large)
        tiny.write_byte_tokenizer(self.model)
        for data, settings in (("teams", {}), ("many", dict(per_device_train_batch_size=2)), ("teams", dict(additional_target="lm_head"))):
            text = self.train(f"large_{data}_{len(settings)}", data, **dict(max_steps=2, per_device_train_batch_size=8) | settings)
            measured, forecast = map(float, re.search(r"peak memory: (\d+) MiB \(measured, the saving included; the forecast was (\d+) MiB", text).groups())
            print(f"| {data}, {settings} | {forecast:.0f} | {measured:.0f} |")
            self.assertLess(abs(forecast / measured - 1), 0.1, text)

    def test_tables_and_names(self):
        (self.data / "table.csv").write_text("review,choices,stars\n" + "".join(f'{"ab"[i % 2] * 8},"[1, 2, 3]",{i % 3 + 1}\n' for i in range(12)))
        info = json.loads((self.data / "dataset_info.json").read_text())
        info |= {"table": dict(file_name="table.csv", columns=dict(prompt="review", label="stars")), "named": dict(file_name="teams.jsonl")}
        (self.data / "dataset_info.json").write_text(json.dumps(info))
        for name in ("table", "named"):
            self.train(name, dataset=name, max_steps=2)
        text = self.good(tiny.run("data", "--stage", "decision", "--model_name_or_path", self.model, "--template", "default", "--dataset", "table", "--dataset_dir", self.data,
                                  "--json", self.work / "rows.jsonl"))
        line = json.loads((self.work / "rows.jsonl").read_text().splitlines()[0])
        self.assertEqual((line["choices"], len(line["choice_ids"])), (["1", "2", "3"], 3))
        shown = self.good(tiny.run("data", "--stage", "decision", "--model_name_or_path", self.model, "--template", "default", "--dataset", self.data / "teams.jsonl"))
        self.assertIn("A: billing", shown)
        self.assertIn("answered with", shown)
        del text

    def test_what_is_refused(self):
        good = dict(text="abc", choices=["x", "y"], label="x")
        talk = [dict(role="user", content="a"), dict(role="assistant", content="b")]
        rows = {"label": (dict(text="abc", choices=["x", "y"]), ("no `label`", "choices")), "choice": (good | dict(label="z"), ("none of the 2 choices", "x, y")), "place": (good | dict(label=2), ("none of",)),
                "one": (good | dict(choices=["x"]), ("1 choices",)), "twice": (good | dict(choices=["x", "x"]), ("twice",)), "mixed": (good | dict(choices=["x", 1]), ("all texts",)),
                "order": (dict(text="abc", choices=[2, 1], label=1), ("lowest first",)), "range": (dict(text="abc", choices={"from": 1}, label=1), ("`to`",)),
                "step": (dict(text="abc", choices={"from": 1, "to": 2, "step": 0.3}, label=1), ("equal distances",)), "number": (dict(text="abc", choices=[1, 2], label=3), ("none of",)),
                "choices": (dict(text="abc", label="x"), ("choices",)), "text": (dict(choices=["x", "y"], label="x"), ("text",)),
                "answer": (dict(messages=talk, choices=["x", "y"], label="x"), ("last message",)), "long": (good | dict(text="a" * 400), ("cutoff_len", "raised"))}
        for name, (row, words) in rows.items():
            with self.subTest(name):
                self.write(name, [row])
                code, text = tiny.run(*self.arguments("refused", name, cutoff_len=256, decision_holdout=0))
                self.assertEqual(code, 3, text)
                for word in words:
                    self.assertIn(word, text)
        for settings, words in ((dict(streaming="true", max_steps=3), ("streaming",)), (dict(packing="true"), ("packing",)), (dict(label_smoothing_factor=0.1), ("label_smoothing_factor",)),
                                (dict(tokenized_path=self.work / "kept"), ("tokenized_path",)), (dict(train_on_prompt="true"), ("train_on_prompt",)), (dict(compute_accuracy="true"), ("compute_accuracy",)),
                                (dict(decision_brier=-1), ("decision_brier",)), (dict(decision_holdout=0.9), ("decision_holdout",)), (dict(ref_model=self.model), ("ref_model",))):
            with self.subTest(settings):
                code, text = tiny.run(*self.arguments("refused", **settings))
                self.assertEqual(code, 2, text)
                for word in words:
                    self.assertIn(word, text)
        model = ["eval", "--task", "decision", "--model_name_or_path", self.model, "--template", "default", "--output_dir", self.work / "refused"]
        self.refused(tiny.run(*model), 2, "eval_dataset")
        self.refused(tiny.run(*model, "--eval_dataset", self.data / "teams.jsonl", "--stage", "dpo"), 2, "task is decision")
        self.refused(tiny.run(*model, "--eval_dataset", self.data / "teams.jsonl", "--predict_with_generate", "true"), 2, "predict_with_generate")
        self.assertIn("no decision.json", self.good(tiny.run(*model, "--eval_dataset", self.data / "teams.jsonl")))
        self.train("damaged", max_steps=1)
        (self.work / "damaged/decision.json").write_text('{"temperature": "hot"}')
        self.refused(tiny.run(*model, "--adapter_name_or_path", self.work / "damaged", "--eval_dataset", self.data / "teams.jsonl"), 3, "decision.json", "temperature")


if __name__ == "__main__":
    unittest.main()
