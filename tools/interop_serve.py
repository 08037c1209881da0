#!/usr/bin/env python3
"""Asks loraine serve with the real `openai` and `anthropic` packages and with curl, on small models made here.
Needs openai and anthropic (and prometheus_client for the figures) in the Python that runs it; LORAINE_PROGRAM names the program."""
import json
import pathlib
import subprocess
import sys
import tempfile
import time

root = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root / "tests/support"), str(root / "tests/e2e")]
import anthropic
import interop_checks
import openai
import pydantic
import tiny_model as tiny
from interop_checks import check, raises
from serve_test import Server
from serve_tools_test import Shapes, Taught, pick, weather


def served(work, model, adapters, *arguments):
    return Server(work, "--model_name_or_path", model, "--adapter_name_or_path", ",".join(f"{name}={path}" for name, path in adapters.items()), *arguments)


def chats(client):
    ask = lambda **more: client.chat.completions.create(**(dict(model="a", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12) | more))
    check("models.list", {one.id for one in client.models.list()} == {"tiny", "a", "b"})
    check("models.retrieve", client.models.retrieve("a").id == "a")
    plain = ask()
    text = plain.choices[0].message.content
    check("chat", plain.object == "chat.completion" and plain.usage.completion_tokens <= 12)
    check("stream", "".join(one.choices[0].delta.content or "" for one in ask(stream=True)) == text)
    chunks = list(ask(stream=True, stream_options={"include_usage": True}))
    check("stream_options", chunks[-1].usage.total_tokens == plain.usage.total_tokens and not chunks[-1].choices)
    several = ask(n=3, seed=5, temperature=1)
    check("n, seed", len(several.choices) == 3 and [c.message.content for c in ask(n=3, seed=5, temperature=1).choices] == [c.message.content for c in several.choices])
    check("stop", ask(stop=[text[2]]).choices[0].message.content == text[: text.index(text[2])])
    told = ask(logprobs=True, top_logprobs=5)
    content = told.choices[0].logprobs.content
    check("logprobs", b"".join(bytes(one.bytes) for one in content).decode(errors="replace") == text and all(len(one.top_logprobs) == 5 for one in content))
    forced = ask(logit_bias={70: 100}, max_tokens=4).choices[0].message.content
    check("logit_bias", forced == 4 * forced[0], forced)
    check("max_completion_tokens", ask(max_completion_tokens=1, extra_body={"ignore_eos": True}).usage.completion_tokens == 1)
    with client.chat.completions.stream(model="a", messages=[{"role": "user", "content": "hello"}], temperature=0, max_tokens=12) as stream:
        kinds = [event.type for event in stream]
        check(".stream()", "content.delta" in kinds and kinds[-1] in ("content.done", "chunk") and stream.current_completion_snapshot.choices[0].message.content == text)
    bad = openai.BadRequestError
    raises("n=0", bad, lambda: ask(n=0), param="n")
    raises("no messages", bad, lambda: ask(messages=[]), param="messages")
    raises("unknown model", openai.NotFoundError, lambda: ask(model="c"), param="model")
    raises("top_logprobs=99", bad, lambda: ask(logprobs=True, top_logprobs=99), param="top_logprobs")
    raises("stream_options alone", bad, lambda: ask(stream_options={"include_usage": True}), param="stream_options")
    raises("tools", bad, lambda: ask(tools=[{"type": "function", "function": {"name": "f g", "parameters": {}}}]), param="tools[0].function.name")
    raises("response_format", bad, lambda: ask(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"not": {}}}}), param="response_format.json_schema.schema")
    scored = client.completions.create(model="b", prompt=[70, 71, 72], echo=True, logprobs=1, max_tokens=0)
    check("completions: scores", len(scored.choices[0].logprobs.tokens) == 3 and scored.choices[0].logprobs.token_logprobs[0] is None)
    streamed = "".join(one.choices[0].text for one in client.completions.create(model="b", prompt="one", max_tokens=6, temperature=0, stream=True))
    check("completions: stream", streamed == client.completions.create(model="b", prompt="one", max_tokens=6, temperature=0).choices[0].text)
    raw = client.chat.completions.with_raw_response.create(model="a", messages=[{"role": "user", "content": "x"}], max_tokens=1)
    check("headers", raw.headers["x-request-id"] and raw.headers["cache-control"] == "no-store" and raw.http_response.status_code == 200)


class Person(pydantic.BaseModel):
    age: int
    adult: bool


def tools(client):
    ask = lambda text, **more: client.chat.completions.create(**(dict(model="taught", messages=[{"role": "user", "content": text}], temperature=0, max_tokens=400) | more))
    off = {"chat_template_kwargs": {"enable_thinking": False}}
    thought = ask("hello").choices[0].message
    check("thoughts", thought.reasoning_content == "Hm." and thought.content == "Hi there.")
    chunks = [one.choices[0].delta for one in ask("hello", stream=True)]
    check("thoughts: stream", "".join(getattr(one, "reasoning_content", None) or "" for one in chunks) == "Hm." and "".join(one.content or "" for one in chunks) == "Hi there.")
    first = ask("weather", tools=[weather])
    call = first.choices[0].message.tool_calls[0]
    check("tools: auto", first.choices[0].finish_reason == "tool_calls" and json.loads(call.function.arguments) == {"city": "Rome"})
    messages = [{"role": "user", "content": "weather"}, first.choices[0].message.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "22 C"}]
    check("tools: a result goes back", ask("", messages=messages, tools=[weather], max_tokens=5).usage.completion_tokens > 0)
    for choice in ("required", {"type": "function", "function": {"name": "pick"}}):
        made = ask("zzz", tools=[pick], tool_choice=choice, parallel_tool_calls=False, extra_body=off).choices[0]
        check(f"tools: {choice if isinstance(choice, str) else 'named'}", made.finish_reason == "tool_calls" and json.loads(made.message.tool_calls[0].function.arguments)["color"] in ("red", "green"))
    with client.chat.completions.stream(model="taught", messages=[{"role": "user", "content": "weather"}], temperature=0, max_tokens=400, tools=[weather | {"function": weather["function"] | {
            "strict": True, "parameters": weather["function"]["parameters"] | {"additionalProperties": False}}}]) as stream:
        done = [event for event in stream if event.type == "tool_calls.function.arguments.done"]
        check("tools: .stream()", len(done) == 1 and done[0].parsed_arguments == {"city": "Rome"}, done)
    parsed = client.chat.completions.parse(model="taught", messages=[{"role": "user", "content": "zzz"}], temperature=0, max_tokens=400, response_format=Person, extra_body=off)
    check(".parse(response_format=Person)", isinstance(parsed.choices[0].message.parsed, Person))
    check("choice", ask("zzz", extra_body=off | {"structured_outputs": {"choice": ["alpha", "beta"]}}).choices[0].message.content in ("alpha", "beta"))
    text = "prompts that begin alike " * 8
    ask(text, max_tokens=2)
    check("cached_tokens", ask(text, max_tokens=2).usage.prompt_tokens_details.cached_tokens >= 128)


def responses(client):
    flat = {"type": "function", **weather["function"]}
    whole = client.responses.create(model="taught", input="weather", temperature=0, tools=[flat])
    check("responses", [one.type for one in whole.output] == ["reasoning", "message", "function_call"] and whole.output_text == "Wait." and whole.output[2].arguments == '{"city": "Rome"}')
    heard = list(client.responses.create(model="taught", input="weather", temperature=0, tools=[flat], stream=True))
    check("responses: stream", [one.sequence_number for one in heard] == list(range(len(heard))) and heard[0].type == "response.created" and heard[-1].type == "response.completed"
          and heard[-1].response.output_text == "Wait.")
    with client.responses.stream(model="taught", input="weather", temperature=0, tools=[flat]) as stream:
        kinds = {event.type for event in stream}
        last = stream.get_final_response()
    check("responses.stream()", {"response.output_text.delta", "response.function_call_arguments.delta", "response.reasoning_text.delta", "response.completed"} <= kinds and last.output_text == "Wait.", kinds)
    first = client.responses.create(model="taught", input="hello", temperature=0, store=True)
    check("responses.retrieve", client.responses.retrieve(first.id).output_text == first.output_text)
    check("previous_response_id", client.responses.create(model="taught", input="weather", previous_response_id=first.id).previous_response_id == first.id)
    results = [{"role": "user", "content": "weather"}, *[one.model_dump(exclude_none=True) for one in whole.output], {"type": "function_call_output", "call_id": whole.output[2].call_id, "output": "22 C"}]
    check("responses: a result goes back", client.responses.create(model="taught", input=results, tools=[flat], max_output_tokens=5).status == "incomplete")
    parsed = client.responses.parse(model="taught", input="zzz", temperature=0, reasoning={"effort": "none"}, text_format=Person)
    check("responses.parse", isinstance(parsed.output_parsed, Person))
    raises("previous_response_id: unknown", openai.NotFoundError, lambda: client.responses.create(model="taught", input="x", previous_response_id="resp_x"), param="previous_response_id")
    raises("responses: hosted tools", openai.BadRequestError, lambda: client.responses.create(model="taught", input="x", tools=[{"type": "web_search"}]), param="tools[0].type")
    client.responses.delete(first.id)
    raises("responses.delete", openai.NotFoundError, lambda: client.responses.retrieve(first.id))


def messages(address):
    client = anthropic.Anthropic(base_url=address, api_key="none", max_retries=0)
    tool = {"name": "get_weather", "description": "d", "input_schema": weather["function"]["parameters"]}
    ask = lambda text, **more: client.messages.create(**(dict(model="taught", max_tokens=400, messages=[{"role": "user", "content": text}], extra_body={"temperature": 0}) | more))
    plain = ask("hello", system=[{"type": "text", "text": ""}])
    check("messages", plain.content[0].text == "Hi there." and plain.stop_reason == "end_turn" and plain.usage.output_tokens > 0)
    check("messages: count_tokens", client.messages.count_tokens(model="taught", messages=[{"role": "user", "content": "hello"}]).input_tokens == plain.usage.input_tokens + plain.usage.cache_read_input_tokens)
    whole = ask("weather", tools=[tool], thinking={"type": "adaptive"})
    check("messages: thinking and tool use", [one.type for one in whole.content] == ["thinking", "text", "tool_use"] and whole.content[2].input == {"city": "Rome"} and whole.stop_reason == "tool_use")
    with client.messages.stream(model="taught", max_tokens=400, messages=[{"role": "user", "content": "weather"}], tools=[tool], thinking={"type": "adaptive"}, extra_body={"temperature": 0}) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_message()
    check("messages.stream()", {"thinking", "text", "input_json", "message_stop"} <= kinds and final.content[2].input == {"city": "Rome"} and final.content[0].thinking == "Look.", kinds)
    result = {"type": "tool_result", "tool_use_id": whole.content[2].id, "content": [{"type": "text", "text": "22 C"}]}
    history = [{"role": "user", "content": "weather"}, {"role": "assistant", "content": [one.model_dump(exclude_none=True) for one in whole.content]}, {"role": "user", "content": [result]}]
    check("messages: a result goes back", ask("", messages=history, tools=[tool], max_tokens=5).usage.output_tokens > 0)
    forced = ask("zzz", tools=[{"name": "pick", "input_schema": pick["function"]["parameters"]}], tool_choice={"type": "tool", "name": "pick", "disable_parallel_tool_use": True})
    check("messages: a named tool", forced.content[0].input["color"] in ("red", "green"))
    shaped = ask("zzz", output_config={"format": {"type": "json_schema", "schema": Shapes.schema}})
    check("messages: a schema", json.loads(shaped.content[0].text)["name"] in ("ann", "bob"))
    check("messages: stop_sequences", ask("hello", stop_sequences=["there"]).stop_sequence == "there")
    raises("messages: none", anthropic.BadRequestError, lambda: ask("", messages=[]))
    raises("messages: unknown model", anthropic.NotFoundError, lambda: ask("hello", model="nobody"))
    raises("messages: a hosted tool", anthropic.BadRequestError, lambda: ask("x", tools=[{"type": "bash_20250124", "name": "bash"}]))


def loads(work, adapters):
    slow = tiny.write_model(work / "slow", **(tiny.large | dict(vocab=259)))
    tiny.write_byte_tokenizer(slow)
    server = Server(work, "--model_name_or_path", slow, "--max_seqs", "1", "--max_queued_requests", "1", "--api_key", "k")
    try:
        address = f"http://127.0.0.1:{server.port}/v1"
        messages = dict(model="slow", messages=[{"role": "user", "content": "hello"}], extra_body={"ignore_eos": True})
        once = openai.OpenAI(base_url=address, api_key="k", max_retries=0)
        raises("wrong key", openai.AuthenticationError, lambda: openai.OpenAI(base_url=address, api_key="x").models.list())
        streams = [server.open_stream(key="k")]
        server.until(lambda: server.metric("vllm:num_requests_running") == 1, "one runs")
        streams.append(server.open_stream(key="k"))
        server.until(lambda: server.metric("vllm:num_requests_waiting") == 1, "one waits")
        raises("a full queue", openai.RateLimitError, lambda: once.chat.completions.create(max_tokens=2, **messages))
        for s in streams[:2]:
            s.close()
        check("retries succeed", openai.OpenAI(base_url=address, api_key="k", max_retries=2).chat.completions.create(max_tokens=2, **messages).usage.completion_tokens == 2)
        raises("a timeout", openai.APITimeoutError, lambda: once.with_options(timeout=0.5).chat.completions.create(max_tokens=900, **messages))
        time.sleep(1)
        check("the engine is free a second later", server.metric("vllm:num_requests_running") == 0)
        for _ in range(1000):
            server.open_stream(key="k").close()
        server.until(lambda: server.metric("vllm:num_requests_running") + server.metric("vllm:num_requests_waiting") == 0, "all left")
        check("1,000 streams opened and dropped", once.chat.completions.create(max_tokens=2, **messages).usage.completion_tokens == 2)
    finally:
        server.stop()


def curls(server):
    address = f"http://127.0.0.1:{server.port}"

    def curl(*words):
        return subprocess.run(["curl", "-s", "-o", "-", "-w", "\n%{http_code}", *words], capture_output=True, text=True, timeout=60).stdout.rsplit("\n", 1)

    body = json.dumps({"messages": [{"role": "user", "content": "hello"}], "max_tokens": 4, "temperature": 0})
    chat, kind = f"{address}/v1/chat/completions", ("-H", "content-type: application/json")
    check("curl", curl(chat, *kind, "-d", body)[1] == "200")
    check("curl: chunked upload", curl(chat, *kind, "-H", "transfer-encoding: chunked", "-d", body)[1] == "200")
    check("curl: 100-continue", curl(chat, *kind, "-H", "expect: 100-continue", "-d", body)[1] == "200")
    check("curl: gzip", curl(chat, *kind, "-H", "content-encoding: gzip", "-d", body)[1] == "415")
    check("curl: wrong type", curl(chat, "-d", body)[1] == "415")
    check("curl: HEAD", curl("-I", f"{address}/health")[1] == "200")
    check("curl: OPTIONS", curl("-X", "OPTIONS", chat)[1] == "204")
    streamed = curl("-N", chat, *kind, "-d", body[:-1] + ', "stream": true}')
    check("curl -N", streamed[1] == "200" and streamed[0].strip().endswith("data: [DONE]"))


def main():
    with tempfile.TemporaryDirectory() as holder:
        work = pathlib.Path(holder)
        model = tiny.write_model(work / "tiny", vocab=259)
        tiny.write_byte_tokenizer(model)
        data = tiny.write_rows(work / "data", vocab=259)
        adapters = {}
        for name, seed in (("a", 3), ("b", 7)):
            adapters[name] = work / name
            code, text = tiny.run(*tiny.train_arguments(model, data, work / name, learning_rate="5e-2", max_steps=6, seed=seed))
            if code:
                sys.exit(text)
        server = served(work, model, adapters)
        try:
            chats(openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0))
            curls(server)
            try:
                from prometheus_client.parser import text_string_to_metric_families
                families = list(text_string_to_metric_families(server.ask("GET", "/metrics")[2]))
                check("prometheus_client reads the figures", len(families) > 15)
            except ImportError:
                print("     prometheus_client is not there")
        finally:
            server.stop()
        loads(work, adapters)
    Taught.setUpClass()
    try:
        address = f"http://127.0.0.1:{Taught.server.port}"
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", max_retries=0)
        tools(client)
        responses(client)
        messages(address)
    finally:
        Taught.tearDownClass()
    versions = f"openai {openai.__version__}, anthropic {anthropic.__version__}"
    print(f"{versions}: {interop_checks.failures} failed" if interop_checks.failures else f"{versions}: all is well")
    return 1 if interop_checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
