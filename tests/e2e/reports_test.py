#!/usr/bin/env python3
"""report_to: TensorBoard's own reader over our event files, and report/send.py against stand-ins of the trackers' clients. Run by ctest (label e2e).
The reader is that of the interpreter LORAINE_TENSORBOARD names, or of this one; without the package `tensorboard` its tests are skipped."""
import json
import os
import pathlib
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

python = os.environ.get("LORAINE_TENSORBOARD", sys.executable)
reader = """
import json, sys
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
events = EventAccumulator(sys.argv[1], size_guidance={"scalars": 0, "tensors": 0})
events.Reload()
texts = {tag: events.Tensors(tag)[0].tensor_proto.string_val[0].decode() for tag in events.Tags()["tensors"]}
print(json.dumps({"scalars": {tag: [[e.step, e.value] for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}, "texts": texts}))
"""
has_tensorboard = subprocess.run([python, "-c", "import tensorboard.backend.event_processing.event_accumulator"], capture_output=True).returncode == 0

stand_in = """
import json, os, pathlib
log_file = pathlib.Path(os.environ["CALLS"])
def note(*words):
    with log_file.open("a") as file: file.write(json.dumps(words) + "\\n")
"""
clients = {
    "wandb": """
class Summary(dict):
    def update(self, values):
        if values: note("summary", values)
class Run:
    summary = Summary()
    def define_metric(self, *args, **words): pass
    def log(self, values): note("log", values)
    def finish(self): note("finish")
def init(**words):
    note("init", {k: v for k, v in words.items() if k != "config"}, words["config"]["lora_rank"], words["config"]["model_type"])
    return Run()
""",
    "mlflow": """
import contextlib, types
def set_experiment(name): note("experiment", name)
@contextlib.contextmanager
def start_run(run_id=None, run_name=None):
    note("start", run_id, run_name)
    yield types.SimpleNamespace(info=types.SimpleNamespace(run_id="made-by-server"))
def log_params(params): note("params", len(params))
class MlflowClient:
    def log_metric(self, run, key, value, timestamp, step): note("metric", run, key, value, step)
""",
    "swanlab": """
def init(**words): note("init", {k: v for k, v in words.items() if k != "config"})
def log(values, step): note("log", values, step)
def finish(): note("finish")
""",
    "trackio": """
def init(**words): note("init", {k: v for k, v in words.items() if k != "config"})
def log(values, step): note("log", values, step)
def finish(): note("finish")
""",
}


class Reports(tiny.Case):
    def train(self, **changes):
        return tiny.run(*self.arguments(**changes))

    def history(self, out=None):
        return json.loads(((out or self.out) / "trainer_state.json").read_text())["log_history"]

    def read_events(self, folder):
        done = subprocess.run([python, "-c", reader, str(folder)], capture_output=True, text=True)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def send(self, *names, good=True):
        modules, calls = self.work / "modules", self.work / "calls"
        modules.mkdir(exist_ok=True)
        for name, text in clients.items():
            (modules / f"{name}.py").write_text(stand_in + text)
        calls.unlink(missing_ok=True)
        done = subprocess.run([sys.executable, self.out / "report/send.py", *names], capture_output=True, text=True,
                              env={"PATH": os.environ["PATH"], "PYTHONPATH": str(modules), "CALLS": str(calls)})
        self.assertEqual(done.returncode == 0, good, done.stdout + done.stderr)
        return ([json.loads(line) for line in calls.read_text().splitlines()] if calls.exists() else []), done.stdout + done.stderr

    @unittest.skipUnless(has_tensorboard, "the package tensorboard is not installed (LORAINE_TENSORBOARD)")
    def test_tensorboard_reads_a_run(self):
        text = self.good(self.train(report_to="tensorboard", val_size="0.25", eval_strategy="steps", eval_steps=5, max_steps=12))
        folders = list((self.out / "runs").iterdir())
        self.assertEqual(len(folders), 1)
        self.assertIn(f"tensorboard --logdir {folders[0]}", text)
        seen = self.read_events(folders[0])
        entries = self.history()
        for key, tag in [("loss", "train/loss"), ("grad_norm", "train/grad_norm"), ("learning_rate", "train/learning_rate"), ("eval_loss", "eval/loss"),
                         ("train_loss", "train/train_loss"), ("total_flos", "train/total_flos")]:
            expected = [[e["step"], e[key]] for e in entries if key in e]
            got = seen["scalars"][tag]
            if key == "eval_loss":  # and that of the finished run, which trainer_state.json does not hold
                self.assertEqual(got.pop()[0], 12)
            self.assertEqual([step for step, _ in got], [step for step, _ in expected], tag)
            for (_, value), (_, wanted) in zip(got, expected):
                self.assertAlmostEqual(value, wanted, delta=1e-6 * abs(wanted), msg=tag)
        self.assertEqual(len(seen["scalars"]["train/epoch"]), len(entries) + 1)
        self.assertEqual(json.loads(seen["texts"]["args/text_summary"])["lora_rank"], 4)
        self.assertEqual(json.loads(seen["texts"]["model_config/text_summary"])["model_type"], "llama")

    @unittest.skipUnless(has_tensorboard, "the package tensorboard is not installed (LORAINE_TENSORBOARD)")
    def test_a_resumed_run_goes_on_in_its_folder(self):
        self.good(self.train(report_to="tensorboard", max_steps=8, save_steps=4))
        subprocess.run(["rm", "-r", self.out / "checkpoint-8"], check=True)  # as if it had been killed at step 8
        self.good(self.train(report_to="tensorboard", max_steps=12, save_steps=4))
        folders = list((self.out / "runs").iterdir())
        self.assertEqual([len(list(folder.iterdir())) for folder in folders], [2])
        self.assertEqual([step for step, _ in self.read_events(folders[0])["scalars"]["train/loss"]], list(range(1, 13)))

    def test_given_folder_and_names(self):
        self.good(self.train(report_to="tensorboard,jsonl", logging_dir=self.work / "board", max_steps=3))
        self.assertEqual(len(list((self.work / "board").glob("events.out.tfevents.*"))), 1)
        self.assertFalse((self.out / "runs").exists())
        lines = [json.loads(line) for line in (self.out / "report/metrics.jsonl").read_text().splitlines()]
        self.assertEqual([{k: v for k, v in line.items() if k != "time"} for line in lines],
                         [{"step": e["step"]} | e for e in self.history()])
        self.refused(self.train(report_to="comet_ml"), 2, "comet_ml", "tensorboard")
        self.refused(self.train(report_to="wandbb"), 2, "did you mean 'wandb'")
        self.assertIn("report_to names nothing that reads swanlab_project", self.train(swanlab_project="x", max_steps=1, overwrite_output_dir="true")[1])

    def test_sending(self):
        text = self.good(self.train(report_to="wandb,mlflow,swanlab,trackio", max_steps=4, save_steps=2, run_name="lessons", swanlab_mode="local"))
        self.assertIn("nothing was sent", text)
        self.assertIn("report/send.py", text)
        run = json.loads((self.out / "report/run.json").read_text())
        calls, text = self.send("wandb")
        self.assertEqual(calls[0], ["init", {"project": "llamafactory", "name": "lessons", "id": run["id"], "resume": "allow"}, 4, "llama"])
        logs = [call[1] for call in calls if call[0] == "log"]
        self.assertEqual([values["train/global_step"] for values in logs], [1, 2, 3, 4, 4])
        self.assertEqual([values["train/loss"] for values in logs[:4]], [e["loss"] for e in self.history() if "loss" in e])
        self.assertIn("train_loss", [call[1] for call in calls if call[0] == "summary"][0])
        calls, _ = self.send("mlflow")
        self.assertEqual(calls[0], ["start", None, "lessons"])
        self.assertEqual([call[3] for call in calls if call[0] == "metric" and call[2] == "loss"], [e["loss"] for e in self.history() if "loss" in e])
        calls, _ = self.send()  # the two that are left
        self.assertEqual([call[1].get("mode", "trackio") for call in calls if call[0] == "init"], ["local", "trackio"])
        self.assertEqual(len([call for call in calls if call[0] == "log"]), 10)
        calls, text = self.send()
        self.assertEqual(calls, [])
        self.assertEqual(text.count("nothing new"), 4)
        self.good(self.train(report_to="wandb,mlflow,swanlab,trackio", max_steps=6, save_steps=2, run_name="lessons"))
        calls, _ = self.send("mlflow")
        self.assertEqual(calls[0], ["start", "made-by-server", None])
        self.assertEqual(sorted({call[4] for call in calls if call[0] == "metric"}), [5, 6])
        calls, _ = self.send("wandb")
        self.assertEqual(calls[0][1]["id"], run["id"])
        self.assertEqual([call[1]["train/global_step"] for call in calls if call[0] == "log"], [5, 6, 6])
        self.assertIn("report_to of this run named", self.send("comet", good=False)[1])

    def test_a_missing_client_is_said(self):
        self.good(self.train(use_swanlab="true", max_steps=2))
        done = subprocess.run([sys.executable, "-S", "-E", self.out / "report/send.py"], capture_output=True, text=True)
        self.assertEqual(done.returncode, 1, done.stdout)
        self.assertIn("pip install swanlab", done.stderr)


if __name__ == "__main__":
    unittest.main()
