#!/usr/bin/env python3
"""The chat template of a run is shown, kept beside what was trained, and used by whoever loads it; adapters know their base by its weights; name=path
means the same everywhere. Run by ctest (label e2e)."""
import json
import pathlib
import re
import shutil
import subprocess
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "support"))
import tiny_model as tiny


def chat(*arguments, ask="hi\n"):
    """(exit code, answers, what was said beside them)"""
    done = subprocess.run([tiny.program, "chat", "--do_sample", "false", *map(str, arguments)], capture_output=True, text=True, input=ask, timeout=300)
    return done.returncode, done.stdout, done.stderr


class Templates(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)
        self.change("config.json", max_position_embeddings=512)
        rows = [{"instruction": f"say {word}", "input": "", "output": word * 2} for word in ("ab", "cd", "ef", "gh")]
        (self.data / "chats.json").write_text(json.dumps(rows))
        (self.data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "chats.json"}}))

    def change(self, name, **keys):
        path = self.model / name
        content = json.loads(path.read_text()) | keys
        path.write_text(json.dumps({key: value for key, value in content.items() if value is not None}))

    def train(self, out, **changes):
        text = self.good(tiny.run(*self.arguments(out=out, **({"max_steps": 3} | changes))))
        return text

    def shows(self, template, text):
        self.assertRegex(text, r"(?m)^  template +" + re.escape(template) + "$")

    def model_and(self, *more):
        return "--model_name_or_path", self.model, "--max_new_tokens", 12, *more

    def record(self, folder):
        return json.loads((folder / "loraine.json").read_text())

    def test_the_template_of_a_run_is_kept_and_used(self):
        text = self.train(self.out, template="alpaca", default_system="Be kind. ", save_steps=2)
        self.shows("alpaca (as given)", text)
        for folder in (self.out, self.out / "checkpoint-2"):
            self.assertEqual(self.record(folder)["template"], "alpaca")
            self.assertEqual(self.record(folder)["default_system"], "Be kind. ")
        code, answer, said = chat(*self.model_and("--adapter_name_or_path", self.out))
        self.assertEqual(code, 0, said)
        self.assertIn("template: alpaca (the adapter's)", said)
        same = chat(*self.model_and("--adapter_name_or_path", self.out, "--template", "alpaca", "--default_system", "Be kind. "))
        self.assertEqual(answer, same[1])
        self.assertNotIn("warning", same[2])
        other = chat(*self.model_and("--adapter_name_or_path", self.out, "--template", "vicuna"))
        self.assertIn("template vicuna is given", other[2])
        self.assertIn("trained with template alpaca", other[2])
        self.assertNotEqual(answer, other[1])
        strict = chat(*self.model_and("--adapter_name_or_path", self.out, "--template", "vicuna", "--strict", "true"))
        self.assertEqual(strict[0], 2)

    def test_the_tool_format_is_kept_with_it(self):
        self.train(self.out, template="alpaca", tool_format="llama3", preserve_thinking="true")
        self.assertEqual([self.record(self.out)[key] for key in ("template", "tool_format", "preserve_thinking")], ["alpaca", "llama3", True])
        self.refused(tiny.run(*self.arguments(out=self.work / "none", tool_format="llama3")), 2, "without a named template")
        self.refused(tiny.run(*self.arguments(out=self.work / "none", template="alpaca", tool_format="klingon")), 2, "tool_format: `klingon` is not known", "minimax2")

    def test_eval_export_and_later_runs_take_it(self):
        self.train(self.out, template="alpaca")
        common = self.model_and("--adapter_name_or_path", self.out, "--eval_dataset", "rows", "--dataset_dir", self.data)
        losses = []
        for more in ((), ("--template", "alpaca"), ("--template", "vicuna")):
            out = self.work / f"eval{len(losses)}"
            self.good(tiny.run("eval", *common, "--output_dir", out, *more))
            losses.append(json.loads((out / "eval_results.json").read_text()))
        key = next(name for name in losses[0] if name.endswith("loss"))
        self.assertEqual(losses[0][key], losses[1][key])
        self.assertNotEqual(losses[0][key], losses[2][key])
        merged = self.work / "merged"
        text = self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", self.out, "--export_dir", merged))
        self.assertIn("template: alpaca (the adapter's)", text)
        self.assertIn("### Response:", (merged / "Modelfile").read_text())
        self.assertIn("### Response:", (merged / "chat_template.jinja").read_text())
        code, answer, said = chat("--model_name_or_path", merged, "--max_new_tokens", 12)
        self.assertEqual(code, 0, said)
        self.assertIn("template: alpaca (the model's)", said)
        self.assertEqual(answer, chat(*self.model_and("--adapter_name_or_path", self.out))[1])
        text = self.train(self.work / "on", adapter_name_or_path=self.out)
        self.shows("alpaca (the adapter's)", text)
        self.assertEqual(self.record(self.work / "on")["template"], "alpaca")

    def test_a_base_without_a_template(self):
        self.change("tokenizer_config.json", chat_template=None)
        self.assertEqual(chat(*self.model_and())[0], 3)
        text = self.train(self.out)
        self.shows("empty (the model has no chat template)", text)
        self.assertIn("template: alpaca", text)  # what to write instead
        code, _, said = chat(*self.model_and("--adapter_name_or_path", self.out))
        self.assertEqual(code, 0, said)
        self.assertIn("template: empty (the adapter's)", said)
        self.train(self.work / "whole", finetuning_type="full")
        code, _, said = chat("--model_name_or_path", self.work / "whole", "--max_new_tokens", 3)
        self.assertEqual(code, 0, said)
        self.assertIn("template: empty (the model's)", said)

    def test_the_models_own_template_stays(self):
        text = self.train(self.out)
        self.shows("the model's own chat template", text)
        code, answer, said = chat(*self.model_and("--adapter_name_or_path", self.out))
        self.assertEqual(code, 0, said)
        self.assertIn("template: the model's own chat template", said)
        self.change("tokenizer_config.json", chat_template="{% for m in messages %}q{{ m['content'] }}{% endfor %}a")  # another one since
        code, after, said = chat(*self.model_and("--adapter_name_or_path", self.out))
        self.assertIn("template: the adapter's chat_template.jinja", said)
        self.assertEqual(answer, after)
        (self.out / "loraine.json").unlink()  # as PEFT and LLaMA-Factory leave it
        self.assertIn("template: the adapter's chat_template.jinja", chat(*self.model_and("--adapter_name_or_path", self.out))[2])

    def test_each_adapter_talks_as_it_was_trained(self):
        one, two = self.work / "one", self.work / "two"
        self.train(one, template="alpaca")
        self.train(two, template="vicuna")
        alone = [chat(*self.model_and("--adapter_name_or_path", folder))[1] for folder in (one, two)]
        names = ("--adapter_name_or_path", f"a={one},b={two}")
        code, answers, said = chat(*self.model_and(*names), ask="hi\nclear\n/adapter b\nhi\n")
        self.assertEqual(code, 0, said)
        self.assertEqual(answers, "".join(alone))
        self.assertIn("template: alpaca (the adapter's)", said)
        self.assertIn("template: vicuna (the adapter's)", said)
        asked = chat(*self.model_and(*names), ask="/ask a,b hi\n")[1]
        for name, answer in zip("ab", alone):
            self.assertIn(f"Assistant [{name}]: " + answer.removeprefix("Assistant: ").rstrip("\n"), asked)
        out = tiny.run("eval", *self.model_and(*names), "--eval_dataset", "rows", "--dataset_dir", self.data, "--output_dir", self.work / "e")
        self.refused(out, 2, "different templates", "alpaca", "vicuna", "--template")

    def test_a_template_for_another_vocabulary(self):
        text = chat(*self.model_and("--template", "llama3"))
        self.assertEqual(text[0], 2)
        self.assertEqual(text[1], "")  # nothing was asked
        for word in ("llama3 needs <|start_header_id|>", "this tokenizer lacks", "leave template out"):
            self.assertIn(word, text[2])

    def test_a_cut_answer_is_marked(self):
        code, answer, said = chat("--model_name_or_path", self.model, "--max_new_tokens", 2)
        self.assertEqual(code, 0)
        self.assertIn("[cut after 2 tokens: max_new_tokens]", said)
        self.assertNotIn("cut", answer)

    def test_a_base_is_known_by_its_weights(self):
        self.train(self.out)
        adapter = ("--adapter_name_or_path", self.out)
        elsewhere = self.work / "some" / "where"
        shutil.copytree(self.model, elsewhere)
        self.assertNotIn("warning", chat("--model_name_or_path", elsewhere, *adapter, "--max_new_tokens", 2)[2])
        other = tiny.write_model(self.work / "other", seed=9)
        tiny.write_tokenizer(other)
        said = chat("--model_name_or_path", other, *adapter, "--max_new_tokens", 2)[2]
        self.assertIn("made for the base model", said)
        self.assertIn("other weights", said)
        (self.out / "loraine.json").unlink()  # PEFT's: the base that the config names is looked at
        self.assertNotIn("warning", chat("--model_name_or_path", elsewhere, *adapter, "--max_new_tokens", 2)[2])
        self.assertIn("other weights", chat("--model_name_or_path", other, *adapter, "--max_new_tokens", 2)[2])
        config = json.loads((self.out / "adapter_config.json").read_text())
        for name, warned in (("hub/where", False), ("hub/elsewhere", True)):
            (self.out / "adapter_config.json").write_text(json.dumps(config | {"base_model_name_or_path": name}))
            said = chat("--model_name_or_path", elsewhere, *adapter, "--max_new_tokens", 2)[2]
            self.assertEqual("cannot be told" in said, warned, said)

    def test_weights_that_changed_in_their_place(self):
        self.train(self.out)
        tiny.write_safetensors(self.model / "model.safetensors", tiny.llama_tensors(seed=5))
        said = chat(*self.model_and("--adapter_name_or_path", self.out))[2]
        self.assertIn("other weights than", said)

    def test_names_mean_the_same_in_every_command(self):
        one, two = self.work / "one", self.work / "two"
        self.train(one, template="alpaca")
        self.train(two, template="alpaca", learning_rate="9e-3")
        single, both = f"a={one}", f"a={one},b={two}"
        merged = []
        for name, given in (("x", single), ("y", one)):
            self.good(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", given, "--export_dir", self.work / name))
            merged.append((self.work / name / "model.safetensors").read_bytes())
        self.assertEqual(*merged)
        self.refused(tiny.run("export", "--model_name_or_path", self.model, "--adapter_name_or_path", both, "--export_dir", self.work / "z"), 2, "name=path", "path,path")
        self.refused(tiny.run(*self.arguments(out=self.work / "t", adapter_name_or_path=both)), 2, "name=path", "path,path")
        self.train(self.work / "on", adapter_name_or_path=single)
        self.good(tiny.run("eval", *self.model_and("--adapter_name_or_path", both), "--eval_dataset", "rows", "--dataset_dir", self.data, "--output_dir", self.work / "e"))
        code, _, said = chat(*self.model_and("--adapter_name_or_path", both))
        self.assertEqual(code, 0, said)


if __name__ == "__main__":
    unittest.main(verbosity=2)
