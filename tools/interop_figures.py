#!/usr/bin/env python3
"""Asks loraine serve with the real `openai` package for embeddings and decisions, and with the real `ollama` package for all that it has, on a small random model
made here with two adapters. Needs openai and ollama in the Python that runs it; LORAINE_PROGRAM names the program."""
import pathlib
import sys
import tempfile

root = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(root / "tests/support"), str(root / "tests/e2e")]
import interop_checks
import ollama
import openai
import tiny_model as tiny
from interop_checks import check, raises
from serve_test import Server


def with_openai(client):
    asked = dict(model="a", input=["one text", "another"])
    by_base64 = client.embeddings.create(**asked)  # what the package asks for by itself
    by_float = client.embeddings.create(**asked, encoding_format="float")
    check("embeddings", [one.index for one in by_base64.data] == [0, 1] and by_base64.usage.total_tokens == 15)
    check("embeddings: base64 is float", all(a.embedding == b.embedding for a, b in zip(by_base64.data, by_float.data)))
    check("embeddings: dimensions", len(client.embeddings.create(**asked, dimensions=5).data[0].embedding) == 5)
    raises("embeddings: an empty list", openai.BadRequestError, lambda: client.embeddings.create(model="a", input=[]), status_code=400)
    decision = client.decisions.create(model="a", input=[{"role": "user", "content": [{"type": "input_text", "text": "My payouts fail"}, {"type": "input_json", "data": {"days": 3}}]}], questions=[
        {"type": "predicate", "name": "urgent", "instructions": "This is urgent."},
        {"type": "choice", "instructions": "Who answers?", "choices": [{"value": "sales"}, {"value": True, "description": "anyone"}]},
        {"type": "score", "name": "anger", "instructions": [{"type": "input_text", "text": "How angry?"}], "levels": [{"label": "calm"}, {"label": "cross"}, {"label": "furious"}]}])
    predicate, choice, score = decision.answers
    check("decisions", [one.type for one in decision.answers] == ["predicate", "choice", "score"] and 0 < predicate.probability < 1 and predicate.name == "urgent")
    check("decisions: choice", choice.choice in ("sales", True) and abs(sum(one.probability for one in choice.probabilities) - 1) < 1e-9, choice)
    check("decisions: score", 0 <= score.score <= 2 and [one.label for one in score.probabilities] == ["calm", "cross", "furious"], score)
    check("decisions: usage", decision.usage.output_tokens == 0 and decision.usage.input_tokens > 100, decision.usage)
    raises("decisions: no questions", openai.BadRequestError, lambda: client.decisions.create(model="a", input="x", questions=[]), status_code=400)


def with_ollama(client):
    messages, options = [{"role": "user", "content": "hello"}], {"temperature": 0, "num_predict": 12}
    whole = client.chat(model="a", messages=messages, options=options)
    check("ollama: chat", whole.done and whole.message.role == "assistant" and whole.eval_count <= 12 and whole.total_duration > 0, whole)
    parts = list(client.chat(model="a", messages=messages, options=options, stream=True))
    check("ollama: stream", "".join(part.message.content for part in parts) == whole.message.content and parts[-1].done_reason == whole.done_reason)
    made = client.generate(model="b:latest", prompt="hello", options=options)
    check("ollama: generate", made.done and len(made.context) == made.prompt_eval_count + made.eval_count, made)
    check("ollama: generate on", client.generate(model="b", prompt="more", context=made.context, options=options).prompt_eval_count > len(made.context))
    check("ollama: generate, stream", "".join(part.response for part in client.generate(model="b", prompt="hello", options=options, stream=True)) == made.response)
    check("ollama: logprobs", len(client.chat(model="a", messages=messages, options=options, logprobs=True, top_logprobs=3).logprobs[0].top_logprobs) == 3)
    check("ollama: embed", len(client.embed(model="a", input=["one", "two"]).embeddings) == 2)
    check("ollama: embeddings", client.embeddings(model="a", prompt="one").embedding == client.embed(model="a", input="one").embeddings[0])
    check("ollama: list", [one.model for one in client.list().models] == ["tiny:latest", "a:latest", "b:latest"])
    check("ollama: ps", client.ps().models[0].context_length == 1024)
    shown = client.show("a")
    check("ollama: show", shown.modelinfo["general.architecture"] == "llama" and "completion" in shown.capabilities, shown)
    raises("ollama: an unknown model", ollama.ResponseError, lambda: client.chat(model="nobody", messages=messages), status_code=404)
    for name, call in (("pull", lambda: client.pull("x")), ("push", lambda: client.push("x")), ("create", lambda: client.create(model="x", from_="a")), ("copy", lambda: client.copy("a", "x")),
                       ("delete", lambda: client.delete("a"))):
        raises(f"ollama: {name}", ollama.ResponseError, call, status_code=501)
    if hasattr(client, "systemone"):
        answer = client.systemone(model="a", state={"text": "My payouts fail"}, questions={"urgent": {"type": "noul", "instructions": "Is it urgent?"}})
        check("ollama: systemone", 0 < answer.answers["urgent"].noul < 1, answer)


def main():
    with tempfile.TemporaryDirectory() as holder:
        work = pathlib.Path(holder)
        model = tiny.write_model(work / "tiny", vocab=259)
        tiny.write_byte_tokenizer(model)
        data = tiny.write_rows(work / "data", vocab=259)
        for name, seed in (("a", 3), ("b", 7)):
            code, text = tiny.run(*tiny.train_arguments(model, data, work / name, learning_rate="5e-2", max_steps=6, seed=seed))
            if code:
                sys.exit(text)
        server = Server(work, "--model_name_or_path", model, "--adapter_name_or_path", f"a={work / 'a'},b={work / 'b'}")
        try:
            with_openai(openai.OpenAI(base_url=f"http://127.0.0.1:{server.port}/v1", api_key="none", max_retries=0))
            with_ollama(ollama.Client(host=f"http://127.0.0.1:{server.port}"))
        finally:
            server.stop()
    print(f"openai {openai.__version__}: {interop_checks.failures} failed" if interop_checks.failures else f"openai {openai.__version__}, ollama: all is well")
    sys.exit(interop_checks.failures > 0)


main()
