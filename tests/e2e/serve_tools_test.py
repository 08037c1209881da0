#!/usr/bin/env python3
"""loraine serve: thoughts, tools, answers of a given form, responses, Anthropic's messages, prompts read once. A small model that was taught
a few answers by heart, so that what it says is known. Run by ctest (label e2e)."""
import concurrent.futures
import json
import re
import time
import unittest

from serve_test import Served, Server, events, patience, text_of, tiny

template = (
    "{%- if tools %}[{% for t in tools %}{{ t.function.name }} {% endfor %}]{% endif -%}"
    "{%- for m in messages %}{{ m.role[0] }}:{% if m.reasoning_content %}<think>{{ m.reasoning_content }}</think>{% endif %}{{ m.content }}"
    "{% for c in m.tool_calls or [] %}<tool_call>{{ c.function.name }} {{ c.function.arguments | tojson }}</tool_call>{% endfor %} {% endfor -%}"
    "{%- if add_generation_prompt %}a:{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif -%}"
)
call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
taught = {
    "u:hello a:": "<think>Hm.</think>Hi there.",
    "u:hello a:<think>\n\n</think>\n\n": "Hi there.",
    "[get_weather ]u:weather a:": f"<think>Look.</think>Wait. {call}",
    "[get_weather ]u:both a:<think>\n\n</think>\n\n": f"{call}\n{call.replace('Rome', 'Oslo')}",
    "[get_weather ]u:weather a:<think>\n\n</think>\n\n": f"Wait. {call}",
}
weather = {"type": "function", "function": {"name": "get_weather", "description": "d", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}}}
pick = {"type": "function", "function": {"name": "pick", "strict": True, "parameters": {"type": "object", "properties": {
    "color": {"enum": ["red", "green"]}, "count": {"type": "integer", "minimum": 1, "maximum": 9}, "deep": {"type": "boolean"}},
    "required": ["color", "count"], "additionalProperties": False}}}


def ids_of(text):
    kept = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    order = kept + [b for b in range(256) if b not in kept]
    return [3 + order.index(b) for b in text.encode()]


def named_events(text):
    """(name, JSON) of each event of a stream."""
    return [(found[1], json.loads(found[2])) for found in re.finditer(r"event: (.*)\ndata: (.*)\n\n", text)]


class Taught(Served):
    sizes = dict(vocab=259, channels=64, inner=160, heads=4, kv_heads=4)
    trained = {}

    @classmethod
    def setUpClass(cls):
        import pathlib
        import tempfile
        cls.holder = tempfile.TemporaryDirectory()
        cls.work = pathlib.Path(cls.holder.name)
        blank = tiny.write_model(cls.work / "blank", **cls.sizes)
        tiny.write_byte_tokenizer(blank)
        config = json.loads((blank / "tokenizer_config.json").read_text())
        (blank / "tokenizer_config.json").write_text(json.dumps(config | {"chat_template": template}))
        data = cls.work / "data"
        data.mkdir()
        rows = [dict(input_ids=ids_of(asked + said) + [2], labels=[-100] * len(asked.encode()) + ids_of(said) + [2]) for asked, said in taught.items()]
        (data / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        (data / "dataset_info.json").write_text(json.dumps({"rows": {"file_name": "rows.jsonl", "formatting": "tokenized"}}))
        cls.model = cls.work / "taught"
        done = tiny.run("train", *[word for key, value in dict(
            stage="sft", do_train="true", finetuning_type="full", model_name_or_path=blank, dataset="rows", dataset_dir=data, output_dir=cls.model, learning_rate="3e-3",
            per_device_train_batch_size=len(rows), max_steps=220, logging_steps=20, warmup_steps=10, save_steps=10000, lr_scheduler_type="cosine").items() for word in (f"--{key}", value)])
        assert done[0] == 0, done[1]
        other = cls.work / "other"
        done = tiny.run(*tiny.train_arguments(cls.model, tiny.write_rows(cls.work / "more", vocab=259), other, max_steps=2))
        assert done[0] == 0, done[1]
        cls.server = Server(cls.work, "--model_name_or_path", cls.model, "--adapter_name_or_path", f"other={other}", *cls.more())

    def ask(self, text, **more):
        return self.server.chat(text, **(dict(max_tokens=400) | more))

    def joined(self, reply, choice=0):
        """The message that a stream adds up to, and its finish reason."""
        message, finish = {}, None
        for one in events(self.good(reply))[0]:
            for part in one["choices"]:
                if part["index"] != choice:
                    continue
                finish = part["finish_reason"] or finish
                for key, value in part["delta"].items():
                    if key == "tool_calls":
                        calls = message.setdefault(key, [])
                        for piece in value:
                            if "id" in piece:
                                self.assertEqual(piece["index"], len(calls))
                                calls.append({"id": piece["id"], "type": piece["type"], "function": dict(piece["function"])})
                            else:
                                calls[piece["index"]]["function"]["arguments"] += piece["function"]["arguments"]
                    elif key != "role":
                        message[key] = message.get(key, "") + value
        return message, finish


class Thoughts(Taught):
    def test_apart_from_the_text(self):
        whole = self.good(self.ask("hello"))
        message = whole["choices"][0]["message"]
        self.assertEqual((message["content"], message["reasoning_content"], message["reasoning"]), ("Hi there.", "Hm.", "Hm."))
        self.assertEqual(whole["choices"][0]["finish_reason"], "stop")
        self.assertEqual(whole["usage"]["completion_tokens_details"]["reasoning_tokens"], len("Hm.</think>") + 1)  # the byte that completes <think> too
        streamed, finish = self.joined(self.ask("hello", stream=True))
        self.assertEqual((streamed["content"], streamed["reasoning_content"], streamed["reasoning"], finish), ("Hi there.", "Hm.", "Hm.", "stop"))
        hidden = self.good(self.ask("hello", include_reasoning=False))["choices"][0]["message"]
        self.assertEqual(hidden, {"role": "assistant", "content": "Hi there."})
        for off in (dict(chat_template_kwargs={"enable_thinking": False}), dict(enable_thinking=False), dict(reasoning_effort="none")):
            self.assertEqual(self.good(self.ask("hello", **off))["choices"][0]["message"], {"role": "assistant", "content": "Hi there."}, off)
        cut = self.good(self.ask("hello", max_tokens=9))["choices"][0]
        self.assertEqual((cut["message"]["content"], cut["message"]["reasoning_content"], cut["finish_reason"]), (None, "Hm", "length"))

    def test_no_more_than_the_budget(self):
        said = lambda budget, **more: self.good(self.ask("hello", thinking_token_budget=budget, **more))["choices"][0]["message"]
        for budget, thought in ((0, None), (1, "H"), (2, "Hm")):
            self.assertEqual(said(budget).get("reasoning_content"), thought)
            self.assertEqual(said(budget, response_format={"type": "json_object"}).get("reasoning_content"), thought)
        for budget in (3, 100):
            self.assertEqual(said(budget), {"role": "assistant", "content": "Hi there.", "reasoning_content": "Hm.", "reasoning": "Hm."})
        self.assertEqual(said(1, enable_thinking=False), {"role": "assistant", "content": "Hi there."})
        status, _, answer = self.server.ask("POST", "/v1/completions", {"prompt": "hello", "thinking_token_budget": 1})
        self.assertEqual((status, answer["error"]["param"]), (400, "thinking_token_budget"))

    def test_of_earlier_turns_are_the_templates(self):
        prompt = self.good(self.server.ask("POST", "/apply-template", dict(messages=[
            {"role": "user", "content": "q"}, {"role": "assistant", "content": "a", "reasoning": "r"}, {"role": "user", "content": "q"}])))["prompt"]
        self.assertEqual(prompt, "u:q a:<think>r</think>a u:q a:")


class Tools(Taught):
    def test_calls_of_the_model(self):
        whole = self.good(self.ask("weather", tools=[weather]))["choices"][0]
        self.assertEqual(whole["finish_reason"], "tool_calls", whole)
        message = whole["message"]
        self.assertEqual((message["reasoning_content"], message["content"]), ("Look.", "Wait."))
        self.assertEqual(message["tool_calls"][0]["function"], {"name": "get_weather", "arguments": '{"city": "Rome"}'})
        self.assertRegex(message["tool_calls"][0]["id"], "^call_[0-9a-f]{24}$")
        streamed, finish = self.joined(self.ask("weather", tools=[weather], stream=True))
        self.assertEqual((finish, streamed["content"], streamed["reasoning"]), ("tool_calls", "Wait.", "Look."))
        self.assertEqual([one["function"] for one in streamed["tool_calls"]], [one["function"] for one in message["tool_calls"]])
        both = dict(tools=[weather], enable_thinking=False)
        for stream in (False, True):
            reply = self.ask("both", stream=stream, **both)
            message = self.joined(reply)[0] if stream else self.good(reply)["choices"][0]["message"]
            self.assertEqual([one["function"]["arguments"] for one in message["tool_calls"]], ['{"city": "Rome"}', '{"city": "Oslo"}'])
            if not stream:
                self.assertIsNone(message["content"])
        one = self.good(self.ask("both", parallel_tool_calls=False, **both))["choices"][0]["message"]["tool_calls"]
        self.assertEqual(len(one), 1)
        none = self.good(self.ask("hello", tools=[weather], tool_choice="none"))["choices"][0]
        self.assertEqual(none["message"]["content"], "Hi there.")  # and the template saw no tools

    def test_a_conversation_with_results(self):
        first = self.good(self.ask("weather", tools=[weather]))["choices"][0]["message"]
        messages = [{"role": "user", "content": "weather"}, first, {"role": "tool", "tool_call_id": first["tool_calls"][0]["id"], "content": "22 C"}]
        prompt = self.good(self.server.ask("POST", "/apply-template", dict(messages=messages, tools=[weather])))["prompt"]
        self.assertEqual(prompt, '[get_weather ]u:weather a:<think>Look.</think>Wait.<tool_call>get_weather {"city": "Rome"}</tool_call> t:22 C a:')
        self.good(self.server.ask("POST", "/v1/chat/completions", dict(messages=messages, tools=[weather], max_tokens=5)))

    def test_by_ollamas_protocol(self):
        def ask(text, **more):
            return self.server.ask("POST", "/api/chat", {"model": "taught", "messages": [{"role": "user", "content": text}], "options": {"temperature": 0, "num_predict": 400}} | more)
        rome = {"function": {"name": "get_weather", "arguments": {"city": "Rome"}}}
        wanted = {"role": "assistant", "content": "Wait.", "thinking": "Look.", "tool_calls": [rome]}
        self.assertEqual(self.good(ask("weather", tools=[weather], stream=False))["message"], wanted)
        said = [json.loads(line)["message"] for line in self.good(ask("weather", tools=[weather])).splitlines()]
        self.assertEqual("".join(one.get("thinking", "") for one in said), "Look.")
        self.assertEqual("".join(one["content"] for one in said), "Wait.")
        self.assertEqual([call for one in said for call in one.get("tool_calls", [])], [rome])
        quiet = self.good(ask("hello", think=False, stream=False))["message"]
        self.assertEqual(quiet, {"role": "assistant", "content": "Hi there."})
        shape = {"type": "object", "properties": {"n": {"enum": [7]}}, "required": ["n"], "additionalProperties": False}
        self.assertEqual(json.loads(self.good(ask("hello", think=False, format=shape, stream=False))["message"]["content"]), {"n": 7})
        again = [{"role": "user", "content": "weather"}, wanted, {"role": "tool", "tool_name": "get_weather", "content": "22 C"}]
        self.good(ask("", messages=again, tools=[weather], stream=False, options={"num_predict": 5}))
        told = self.good(self.server.ask("POST", "/api/generate", {"model": "taught", "prompt": "hello", "stream": False, "options": {"temperature": 0}}))
        self.assertEqual((told["response"], told["thinking"]), ("Hi there.", "Hm."))

    def test_enforced(self):
        """A prompt that the model never saw: what it says is the grammar's."""
        read = lambda call: (call["function"]["name"], json.loads(call["function"]["arguments"]))  # a stream has the blanks that were written
        for choice in ("required", {"type": "function", "function": {"name": "pick"}}):
            tools = [pick] if choice == "required" else [weather, pick]
            for more in (dict(), dict(temperature=1.5, seed=3, n=3, repetition_penalty=1.3, frequency_penalty=0.5)):
                asked = dict(tools=tools, tool_choice=choice, parallel_tool_calls=False, enable_thinking=False, **more)
                whole = self.good(self.ask("zzz", **asked))
                self.assertEqual(whole["choices"], [one | {"message": again["message"] | {"tool_calls": [
                    a | {"id": b["id"]} for a, b in zip(again["message"]["tool_calls"], one["message"]["tool_calls"])]}}
                    for one, again in zip(whole["choices"], self.good(self.ask("zzz", **asked))["choices"])])  # the same once more
                for index, one in enumerate(whole["choices"]):
                    self.assertEqual((one["finish_reason"], one["message"]["content"], len(one["message"]["tool_calls"])), ("tool_calls", None, 1), one)
                    arguments = json.loads(one["message"]["tool_calls"][0]["function"]["arguments"])
                    self.assertEqual(one["message"]["tool_calls"][0]["function"]["name"], "pick")
                    self.assertIn(arguments["color"], ("red", "green"))
                    self.assertTrue(1 <= arguments["count"] <= 9 and set(arguments) <= {"color", "count", "deep"}, arguments)
                    streamed, finish = self.joined(self.ask("zzz", stream=True, **asked), index)
                    self.assertEqual((finish, [read(call) for call in streamed["tool_calls"]]), ("tool_calls", [read(call) for call in one["message"]["tool_calls"]]), streamed)
        thinking = self.good(self.ask("weather", tools=[weather], tool_choice="required"))["choices"][0]["message"]
        self.assertEqual((thinking["reasoning"], thinking["tool_calls"][0]["function"]["name"]), ("Look.", "get_weather"))

    def test_refusals(self):
        odd = json.loads(json.dumps(pick))
        odd["function"]["parameters"]["properties"]["count"]["multipleOf"] = 2
        reply = self.refused(self.ask("zzz", tools=[odd], tool_choice="required"), 400, "tools", "unsupported_schema")
        self.assertIn("#/tools/0/function/parameters/properties/count", reply[2]["error"]["message"])
        for more, param in [(dict(tool_choice="auto"), "tool_choice"), (dict(tools=[weather], tool_choice="whatever"), "tool_choice"), (dict(tools=[{"type": "x"}]), "tools[0]")]:
            self.refused(self.ask("zzz", **more), 400, param)


class Parsers(Taught):
    sizes = Taught.sizes | dict(positions=2048)

    @classmethod
    def more(cls):
        return ("--tool_call_parser", "json", "--reasoning_parser", "none")

    def test_what_the_operator_chose_counts(self):
        self.assertEqual(text_of(self.good(self.ask("hello"))), "<think>Hm.</think>Hi there.")
        made = self.good(self.ask("zzz", tools=[pick], tool_choice="required", parallel_tool_calls=False))["choices"][0]["message"]["tool_calls"]
        self.assertEqual(made[0]["function"]["name"], "pick")
        self.refused(self.ask("hello", thinking_token_budget=5), 400, "thinking_token_budget")
        status, _, answer = self.server.ask("POST", "/v1/messages", dict(model="taught", max_tokens=2000, thinking=dict(type="enabled", budget_tokens=1024), messages=[dict(role="user", content="hello")]))
        self.assertEqual((status, [part["type"] for part in answer.get("content", [])]), (200, ["text"]), answer)
        self.assertIn("budget_tokens: the marks of this model's thoughts are not known", self.server.said())


class Shapes(Taught):
    schema = {"type": "object", "properties": {"name": {"enum": ["ann", "bob"]}, "age": {"type": "integer", "minimum": 0, "maximum": 120}}, "required": ["name", "age"], "additionalProperties": False}

    def test_each_is_kept_to(self):
        form = {"type": "json_schema", "json_schema": {"name": "person", "strict": True, "schema": self.schema}}
        cases = [
            (dict(response_format=form), lambda text: json.loads(text)["name"] in ("ann", "bob")),
            (dict(structured_outputs={"json": self.schema}), lambda text: 0 <= json.loads(text)["age"] <= 120),
            (dict(guided_json=json.dumps(self.schema)), lambda text: set(json.loads(text)) == {"name", "age"}),
            (dict(structured_outputs={"regex": "[0-9]{3}-[a-f]{2}"}), lambda text: re.fullmatch("[0-9]{3}-[a-f]{2}", text)),
            (dict(guided_regex="(yes|no)!"), lambda text: text in ("yes!", "no!")),
            (dict(structured_outputs={"choice": ["alpha", "beta"]}), lambda text: text in ("alpha", "beta")),
            (dict(guided_choice=["one", "two"]), lambda text: text in ("one", "two")),
        ]
        for shape, fits in cases:
            for more in (dict(), dict(n=2, seed=5, temperature=1.7, presence_penalty=0.5)):
                for choice in self.good(self.ask("zzz", enable_thinking=False, **shape, **more))["choices"]:
                    self.assertTrue(fits(choice["message"]["content"]), (shape, choice))
                    self.assertEqual(choice["finish_reason"], "stop")
            streamed, _ = self.joined(self.ask("zzz", enable_thinking=False, stream=True, **shape))
            self.assertTrue(fits(streamed["content"]), shape)
            for choice in self.good(self.server.ask("POST", "/v1/completions", dict(prompt=["zzz", "x"], temperature=0, max_tokens=200, **shape)))["choices"]:
                self.assertTrue(fits(choice["text"]), (shape, choice))
        self.assertTrue(text_of(self.good(self.ask("zzz", enable_thinking=False, response_format={"type": "json_object"}, max_tokens=30))).startswith("{"))

    def test_behind_thoughts(self):
        message = self.good(self.ask("hello", guided_choice=["Hi there.", "Bye."]))["choices"][0]["message"]
        self.assertEqual((message["reasoning"], message["content"]), ("Hm.", "Hi there."))

    def test_in_company_as_alone(self):
        asked = [dict(text=f"q{i}", seed=i, temperature=1.2, enable_thinking=False, model=["taught", "other"][i % 2], guided_regex=["[a-z]{5,20}", "[0-9]{5,20}"][i // 2 % 2]) for i in range(12)]
        alone = [text_of(self.good(self.ask(**one))) for one in asked]
        self.assertGreater(len(set(alone)), 6)
        with concurrent.futures.ThreadPoolExecutor(12) as pool:
            self.assertEqual(list(pool.map(lambda one: text_of(self.good(self.ask(**one))), asked)), alone)

    def test_refusals_are_quick_and_name_the_field(self):
        deep = {}
        for _ in range(40):
            deep = {"type": "array", "items": deep}
        wide = {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(5000)}}
        ring = {"$ref": "#"}
        schema = lambda value: dict(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": value}})
        field = "response_format.json_schema.schema"
        for shape, param, code in [
            (schema({"type": "object", "properties": {"a": {"not": {}}}}), field, "unsupported_schema"),
            (schema({"type": "wizard"}), field, None), (schema(deep), field, None), (schema(wide), field, None), (schema(ring), field, None),
            (schema({"type": "string", "pattern": "("}), field, None),
            (dict(guided_regex="("), "guided_regex", "invalid_regex"), (dict(guided_regex="(a{1,999}){1,999}"), "guided_regex", None),
            (dict(guided_regex=r"(a)\1"), "guided_regex", None), (dict(structured_outputs={"grammar": "root ::= x"}), "structured_outputs.grammar", None),
            (dict(guided_json="{"), "guided_json", None), (dict(guided_choice=["x"] * 10001), "guided_choice", None),
        ]:
            start = time.monotonic()
            self.refused(self.ask("zzz", **shape), 400, param, code)
            self.assertLess(time.monotonic() - start, 10, shape)
        allowed = self.refused(self.ask("zzz", enable_thinking=False, guided_choice=["ab"], allowed_token_ids=[70]), 400)
        self.assertIn("grammar", allowed[2]["error"]["message"])
        self.assertEqual(text_of(self.good(self.ask("hello"))), "Hi there.")


class Prefixes(Taught):
    def test_prompts_are_read_once(self):
        long = "the same beginning of many prompts, again and again. " * 6
        usage = lambda reply: self.good(reply)["usage"]["prompt_tokens_details"]["cached_tokens"]
        first = self.ask(long, max_tokens=8)
        self.assertEqual(usage(first), 0)
        second = self.ask(long, max_tokens=8)
        self.assertGreaterEqual(usage(second), 256)
        self.assertEqual(second[2]["timings"]["cache_n"], usage(second))
        self.assertEqual(text_of(second[2]), text_of(first[2]))
        self.assertEqual(usage(self.ask(long, max_tokens=8, cache_salt="mine")), 0)
        self.assertGreater(usage(self.ask(long, max_tokens=8, cache_salt="mine")), 0)
        self.assertEqual(usage(self.ask(long, max_tokens=8, model="other")), 0)
        self.assertGreater(usage(self.ask(long, max_tokens=8, model="other")), 0)
        self.assertGreater(self.server.metric("vllm:prefix_cache_hits_total"), 900)
        before = self.server.metric("vllm:prefix_cache_queries_total")
        several = self.good(self.ask("another one. " * 30, n=4, max_tokens=2))
        self.assertLess(self.server.metric("vllm:prefix_cache_queries_total") - before, 2 * several["usage"]["prompt_tokens"])


class Unkept(Taught):
    @classmethod
    def more(cls):
        return ("--enable_prefix_caching", "false")

    def test_nothing_is_kept(self):
        for _ in range(2):
            self.assertEqual(self.good(self.ask("x " * 200, max_tokens=2))["usage"]["prompt_tokens_details"]["cached_tokens"], 0)


class Responses(Taught):
    def respond(self, said, **more):
        return self.server.ask("POST", "/v1/responses", dict(input=said, temperature=0) | more)

    def test_whole_and_streamed(self):
        flat = weather["function"] | {"type": "function"}
        whole = self.good(self.respond("weather", tools=[flat]))
        self.assertEqual([one["type"] for one in whole["output"]], ["reasoning", "message", "function_call"])
        self.assertEqual((whole["object"], whole["status"], whole["error"]), ("response", "completed", None))
        self.assertEqual(whole["output"][2]["arguments"], '{"city": "Rome"}')
        self.assertGreater(whole["usage"]["output_tokens_details"]["reasoning_tokens"], 0)
        told = named_events(self.good(self.respond("weather", tools=[flat], stream=True)))
        self.assertEqual([one["sequence_number"] for _, one in told], list(range(len(told))))
        self.assertTrue(all(name == one["type"] for name, one in told))
        self.assertEqual((told[0][0], told[1][0], told[-1][0]), ("response.created", "response.in_progress", "response.completed"))
        strip = lambda output: [{key: value for key, value in one.items() if key not in ("id", "call_id")} for one in output]
        self.assertEqual(strip(told[-1][1]["response"]["output"]), strip(whole["output"]))
        self.assertEqual("".join(one["delta"] for name, one in told if name == "response.output_text.delta"), "Wait.")
        cut = self.good(self.respond("hello", max_output_tokens=3))
        self.assertEqual((cut["status"], cut["incomplete_details"]), ("incomplete", {"reason": "max_output_tokens"}))
        shaped = self.good(self.respond("zzz", reasoning={"effort": "none"}, text={"format": {"type": "json_schema", "name": "a", "schema": Shapes.schema}}))
        self.assertIn(json.loads(shaped["output"][0]["content"][0]["text"])["name"], ("ann", "bob"))

    def test_kept_ones(self):
        first = self.good(self.respond("hello", store=True))
        self.assertEqual(self.good(self.server.ask("GET", f"/v1/responses/{first['id']}")), first)
        more = self.good(self.respond("weather", previous_response_id=first["id"], store=True))
        self.assertEqual(more["previous_response_id"], first["id"])
        both = self.good(self.server.ask("POST", "/tokenize", dict(messages=[
            {"role": "user", "content": "hello"}, {"role": "assistant", "content": "Hi there.", "reasoning": "Hm."}, {"role": "user", "content": "weather"}])))["count"]
        self.assertEqual(more["usage"]["input_tokens"], both)
        self.refused(self.server.ask("POST", f"/v1/responses/{first['id']}/cancel"), 400)
        self.good(self.server.ask("DELETE", f"/v1/responses/{first['id']}"))
        self.refused(self.server.ask("GET", f"/v1/responses/{first['id']}"), 404)
        self.refused(self.respond("x", previous_response_id=first["id"]), 404, "previous_response_id")
        plain = self.good(self.respond("hello"))
        self.refused(self.server.ask("GET", f"/v1/responses/{plain['id']}"), 404)


class Messages(Taught):
    tool = {"name": "get_weather", "description": "d", "input_schema": weather["function"]["parameters"]}

    def message(self, text, path="/v1/messages", **more):
        return self.server.ask("POST", path, dict(model="taught", max_tokens=400, temperature=0, messages=[{"role": "user", "content": text}]) | more)

    def test_whole_and_streamed(self):
        plain = self.good(self.message("hello"))
        self.assertEqual((plain["type"], plain["content"], plain["stop_reason"]), ("message", [{"type": "text", "text": "Hi there."}], "end_turn"))
        thinking = dict(thinking={"type": "adaptive"}, tools=[self.tool])
        whole = self.good(self.message("weather", **thinking))
        self.assertEqual([one["type"] for one in whole["content"]], ["thinking", "text", "tool_use"])
        self.assertEqual((whole["stop_reason"], whole["content"][2]["input"]), ("tool_use", {"city": "Rome"}))
        told = named_events(self.good(self.message("weather", stream=True, **thinking)))
        self.assertTrue(all(name == one["type"] for name, one in told))
        self.assertEqual((told[0][0], told[-2][0], told[-1][0]), ("message_start", "message_delta", "message_stop"))
        deltas = [one["delta"] for name, one in told if name == "content_block_delta"]
        self.assertEqual("".join(one.get("thinking", "") for one in deltas), "Look.")
        self.assertEqual("".join(one.get("text", "") for one in deltas), "Wait.")
        self.assertEqual("".join(one.get("partial_json", "") for one in deltas), '{"city": "Rome"}')
        stopped = self.good(self.message("hello", stop_sequences=["there"]))
        self.assertEqual((stopped["content"][0]["text"].strip(), stopped["stop_reason"], stopped["stop_sequence"]), ("Hi", "stop_sequence", "there"))
        self.assertEqual(self.good(self.message("hello", max_tokens=2))["stop_reason"], "max_tokens")
        named = self.good(self.message("zzz", tools=[{"name": "pick", "input_schema": pick["function"]["parameters"]}], tool_choice={"type": "any", "disable_parallel_tool_use": True}))
        self.assertIn(named["content"][0]["input"]["color"], ("red", "green"))

    def test_counts_and_errors(self):
        count = self.good(self.message("hello", path="/v1/messages/count_tokens"))["input_tokens"]
        usage = self.good(self.message("hello"))["usage"]
        self.assertEqual(count, usage["input_tokens"] + usage["cache_read_input_tokens"])
        for reply, status, kind in [(self.message("hello", messages=[]), 400, "invalid_request_error"), (self.message("hello", model="nobody"), 404, "not_found_error"),
                                    (self.server.ask("GET", "/v1/messages"), 405, "invalid_request_error"), (self.server.ask("POST", "/v1/messages", b"{"), 400, "invalid_request_error")]:
            self.assertEqual((reply[0], reply[2]["type"], reply[2]["error"]["type"]), (status, "error", kind))


if __name__ == "__main__":
    unittest.main()
