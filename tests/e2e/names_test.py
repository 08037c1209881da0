#!/usr/bin/env python3
"""LLaMA-Factory's names: its commands through a link, its settings files (with ${…}, of its v1, as JSON), its Python package. Run by ctest (label e2e);
what needs the Python module is skipped in a build without it."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny

package = tiny.root / "python/llamafactory/src"


def called(name, *words, **environment):
    done = subprocess.run([name, *map(str, words)], capture_output=True, text=True, timeout=120, env=os.environ | environment, stdin=subprocess.DEVNULL)
    return done.returncode, done.stdout + done.stderr


class Commands(tiny.Case):
    def test_links(self):
        for name in ("llamafactory-cli", "lmf"):
            link = self.work / name
            link.symlink_to(tiny.program.resolve())
            self.assertEqual(self.good(called(link, "version")), "loraine 0.1.0\n")
            for words in ((), ("help",), ("--help",)):
                self.assertIn(f"usage: {name} COMMAND", self.good(called(link, *words)))
            self.assertIn("`loraine` version", self.good(called(link, "env")))
            for command, instead in (("webui", "loraine train FILE.yaml"), ("webchat", "loraine chat")):
                self.refused(called(link, command), 2, f"'{command}' is a command of LLaMA-Factory", instead)
            self.good(called(link, *self.arguments(self.work / f"by_{name}", max_steps=1)))
            self.assertIn("usage: loraine chat", self.good(called(link, "chat", "--help")))
        self.assertIn("usage: loraine COMMAND", self.good(tiny.run("help")))

    def test_installed_links(self):
        prefix = self.work / "prefix"
        (prefix / "bin").mkdir(parents=True)
        build = os.environ.get("LORAINE_BUILD", tiny.program.parent)
        self.good(called("cmake", "--install", build, "--prefix", prefix, "--component", "llamafactory"))
        self.assertEqual({p.name: os.readlink(p) for p in (prefix / "bin").iterdir()}, {"llamafactory-cli": "loraine", "lmf": "loraine"})

    def test_env(self):
        text = self.good(called(tiny.program, "env", HF_HOME=str(self.work), HF_TOKEN="hf_secret"))
        for what in ("Platform: Linux", "CPU:", "Cores:", "Memory:", "oneDNN", f"Hugging Face cache: {self.work}/hub (not there)", "HF_TOKEN (set)"):
            self.assertIn(what, text)
        self.assertNotIn("hf_secret", text)
        self.refused(tiny.run("env", "--x"), 2, "env takes no settings")
        lines, values = self.good(tiny.run("env")).splitlines(), json.loads(self.good(tiny.run("env", "--json")))
        self.assertEqual(len(values), len(lines))
        self.assertIn(f"- Cores: {values['cores']}", lines)

    def test_tokenize_needs_no_model(self):
        tiny.write_tokenizer(self.model)
        alone = self.work / "alone"
        alone.mkdir()
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(self.model / name, alone)
        (self.work / "rows.jsonl").write_text('{"text": "one two"}\n{"messages": [{"role": "user", "content": "hi"}]}\n')
        answers = []
        for folder in (self.model, alone):
            self.good(tiny.run("tokenize", "--model_name_or_path", folder, "--input", self.work / "rows.jsonl", "--output", self.work / "ids.jsonl"))
            answers.append((self.work / "ids.jsonl").read_text())
        self.assertEqual(answers[0], answers[1])
        (alone / "tokenizer.json").unlink()
        self.refused(tiny.run("tokenize", "--model_name_or_path", alone, "--input", self.work / "rows.jsonl", "--output", self.work / "x"), 3, "no tokenizer.json")


class SettingsFiles(tiny.Case):
    def setUp(self):
        super().setUp()
        self.file = self.work / "train.yaml"
        self.base = (f"model_name_or_path: {self.model}\ndataset: rows\ndataset_dir: {self.data}\nlora_target: all\nper_device_train_batch_size: 2\n"
                     "learning_rate: 5e-3\nlogging_steps: 1\n")

    def settings(self, out):
        return json.loads((out / "loraine_run.json").read_text())["settings"]

    def test_variables_and_other_keys(self):
        self.file.write_text(self.base + "lora_rank: ${oc.env:RANK}\nmax_steps: ${oc.env:STEPS,3}\nrun_name: r${lora_rank}\noutput_dir: ~/${run_name}\n")
        self.good(called(tiny.program, "train", self.file, "report_to=jsonl", RANK="2", HOME=str(self.work)))
        out = self.work / "r2"
        self.assertEqual(json.loads((out / "adapter_config.json").read_text())["r"], 2)
        self.assertEqual(json.loads((out / "trainer_state.json").read_text())["global_step"], 3)
        self.assertEqual(json.loads((out / "report/run.json").read_text())["name"], "r2")
        self.refused(called(tiny.program, "train", self.file), 2, "train.yaml:8:1: lora_rank: the environment variable RANK is not set")
        self.file.write_text(self.base + "output_dir: ???\n")
        self.refused(tiny.run("train", self.file), 2, "train.yaml:8:1: output_dir: it is ???", "output_dir=VALUE")
        self.good(tiny.run("train", self.file, f"output_dir={self.out}", "max_steps=1"))

    def test_json(self):
        file = self.work / "train.json"
        file.write_text(json.dumps(dict(model_name_or_path=str(self.model), dataset="rows", dataset_dir=str(self.data), output_dir=str(self.out), max_steps=9)))
        self.good(tiny.run("train", file, "max_steps=1"))
        self.assertEqual(json.loads((self.out / "trainer_state.json").read_text())["global_step"], 1)

    def test_v1(self):
        self.file.write_text(
            f"model: {self.model}\nmodel_class: llm\npeft_config:\n  name: lora\n  r: 3\n  target_modules: all\nkernel_config:\n  name: auto\n"
            f"dist_config:\n  name: fsdp2\n  dcp_path: null\ntrain_dataset: {self.data}/rows.jsonl\noutput_dir: {self.out}\nmicro_batch_size: 2\n"
            "global_batch_size: 4\nbf16: false\nlearning_rate: 1.0e-4\nmax_steps: 2\n")
        text = self.good(tiny.run("train", self.file))
        self.assertEqual(text.count("v1 settings"), 1)
        config = json.loads((self.out / "adapter_config.json").read_text())
        self.assertEqual((config["r"], config["lora_alpha"], config["lora_dropout"]), (3, 16, 0.05))
        history = json.loads((self.out / "trainer_state.json").read_text())["log_history"]
        self.assertEqual([e["learning_rate"] for e in history if "loss" in e], [1e-4, 1e-4])
        self.refused(tiny.run("train", self.file, "optim_config={name: sophia}"), 2, "optim_config", "no counterpart")

    def test_no_key_is_passed_over(self):
        self.file.write_text(self.base + "lora_rnk: 3\n")
        self.refused(called(tiny.program, "train", self.file, ALLOW_EXTRA_ARGS="1"), 2, "unknown key 'lora_rnk'", "did you mean 'lora_rank'", "ALLOW_EXTRA_ARGS")


class Package(tiny.Case):
    """python/llamafactory over the module of the build folder."""

    def python(self, program, *paths, **environment):
        path = os.pathsep.join([*map(str, paths), str(package), os.environ.get("PYTHONPATH", "")])
        return called(sys.executable, "-c", program, PYTHONPATH=path, **environment)

    def test_not_beside_the_real_one(self):
        real = self.work / "site"
        (real / "llamafactory-0.9.5.dist-info").mkdir(parents=True)
        (real / "llamafactory-0.9.5.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: llamafactory\nVersion: 0.9.5\n")
        code, text = self.python("import llamafactory", real)
        self.assertEqual(code, 1)
        self.assertIn("LLaMA-Factory 0.9.5 and loraine-llamafactory are installed together", text)
        self.assertEqual(self.good(self.python("import llamafactory; print(llamafactory.__version__)")), "0.9.5+loraine\n")

    def test_not_built_beside_the_real_one(self):
        program = ("import sys, types; sys.modules['setuptools'] = s = types.ModuleType('setuptools'); s.build_meta = b = types.ModuleType('setuptools.build_meta')\n"
                   "sys.modules['setuptools.build_meta'] = b; b.build_wheel = b.build_editable = lambda *a, **k: 'built'\n"
                   f"import sysconfig; sysconfig.get_path = lambda name: {str(self.work)!r}\n"
                   f"sys.path.insert(0, {str(package.parent)!r}); import guarded_build; print(guarded_build.build_wheel('x'))")
        self.assertEqual(self.good(self.python(program)), "built\n")
        (self.work / "llamafactory-0.9.5.dist-info").mkdir()
        (self.work / "llamafactory-0.9.5.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: llamafactory\nVersion: 0.9.5\n")
        code, text = self.python(program)
        self.assertEqual(code, 1)
        self.assertIn("LLaMA-Factory 0.9.5 is installed here", text)

    def test_commands(self):
        program = "import sys; sys.argv = ['/x/bin/lmf', 'help']; from llamafactory.cli import main; main()"
        self.assertIn("usage: lmf COMMAND", self.good(self.python(program, LORAINE_PROGRAM=str(tiny.program.resolve()))))
        code, text = self.python(program, LORAINE_PROGRAM="", PATH="/nowhere")
        self.assertEqual(code, 1)
        self.assertIn("not on the PATH", text)

    @unittest.skipUnless(os.environ.get("LORAINE_PYTHON") != "OFF" and subprocess.run([sys.executable, "-c", "import loraine._loraine"], capture_output=True).returncode == 0,
                         "the Python module is not built")
    def test_chat_train_and_export(self):
        tiny.write_tokenizer(self.model)
        settings = dict(zip((w.lstrip("-") for w in self.arguments(max_steps=2)[1::2]), map(str, self.arguments(max_steps=2)[2::2])))
        program = f"""
import asyncio, json
from llamafactory.chat import ChatModel
from llamafactory.chat.chat_model import ChatModel as Same
from llamafactory.extras.misc import torch_gc
from llamafactory.train.tuner import export_model, run_exp
assert Same is ChatModel
run_exp({settings!r})
model = ChatModel(dict(model_name_or_path={str(self.model)!r}, adapter_name_or_path={str(self.out)!r}, do_sample=False, max_new_tokens=6))
messages = [{{"role": "user", "content": "hello"}}]
answer, = model.chat(messages)
assert set(vars(answer)) == {{"response_text", "response_length", "prompt_length", "finish_reason"}}, vars(answer)
assert answer.finish_reason in ("stop", "length") and answer.prompt_length > 0, answer
assert "".join(model.stream_chat(messages)) == answer.response_text
async def others():
    again, = await model.achat(messages)
    return again, "".join([piece async for piece in model.astream_chat(messages)])
again, streamed = asyncio.run(others())
assert again == answer and streamed == answer.response_text, (again, streamed)
assert model.chat(messages, max_new_tokens=1)[0].response_length == 1
for call in (lambda: model.chat(messages, images=["x"]), lambda: model.chat(messages, max_length=3), lambda: run_exp({{}}, callbacks=[1])):
    try: call()
    except NotImplementedError: pass
    else: raise AssertionError("taken")
try: model.get_scores(["x"])
except ValueError as error: assert "value_head.safetensors" in str(error), error
else: raise AssertionError("scored without a head")
del model
torch_gc()
export_model(dict(model_name_or_path={str(self.model)!r}, adapter_name_or_path={str(self.out)!r}, export_dir={str(self.work / "merged")!r}))
run_exp(["--model_name_or_path", {str(self.model)!r}, "--dataset", "rows", "--dataset_dir", {str(self.data)!r}, "--output_dir", {str(self.work / "words")!r}, "--max_steps", "1"])
print("all done")
"""
        self.assertIn("all done", self.good(self.python(program)))
        self.assertTrue((self.work / "merged/model.safetensors").exists())
        self.assertTrue((self.work / "words/adapter_model.safetensors").exists())


if __name__ == "__main__":
    unittest.main()
