#!/usr/bin/env python3
"""The Python module: a model is trained, asked, merged and evaluated; Ctrl-C; threads; errors. Run by ctest (label e2e) on the module of the build
folder; by hand on an installed one: PYTHON tests/e2e/python_test.py. Without the module it ends with 77, which counts as skipped."""
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
import unittest

root = pathlib.Path(__file__).resolve().parent.parent.parent
sys.path.insert(0, str(root / "tests/support"))
import tiny_model as tiny

try:
    if os.environ.get("LORAINE_PYTHON") == "OFF":
        raise ImportError("this build is without LORAINE_PYTHON")
    import loraine
    from loraine import ChatModel, evaluate, export, train
except ImportError as missing:
    print(f"skipped: {missing}; ./dev setup and ./dev build, or pip install ., give the module")
    sys.exit(77)

messages = [{"role": "user", "content": "hello"}]


class Interrupt:
    """Ctrl-C, `delay` seconds after ready() became true."""

    def __init__(self, ready=lambda: True, delay=0.3):
        self.ready, self.delay = ready, delay

    def __enter__(self):
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        while not self.ready():
            time.sleep(0.01)
        time.sleep(self.delay)
        os.kill(os.getpid(), signal.SIGINT)

    def __exit__(self, *_):
        self.thread.join()


class Python(tiny.Case):
    def setUp(self):
        super().setUp()
        tiny.write_tokenizer(self.model)

    def settings(self, **changes):
        return dict(stage="sft", do_train=True, model_name_or_path=self.model, dataset="rows", dataset_dir=self.data, output_dir=self.out, lora_rank=4,
                    learning_rate=5e-3, per_device_train_batch_size=2, max_steps=12, logging_steps=1) | changes

    def chat_model(self, **changes):
        return ChatModel(dict(model_name_or_path=self.model, max_new_tokens=8, do_sample=False), **changes)

    def slow_model(self):
        """One whose answers take seconds."""
        tiny.write_tokenizer(tiny.write_model(self.work / "large", **tiny.large))
        return self.chat_model(model_name_or_path=self.work / "large", max_new_tokens=1000)

    def test_train_chat_export_and_evaluate(self):
        results = train(self.settings(val_size=0.25, do_eval=True))
        self.assertEqual(results, json.loads((self.out / "all_results.json").read_text()))
        self.assertGreater(results["train_loss"], 0)
        self.assertGreater(results["eval_loss"], 0)
        self.assertEqual(train(self.settings(output_dir=self.work / "dry", dry_run=True)), {})
        model = self.chat_model(adapter_name_or_path=f"tuned={self.out}")
        self.assertEqual(model.adapters(), ["tuned"])
        response = model.chat(messages)
        self.assertEqual(len(response), 1)
        self.assertEqual(response[0].prompt_length, len("u:hello a:"))
        self.assertTrue(1 <= response[0].response_length <= 8)
        self.assertEqual(response[0].finish_reason, "length" if response[0].response_length == 8 else "stop")
        self.assertIn(repr(response[0].response_text), repr(response[0]))
        self.assertEqual("".join(model.stream_chat(messages)), response[0].response_text)
        self.assertNotEqual(model.chat(messages, adapter="base")[0].response_text, response[0].response_text)
        several = model.chat(messages, num_return_sequences=3, do_sample=True, seed=3)
        self.assertEqual([r.response_text for r in several], [model.chat(messages, do_sample=True, seed=3 + i)[0].response_text for i in range(3)])
        model.unload_adapter("tuned")
        self.assertEqual(model.chat(messages)[0].response_text, model.chat(messages, adapter="base")[0].response_text)
        model.load_adapter("again", self.out)
        self.assertEqual(model.chat(messages, adapter="again")[0].response_text, response[0].response_text)
        export(model_name_or_path=self.model, adapter_name_or_path=self.out, export_dir=self.work / "merged")
        merged = self.chat_model(model_name_or_path=self.work / "merged")
        self.assertEqual(merged.chat(messages)[0].response_text, response[0].response_text)
        results = evaluate(model_name_or_path=self.model, eval_dataset="rows", dataset_dir=self.data, output_dir=self.work / "eval")
        self.assertEqual(results, json.loads((self.work / "eval/eval_results.json").read_text()))
        self.assertGreater(results["eval_loss"], 0)
        # train with nothing to train on evaluates, as the program does
        self.assertEqual(train(model_name_or_path=self.model, do_eval=True, eval_dataset="rows", dataset_dir=self.data, output_dir=self.work / "alone"), results)

    def test_the_same_files_as_the_program(self):
        train(self.settings(lora_target=["q_proj", "v_proj"], rank_pattern={"q_proj": 2}))
        words = [f"--{key}={'true' if value is True else value}" for key, value in self.settings(output_dir=self.work / "program").items()]
        self.good(tiny.run("train", *words, "--lora_target=q_proj,v_proj", '--rank_pattern={"q_proj": 2}'))
        self.assertEqual((self.out / "adapter_model.safetensors").read_bytes(), (self.work / "program/adapter_model.safetensors").read_bytes())

    def test_a_yaml_file_and_keywords_over_it(self):
        (self.work / "train.yaml").write_text("".join(f"{key}: {str(value).lower() if value is True else value}\n" for key, value in self.settings().items()))
        train(self.work / "train.yaml", lora_rank=2)
        self.assertEqual(json.loads((self.out / "adapter_config.json").read_text())["r"], 2)

    def test_the_example(self):
        train(self.settings(max_steps=30))
        done = subprocess.run([sys.executable, root / "examples/python/chat.py", self.model, "hello", f"tuned={self.out}"], capture_output=True, text=True, timeout=100)
        self.assertEqual(done.returncode, 0, done.stderr)
        base, tuned = [line.split(": ", 1) for line in done.stdout.splitlines()]
        self.assertEqual([base[0], tuned[0]], ["base", "tuned"])
        self.assertNotEqual(base[1], tuned[1])
        model = self.chat_model(adapter_name_or_path=self.out, max_new_tokens=32)
        self.assertEqual(model.chat(messages)[0].response_text, tuned[1])

    def test_errors_have_their_types_and_hints(self):
        with self.assertRaisesRegex(ValueError, "(?s)lora_rnk.*hint: .*lora_rank"):
            train(self.settings(lora_rnk=4))
        with self.assertRaisesRegex(RuntimeError, "config.json"):
            ChatModel(model_name_or_path=self.work)
        nowhere = self.work / "nowhere"
        for call in (lambda: ChatModel(model_name_or_path=nowhere), lambda: train(self.settings(model_name_or_path=nowhere)),
                     lambda: export(model_name_or_path=nowhere, export_dir=self.out), lambda: evaluate(self.settings(model_name_or_path=nowhere, eval_dataset="rows"))):
            with self.assertRaisesRegex(FileNotFoundError, "(?s)nowhere: no such model folder or file.*hint: "):
                call()
        self.assertFalse(self.out.exists())
        model = self.chat_model()
        with self.assertRaisesRegex(ValueError, "last one is no question"):
            model.chat([])
        with self.assertRaisesRegex(ValueError, "(?s)no adapter is called 'nobody'.*hint: "):
            model.chat(messages, adapter="nobody")
        with self.assertRaisesRegex(TypeError, "temprature"):
            model.chat(messages, temprature=1)
        with self.assertRaisesRegex(TypeError, "expected {.role"):
            model.chat(["hello"])
        with self.assertRaisesRegex(ValueError, "takes? turns|stands in place"):
            list(model.stream_chat(messages + messages))
        self.assertEqual(len(model.chat(messages)), 1)

    def test_threads_get_what_they_get_alone(self):
        train(self.settings())
        model = self.chat_model(adapter_name_or_path=f"tuned={self.out}")
        asked = [dict(messages=[{"role": "user", "content": f"question {i}"}], adapter=("base", "tuned")[i % 2]) for i in range(8)]
        alone = [model.chat(**one)[0].response_text for one in asked]
        together = [None] * len(asked)

        def work(i):
            together[i] = "".join(model.stream_chat(**asked[i])) if i % 3 else model.chat(**asked[i])[0].response_text

        threads = [threading.Thread(target=work, args=(i,)) for i in range(len(asked))]
        for thread in threads:
            thread.start()
        model.load_adapter("more", self.out)
        self.assertEqual(model.adapters(), ["more", "tuned"])
        for thread in threads:
            thread.join()
        self.assertEqual(together, alone)

    def test_ctrl_c_stops_a_run_which_goes_on_to_the_same_end(self):
        ticks, done = [], threading.Event()

        def count():
            while not done.wait(0.01):
                ticks.append(1)

        counter = threading.Thread(target=count)
        counter.start()
        log = self.out / "trainer_log.jsonl"
        with self.assertRaises(KeyboardInterrupt):
            with Interrupt(lambda: log.exists() and log.read_text(), 0.1):
                train(self.settings(max_steps=3000))
        done.set()
        counter.join()
        self.assertGreater(len(ticks), 5)  # other threads went on
        self.assertTrue(list(self.out.glob("checkpoint-*")))
        self.assertFalse((self.out / "adapter_model.safetensors").exists())
        train(self.settings(max_steps=3000))
        train(self.settings(max_steps=3000, output_dir=self.work / "whole"))
        self.assertEqual((self.out / "adapter_model.safetensors").read_bytes(), (self.work / "whole/adapter_model.safetensors").read_bytes())

    def test_ctrl_c_stops_an_evaluation(self):
        rows = tiny.write_rows(self.work / "many", count=30000)
        with self.assertRaises(KeyboardInterrupt):
            with Interrupt():
                evaluate(model_name_or_path=self.model, eval_dataset="rows", dataset_dir=rows, output_dir=self.out, per_device_eval_batch_size=1)
        self.assertFalse((self.out / "eval_results.json").exists())

    def test_ctrl_c_and_close_end_an_answer(self):
        model = self.slow_model()
        start = time.monotonic()
        with self.assertRaises(KeyboardInterrupt):
            with Interrupt():
                model.chat(messages, num_return_sequences=1000)
        with self.assertRaises(KeyboardInterrupt):
            with Interrupt():
                list(model.stream_chat(messages, do_sample=True))
        pieces = model.stream_chat(messages, do_sample=True)
        next(pieces)
        pieces.close()
        self.assertLess(time.monotonic() - start, 60)
        self.assertEqual(len(model.chat(messages, max_new_tokens=3)), 1)  # it still answers

    def test_an_interpreter_ends_while_an_answer_goes_on(self):
        self.slow_model()
        code = f"from loraine import ChatModel\nm = ChatModel(model_name_or_path={str(self.work / 'large')!r}, max_new_tokens=1000)\n" \
               f"s = m.stream_chat({messages!r})\nprint(bool(next(s)))"
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=100)
        self.assertEqual((done.returncode, done.stdout, done.stderr), (0, "True\n", ""))


if __name__ == "__main__":
    print("module:", loraine.__file__)
    unittest.main()
