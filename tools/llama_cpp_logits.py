#!/usr/bin/env python3
"""Logits of llama.cpp itself for the sequences of a batch, in float32 on the CPU; needs the package llama-cpp-python. Called by interop_gguf.py,
each time as a program of its own: llama.cpp ends the whole process at what it does not take.

    llama_cpp_logits.py MODEL.gguf BATCH.safetensors OUT.safetensors [ADAPTER.gguf]

BATCH has input_ids and attention_mask [B, T], padded on the right; OUT gets logits [B, T, V], zeros at padding."""
import ctypes
import sys

import llama_cpp
import numpy
from safetensors.numpy import load_file, save_file


def logits_of(model, tokens, adapter):
    """[T, V] of one sequence, by a context of its own."""
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = 512
    params.n_threads = params.n_threads_batch = 1
    params.type_k = params.type_v = llama_cpp.GGML_TYPE_F32
    params.flash_attn_type = llama_cpp.LLAMA_FLASH_ATTN_TYPE_DISABLED
    context = llama_cpp.llama_init_from_model(model, params) or sys.exit("no context")
    if adapter and llama_cpp.llama_set_adapters_lora(context, (llama_cpp.llama_adapter_lora_p_ctypes * 1)(adapter), 1, (ctypes.c_float * 1)(1.0)) != 0:
        sys.exit("the adapter was not taken")
    batch = llama_cpp.llama_batch_init(len(tokens), 0, 1)
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = int(token), i, 1, 1
        batch.seq_id[i][0] = 0
    if llama_cpp.llama_decode(context, batch) != 0:
        sys.exit("llama_decode failed")
    columns = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(model))
    rows = [numpy.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(context, i), (columns,)).copy() for i in range(len(tokens))]
    llama_cpp.llama_batch_free(batch)
    llama_cpp.llama_free(context)
    return numpy.stack(rows)


def main():
    path, batch_path, out, *adapters = sys.argv[1:]
    llama_cpp.llama_backend_init()
    params = llama_cpp.llama_model_default_params()
    params.use_extra_bufts = False  # weights stay as they are
    model = llama_cpp.llama_model_load_from_file(path.encode(), params) or sys.exit("not loaded")
    adapter = (llama_cpp.llama_adapter_lora_init(model, adapters[0].encode()) or sys.exit("the adapter was not loaded")) if adapters else None
    batch = load_file(batch_path)
    rows = [logits_of(model, ids[: int(mask.sum())], adapter) for ids, mask in zip(batch["input_ids"], batch["attention_mask"])]
    logits = numpy.zeros((*batch["input_ids"].shape, rows[0].shape[1]), numpy.float32)
    for i, row in enumerate(rows):
        logits[i, : len(row)] = row
    save_file({"logits": logits}, out)


main()
