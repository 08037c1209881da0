#!/usr/bin/env python3
"""Writes the small, valid files that fuzzing starts from into fuzz/corpus: safetensors, GGUF, config.json, adapter_config.json, YAML."""
import json
import pathlib
import struct

corpus = pathlib.Path(__file__).resolve().parent / "corpus"


def save(target, name, data):
    folder = corpus / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())


def safetensors(tensors, metadata=None):
    header, body = ({"__metadata__": metadata} if metadata else {}), b""
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(body), len(body) + len(data)]}
        body += data
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + body


save("safetensors", "empty", safetensors([]))
save("safetensors", "one", safetensors([("a", "F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4))], {"format": "pt"}))
save("safetensors", "kinds", safetensors([
    ("model.norm.weight", "F16", [3], bytes(6)), ("x", "BF16", [1, 2], bytes(4)), ("ids", "I64", [2], bytes(16)),
    ("none", "F32", [0, 4], b""), ("scalar", "F64", [], bytes(8)), ("mask", "BOOL", [3], bytes(3))]))



def four_bits(nested):
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "bfloat16", "shape": [2, 64]}
    scales = [("a.weight.absmax", "F32", [2], struct.pack("<2f", 1, 2))]
    if nested:
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 0.5}
        scales = [("a.weight.absmax", "U8", [2], bytes([3, 255])), ("a.weight.nested_absmax", "F32", [1], struct.pack("<f", 0.1)),
                  ("a.weight.nested_quant_map", "F32", [256], struct.pack("<256f", *[i / 128 - 1 for i in range(256)]))]
    text = json.dumps(state).encode()
    return safetensors([("a.weight", "U8", [64, 1], bytes(range(64))), ("a.weight.quant_map", "F32", [16], struct.pack("<16f", *range(16))), *scales,
                        ("a.weight.quant_state.bitsandbytes__nf4", "U8", [len(text)], text)])


save("safetensors", "four_bits", four_bits(False))
save("safetensors", "four_bits_nested", four_bits(True))
save("safetensors", "eight_bits", safetensors([
    ("a.weight", "I8", [2, 3], bytes(range(6))), ("a.SCB", "F32", [2], struct.pack("<2f", 1, 2)), ("a.weight_format", "U8", [], b"\0")]))

# A byte for the config of fuzz_quantised.cpp, then weights that fit it.
save("quantised", "gptq", b"\0" + safetensors([
    ("a.qweight", "I32", [2, 8], bytes(range(64))), ("a.qzeros", "I32", [2, 1], bytes(range(8))), ("a.scales", "F16", [2, 8], struct.pack("<16e", *range(16))),
    ("a.g_idx", "I32", [16], struct.pack("<16i", *[i % 2 for i in range(16)]))]))
save("quantised", "gptq_3", b"\1" + safetensors([
    ("a.qweight", "I32", [3, 32], bytes(range(192)) * 2), ("a.qzeros", "I32", [1, 3], bytes(range(12))), ("a.scales", "F16", [1, 32], struct.pack("<32e", *range(32))),
    ("a.g_idx", "I32", [32], bytes(128))]))
save("quantised", "awq", b"\2" + safetensors([
    ("a.qweight", "I32", [8, 1], bytes(range(32))), ("a.qzeros", "I32", [2, 1], bytes(range(8))), ("a.scales", "F16", [2, 8], struct.pack("<16e", *range(16)))]))
save("quantised", "fp8", b"\3" + safetensors([
    ("a.weight", "F8_E4M3", [3, 4], bytes(range(0, 240, 20))), ("a.weight_scale_inv", "F32", [2, 2], struct.pack("<4f", 1, 2, 3, 4))]))
save("quantised", "compressed", b"\5" + safetensors([
    ("a.weight_packed", "I32", [2, 2], bytes(range(16))), ("a.weight_shape", "I64", [2], struct.pack("<2q", 2, 12)), ("a.weight_scale", "F32", [2, 3], bytes(24)),
    ("a.weight_zero_point", "I32", [1, 3], bytes(range(12))), ("down.weight", "F8_E4M3", [2, 2], bytes(4)), ("down.weight_scale", "BF16", [1, 1], bytes(2)),
    ("four.weight_packed", "U8", [1, 16], bytes(range(16))), ("four.weight_scale", "F8_E4M3", [1, 2], bytes([56, 48])), ("four.weight_global_scale", "F32", [1], struct.pack("<f", 2))]))

# GGUF value types
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64 = range(11)


def gguf_text(text):
    data = text.encode()
    return struct.pack("<Q", len(data)) + data


def gguf_value(kind, value):
    if kind == STRING:
        return gguf_text(value)
    return struct.pack({U32: "<I", I32: "<i", F32: "<f", BOOL: "<?", U64: "<Q"}[kind], value)


def gguf(metadata, tensors):
    out = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(metadata))
    for key, kind, value in metadata:
        out += gguf_text(key)
        if isinstance(value, list):
            out += struct.pack("<IIQ", ARRAY, kind, len(value)) + b"".join(gguf_value(kind, item) for item in value)
        else:
            out += struct.pack("<I", kind) + gguf_value(kind, value)
    body = b""
    for name, shape, kind, data in tensors:
        body += bytes(-len(body) % 32)
        out += gguf_text(name) + struct.pack("<I", len(shape)) + struct.pack(f"<{len(shape)}Q", *shape) + struct.pack("<IQ", kind, len(body))
        body += data
    return out + bytes(-len(out) % 32) + body


def llama(tokenizer, kind, row_bytes):
    """A llama of one layer and 32 channels; matrices of ggml type `kind`, row_bytes bytes in a row of 32."""
    words = tokenizer[0]
    metadata = [
        ("general.architecture", STRING, "llama"), ("llama.block_count", U32, 1), ("llama.context_length", U32, 64),
        ("llama.embedding_length", U32, 32), ("llama.feed_forward_length", U32, 32), ("llama.attention.head_count", U32, 2),
        ("llama.attention.head_count_kv", U32, 1), ("llama.attention.layer_norm_rms_epsilon", F32, 1e-5), ("llama.rope.freq_base", F32, 1e4),
        ("llama.rope.dimension_count", U32, 16), ("llama.vocab_size", U32, len(words)),
        ("tokenizer.chat_template", STRING, "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}"), *tokenizer[1]]
    matrix = lambda rows: ([32, rows], kind, bytes([0, 60] + [7] * (row_bytes - 2)) * rows)
    norm = ([32], 0, struct.pack("<32f", *[1.0] * 32))
    tensors = [("token_embd.weight", *matrix(len(words))), ("output_norm.weight", *norm), ("blk.0.attn_norm.weight", *norm), ("blk.0.ffn_norm.weight", *norm)]
    for name, rows in (("attn_q", 32), ("attn_k", 16), ("attn_v", 16), ("attn_output", 32), ("ffn_gate", 32), ("ffn_up", 32), ("ffn_down", 32)):
        tensors.append((f"blk.0.{name}.weight", *matrix(rows)))
    return gguf(metadata, tensors)


bytes_words = ["<|end|>", "a", "b", "Ġ", "ab", "Ġa"]
byte_level = (bytes_words, [
    ("tokenizer.ggml.model", STRING, "gpt2"), ("tokenizer.ggml.pre", STRING, "smollm"), ("tokenizer.ggml.tokens", STRING, bytes_words),
    ("tokenizer.ggml.token_type", I32, [3, 1, 1, 1, 1, 1]), ("tokenizer.ggml.merges", STRING, ["a b", "Ġ a"]),
    ("tokenizer.ggml.bos_token_id", U32, 0), ("tokenizer.ggml.eos_token_id", U32, 0)])
piece_words = ["<unk>", "<s>", "</s>", "<0x41>", "▁", "a", "▁a"]
pieces = (piece_words, [
    ("tokenizer.ggml.model", STRING, "llama"), ("tokenizer.ggml.tokens", STRING, piece_words),
    ("tokenizer.ggml.scores", F32, [0, 0, 0, 0, -1, -2, -3]), ("tokenizer.ggml.token_type", I32, [2, 3, 3, 6, 1, 1, 1]),
    ("tokenizer.ggml.bos_token_id", U32, 1), ("tokenizer.ggml.eos_token_id", U32, 2), ("tokenizer.ggml.add_bos_token", BOOL, True)])
save("gguf", "empty", gguf([], []))
save("gguf", "byte_level_q8_0", llama(byte_level, 8, 34))
save("gguf", "byte_level_q4_0", llama(byte_level, 2, 18))
save("gguf", "pieces_f16", llama(pieces, 1, 64))
save("gguf", "pieces_q4_1", llama(pieces, 3, 20))

sizes = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
         "num_key_value_heads": 2, "max_position_embeddings": 256, "rms_norm_eps": 1e-6, "hidden_act": "silu"}
configs = {
    "llama": {"rope_theta": 1e4, "tie_word_embeddings": True, "eos_token_id": [1, 2], "head_dim": 16},
    "llama3": {"model_type": "llama", "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                                                       "original_max_position_embeddings": 8192}, "rope_theta": 5e5},
    "mistral": {"sliding_window": 16, "rope_theta": 1e4},
    "qwen2": {"use_sliding_window": False, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}},
    "qwen3": {"head_dim": 32, "attention_bias": False, "layer_types": ["full_attention", "full_attention"]},
}
for name, more in configs.items():
    save("config", name, json.dumps({"model_type": name, **sizes, **more}))

lora = {"peft_type": "LORA", "r": 8, "lora_alpha": 16, "lora_dropout": 0.0, "target_modules": ["q_proj", "v_proj"], "bias": "none",
        "task_type": "CAUSAL_LM", "base_model_name_or_path": "x", "inference_mode": True}
save("adapter_config", "names", json.dumps(lora))
save("adapter_config", "regex", json.dumps({**lora, "target_modules": r".*\.(q|v)_proj$", "use_rslora": True}))
save("adapter_config", "patterns", json.dumps({**lora, "target_modules": "all-linear", "rank_pattern": {"q_proj": 4}, "alpha_pattern": {"layers.1.mlp": 2},
                                               "layers_to_transform": [0], "exclude_modules": ["down_proj"]}))

save("yaml", "train", """### a run
model_name_or_path: some/model
stage: sft
do_train: true
finetuning_type: lora
lora_rank: 8
lora_target: all
dataset: identity,alpaca_en_demo
cutoff_len: 2048
output_dir: out/run
learning_rate: 1.0e-4
num_train_epochs: 3.0
lr_scheduler_type: cosine
warmup_ratio: 0.1
bf16: true
report_to: none
lr_scheduler_kwargs: {num_cycles: 2}
""")
save("yaml", "flow", "{lora_rank: 8, lora_target: [q_proj, v_proj], seed: ~}")
save("yaml", "override", "lr_scheduler_kwargs.num_cycles=2")
save("yaml", "json", json.dumps({"lora_rank": 16, "learning_rate": 2e-4, "val_size": 0.1}))
save("yaml", "interpolation", """lora_rank: ${oc.env:HOME,8}
run_name: a${lora_rank}${.seed}\\${x}
seed: ${m.l[0]}
m: {l: [1, "${..seed}"]}
output_dir: ???
""")
save("yaml", "v1", """model: m
model_class: llm
peft_config: {name: lora, r: 4, target_modules: all}
quant_config: {name: bnb}
optim_config: {name: muon, wd: 0.1}
micro_batch_size: 2
global_batch_size: 4
save_epochs: 1
""")
save("jinja", "page_filters", "{{ 'a-b www.x.com/(y) <i>&copy;&#65;</i>'|striptags|urlize(9)|wordwrap(5) }}{{ {'a': '<'}|xmlattr }}{{ 1500|filesizeformat }}")
save("jinja", "from_json", """{% for k, v in '{"a": [1, 12345678901234567890], "b": null}'|from_json|items %}{{ k ~ v }}{% endfor %}{{ dict.fromkeys('ab') }}{{ none[1:] }}""")

# Data rows. The first byte picks the layout (0 alpaca, 1 sharegpt, 2 openai, 3 tokenized), the template (x4) and JSON lines (0x80).
TOOLS = [{"name": "weather", "description": "d", "parameters": {"type": "object", "properties": {
    "city": {"type": "string", "enum": ["a", "b"]}, "days": {"type": "array", "items": {"type": "integer"}}}, "required": ["city"]}}]
CALL = {"name": "weather", "arguments": {"city": "a", "days": [1, 2.5, None]}}


def rows(name, layout, template, rows, lines=False):
    text = "\n".join(json.dumps(row) for row in rows) + "\n" if lines else json.dumps(rows, indent=1, ensure_ascii=False)
    save("data_rows", name, bytes([layout | template << 2 | (0x80 if lines else 0)]) + text.encode())


def said(*turns):
    return [{"from": role, "value": text} for role, text in turns]


rows("alpaca", 0, 1, [{"instruction": "a", "input": "b", "output": "c", "history": [["d", "e"]], "system": "s"}])
rows("alpaca_lines", 0, 6, [{"instruction": "é\u4e2d", "output": "x"}, {"instruction": "", "output": "y"}], lines=True)
rows("alpaca_model", 0, 0, [{"instruction": "a", "output": "c"}, {"instruction": "a", "output": "c", "history": [["d", "e"]] * 3}])
rows("sharegpt", 1, 2, [{"conversations": said(("system", "s"), ("human", "a"), ("gpt", "b"), ("human", "c"), ("gpt", "d"))}])
rows("sharegpt_tools", 1, 3, [{"conversations": said(("human", "a"), ("function_call", json.dumps(CALL)), ("observation", "1"), ("gpt", "b")),
                              "tools": json.dumps(TOOLS)}])
rows("sharegpt_default", 1, 1, [{"conversations": said(("human", "a"), ("function_call", json.dumps([CALL, CALL]))),
                                "tools": json.dumps(TOOLS)}], lines=True)
rows("openai", 2, 5, [{"messages": [
    {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "content": "1"}, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "b"}], "tools": TOOLS}])
rows("openai_model", 2, 0, [{"messages": [
    {"role": "user", "content": "a"}, {"role": "assistant", "content": None, "tool_calls": [{"type": "function", "function": CALL}]},
    {"role": "tool", "content": "1"}, {"role": "assistant", "content": "b"}]}], lines=True)
rows("thoughts", 1, 4, [{"conversations": said(("human", "a"), ("gpt", "<think>\nt\n</think>\n\nb"), ("human", "c"), ("gpt", "d"))}])
rows("tokenized", 3, 0, [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}, {"input_ids": [4], "labels": [4]}])
save("data_rows", "alpaca_indented", bytes([1 << 2 | 0x80]) + b'{\n "instruction": "a",\n "output": "b"\n}\n{"instruction": "c", "output": "d"}{\n "instruction": 1\n}\n{"x')
save("data_rows", "alpaca_beyond_json", bytes([1 << 2 | 0x40]) + b'[{"instruction": "a", "output": "b", "input": NaN, "s": [NaN, -Infinity, 18446744073709551616, "\\ud800"]}, '
     b'{"instruction": "a\nb", "output": Infinity}]')
rows("tokenized_lines", 3, 0, [{"input_ids": [1, 2, 3], "labels": [-100, 2, 3]}], lines=True)

for name in ("empty", "large_types", "map", "plain", "snappy_v1", "lz4_v2", "zstd_v2", "delta_numbers", "delta_byte_array", "delta_length_byte_array"):
    save("parquet", name, (corpus.parent.parent / f"tests/golden/parquet/{name}.parquet").read_bytes())
for name in ("stream", "zstd", "file"):
    save("arrow", name, (corpus.parent.parent / f"tests/golden/arrow/{name}.arrow").read_bytes())
for name in ("plain_bpe/tokenizer.model", "plain_unigram/tokenizer.model", "qwen_tiktoken/qwen.tiktoken", "tekken/tekken.json"):
    save("tokenizer_files", name.split("/")[0], (corpus.parent.parent / "tests/golden/tokenizers" / name).read_bytes())
pairs = b'{"question":"a","answer":"b"}\n'
for name, first, text in (("own_pairs", 0x21, pairs), ("own_csv", 0x22, b'prompt,response\r\na,"b ""c"",\nd"\r\n'), ("own_texts", 0xa3, b"one\ntwo\n"),
                          ("own_talk", 0x20, b'[{"m":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}]'),
                          ("own_decisions", 0x21, b'{"text":"a","choices":["x","y"],"label":"x"}\n{"text":"b","choices":{"from":1,"to":3},"label":2}\n'),
                          ("own_talk_csv", 0x22, b'm\n"[{""from"":""human"",""value"":""a""},{""from"":""gpt"",""value"":""b""}]"\n')):
    save("data_rows", name, bytes([first]) + text)

save("http_request", "health", "GET /health?x=%20 HTTP/1.1\r\nHost: localhost:8000\r\n\r\n")
save("http_request", "chat", 'POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nAuthorization: Bearer k\r\nContent-Length: 2\r\n\r\n{}')
save("http_request", "chunked", "POST /v0/tokenize HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\nx-api-key: k\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n")
save("http_request", "preflight", "OPTIONS /v1/models/a HTTP/1.1\r\nHost: a\r\nOrigin: https://a.example\r\nAccess-Control-Request-Method: GET\r\n\r\n")
save("chat_body", "plain", json.dumps({"model": "a", "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "\u4f60"}]}],
                                       "temperature": 0.5, "n": 2, "stop": ["a"], "logit_bias": {"5": -100}, "stream": True, "stream_options": {"include_usage": True}}))
save("chat_body", "calls", json.dumps({"messages": [{"role": "user", "content": "u"}, {"role": "assistant", "content": None, "tool_calls": [
    {"id": "c", "type": "function", "function": {"name": "f", "arguments": '{"a": 1}'}}]}, {"role": "tool", "content": "r", "tool_call_id": "c"}], "logprobs": True, "top_logprobs": 3}))
save("chat_body", "prompts", json.dumps({"prompt": [[1, 2], [3]], "echo": True, "max_tokens": 0, "logprobs": 1, "seed": -1}))
# Grammars and calls of tools
for name, schema in {
    "object": {"type": "object", "properties": {"a": {"type": "string", "minLength": 1, "maxLength": 4}, "b": {"type": "integer", "minimum": -3, "maximum": 40},
               "c": {"type": "array", "items": {"enum": ["x", 1, None]}, "minItems": 1, "maxItems": 3}}, "required": ["a"], "additionalProperties": {"type": "boolean"}},
    "recursive": {"$ref": "#/$defs/n", "$defs": {"n": {"anyOf": [{"type": "null"}, {"type": "array", "prefixItems": [{"const": {"k": [1.5]}}], "items": {"$ref": "#/$defs/n"}}]}}},
    "texts": {"oneOf": [{"format": "date"}, {"pattern": "^[a-c]{2}\\d+$", "maxLength": 6}, {"format": "email"}]},
    "both": {"allOf": [{"properties": {"a": {}}, "required": ["a"]}, {"properties": {"b": {"type": ["number", "null"]}}, "additionalProperties": False}]},
}.items():
    save("json_schema", name, json.dumps(schema))
for name, text in {"groups": "^(?:ab|c*)+(?P<n>[^a-z]{2,3})?$\0abAB", "classes": "[\\d\\-\\u00e9]|\\w+\\s.\0a b", "wide": "\\u{1F600}{1,3}\0😀"}.items():
    save("regex", name, text)
calls = ["<tool_call>\n{\"name\": \"f\", \"arguments\": {\"a\": 1}}\n</tool_call>", "<tool_call>\n<function=f>\n<parameter=a>\n1\n</parameter>\n</function>\n</tool_call>",
         "{\"name\": \"f\", \"parameters\": {}}; {\"name\": \"g\", \"parameters\": {}}", "[TOOL_CALLS]f[ARGS]{\"a\": 1}", "<|tool_call>call:f{a:<|\"|>x<|\"|>}<tool_call|>",
         "<tool_call>f\n<arg_key>a</arg_key>\n<arg_value>1</arg_value>\n</tool_call>", "<|tool_call_start|>[f(a=1, b='x')]<|tool_call_end|>", "functools[{\"name\": \"f\", \"arguments\": {}}]",
         "<｜tool▁calls▁begin｜><｜tool▁call▁begin｜>function<｜tool▁sep｜>f\n```json\n{}\n```<｜tool▁call▁end｜><｜tool▁calls▁end｜>", "[{\"name\": \"f\", \"arguments\": {}}]"]
for i, text in enumerate(calls):
    save("tool_calls", str(i), bytes([i]) + text.encode())
    save("tool_calls", f"{i}_thought", bytes([0x40 + (i - 64) % 10]) + b"<think>\nhm\n</think>\n\n" + text.encode())
