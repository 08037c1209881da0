#!/usr/bin/env python3
"""Asks loraine serve with the frameworks that people build on: litellm, langchain-openai, llama-index, ollama. On a small model made here.
Needs these packages in the Python that runs it (they bring an openai of their own: not that of interop_serve.py); LORAINE_PROGRAM names the program."""
import asyncio
import importlib.metadata
import json
import os
import pathlib
import sys

root = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root / "tests/support"), str(root / "tests/e2e")]
os.environ |= {"LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_TELEMETRY": "False"}
import interop_checks
from interop_checks import check, raises
from serve_tools_test import Taught, weather

HELLO = [{"role": "user", "content": "hello"}]
PLAIN = {"chat_template_kwargs": {"enable_thinking": False}}


def with_litellm(address):
    import litellm

    litellm.suppress_debug_info = True
    ask = lambda model="openai/taught", base="/v1", text="hello", **more: litellm.completion(
        model=model, api_base=address + base, api_key="none", temperature=0, max_tokens=400, messages=[{"role": "user", "content": text}], **more)
    plain = ask()
    check("litellm.completion", plain.choices[0].message.content == "Hi there." and plain.usage.completion_tokens > 0)
    check("litellm: thoughts", plain.choices[0].message.reasoning_content == "Hm.")
    check("litellm: stream", "".join(one.choices[0].delta.content or "" for one in ask(stream=True)) == "Hi there.")
    call = ask(text="weather", tools=[weather]).choices[0]
    check("litellm: tools", call.finish_reason == "tool_calls" and json.loads(call.message.tool_calls[0].function.arguments) == {"city": "Rome"})

    async def streamed():
        heard = await litellm.acompletion(model="openai/taught", api_base=f"{address}/v1", api_key="none", temperature=0, messages=HELLO, stream=True)
        return "".join([one.choices[0].delta.content or "" async for one in heard])

    check("litellm.acompletion(stream)", asyncio.run(streamed()) == "Hi there.")
    vectors = litellm.embedding(model="openai/taught", api_base=f"{address}/v1", api_key="none", input=["hello", "weather"], encoding_format="float").data
    check("litellm.embedding", len(vectors) == 2 and abs(sum(x * x for x in vectors[0]["embedding"]) - 1) < 1e-4)
    check("litellm: anthropic/", ask(model="anthropic/taught", base="").choices[0].message.content == "Hi there.")
    raises("litellm: unknown model", litellm.NotFoundError, lambda: ask(model="openai/nobody"))
    raises("litellm: no messages", litellm.BadRequestError, lambda: litellm.completion(model="openai/taught", api_base=f"{address}/v1", api_key="none", messages=[]))


def with_langchain(address):
    import pydantic
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings

    class Person(pydantic.BaseModel):
        """Someone."""

        age: int
        adult: bool

    @tool
    def get_weather(city: str) -> str:
        """Weather of a city."""
        return city

    chat = lambda **more: ChatOpenAI(base_url=f"{address}/v1", api_key="none", model="taught", temperature=0, max_retries=0, max_tokens=400, **more)
    plain = chat().invoke("hello")
    check("ChatOpenAI.invoke", plain.content == "Hi there." and plain.usage_metadata["output_tokens"] > 0)
    check("ChatOpenAI.stream", "".join(one.content for one in chat().stream("hello")) == "Hi there.")
    called = chat().bind_tools([get_weather]).invoke("weather").tool_calls
    check("ChatOpenAI.bind_tools", [(one["name"], one["args"]) for one in called] == [("get_weather", {"city": "Rome"})], called)
    for method in ("json_schema", "function_calling"):
        made = chat(extra_body=PLAIN).with_structured_output(Person, method=method).invoke("zzz")
        check(f"with_structured_output({method})", isinstance(made, Person), made)
    both = chat().batch(["hello", "hello"])
    check("ChatOpenAI.batch", [one.content for one in both] == ["Hi there."] * 2)
    vectors = OpenAIEmbeddings(base_url=f"{address}/v1", api_key="none", model="taught", check_embedding_ctx_length=False).embed_documents(["hello", "weather"])
    check("OpenAIEmbeddings", len(vectors) == 2 and len(vectors[0]) == len(vectors[1]))


def with_llama_index(address):
    from llama_index.core.llms import ChatMessage
    from llama_index.core.tools import FunctionTool
    from llama_index.llms.openai_like import OpenAILike

    model = OpenAILike(api_base=f"{address}/v1", api_key="none", model="taught", is_chat_model=True, is_function_calling_model=True, temperature=0, max_tokens=400, context_window=4096,
                       max_retries=0)
    hello = [ChatMessage(role="user", content="hello")]
    check("OpenAILike.chat", model.chat(hello).message.content == "Hi there.")
    check("OpenAILike.stream_chat", "".join(one.delta or "" for one in model.stream_chat(hello)) == "Hi there.")

    def get_weather(city: str) -> str:
        """Weather of a city."""
        return city

    answer = model.chat_with_tools([FunctionTool.from_defaults(get_weather)], user_msg="weather")
    calls = model.get_tool_calls_from_response(answer, error_on_no_tool_call=False)
    check("OpenAILike.chat_with_tools", [(one.tool_name, one.tool_kwargs) for one in calls] == [("get_weather", {"city": "Rome"})], calls)
    check("OpenAILike.complete", OpenAILike(api_base=f"{address}/v1", api_key="none", model="taught", is_chat_model=False, temperature=0, max_tokens=4, context_window=4096).complete("zz").text is not None)


def with_ollama(address):
    import ollama

    client = ollama.Client(host=address)
    check("ollama.list", "taught" in [one.model.split(":")[0] for one in client.list().models])
    options = {"temperature": 0, "num_predict": 400}
    check("ollama.chat", client.chat("taught", HELLO, options=options).message.content == "Hi there.")
    check("ollama.chat(stream)", "".join(one.message.content or "" for one in client.chat("taught", HELLO, options=options, stream=True)) == "Hi there.")
    calls = client.chat("taught", [{"role": "user", "content": "weather"}], tools=[weather], options=options).message.tool_calls
    check("ollama: tools", [(one.function.name, dict(one.function.arguments)) for one in calls] == [("get_weather", {"city": "Rome"})], calls)
    check("ollama.embed", len(client.embed("taught", ["hello", "weather"]).embeddings) == 2)
    raises("ollama: unknown model", ollama.ResponseError, lambda: client.chat("nobody", HELLO))


def main():
    Taught.setUpClass()
    try:
        address = f"http://127.0.0.1:{Taught.server.port}"
        for ask in (with_litellm, with_langchain, with_llama_index, with_ollama):
            ask(address)
    finally:
        Taught.tearDownClass()
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("litellm", "langchain-openai", "llama-index-llms-openai-like", "ollama"))
    print(f"{versions}: {interop_checks.failures} failed" if interop_checks.failures else f"{versions}: all is well")
    return 1 if interop_checks.failures else 0


if __name__ == "__main__":
    sys.exit(main())
