// Causal attention over sequences of different length laid end to end (varlen), grouped-query; optional sliding window or chunks, capped
// scores, attention sinks, and values of another width than the keys. Tiled; probabilities are never stored.
#pragma once
#include <span>

#include "loraine/core/batch.h"
#include "loraine/core/context.h"

namespace loraine {

struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;            // sliding window in tokens (a query sees itself and window − 1 before it); 0 = none
  float scale = 0;               // usually 1 / sqrt(head_dim)
  float softcap = 0;             // scores become softcap · tanh(score / softcap) after the scale (Gemma 2); 0 = as they are
  const float* sinks = nullptr;  // [H] logits of a further column of each head's softmax, which has no value (gpt-oss); may be null
  int64_t value_dim = 0;         // Dv, the width of a head of v and o (latent attention); 0 = head_dim
  int64_t chunk = 0;             // a query at place p sees keys from p / chunk · chunk on (Llama 4); 0 = all; beside a window both hold
  int64_t value_width() const { return value_dim > 0 ? value_dim : head_dim; }
};

// o [T, H·Dv], lse [T, H] F32 (log-sum-exp of each row with its sink, saved for the backward; may have data == nullptr); q [T, H·D];
// k [*, Hkv·D], v [*, Hkv·Dv]; F32 or BF16 (q, k, v of one type; products of BF16 run in bf16 where the machine has the instructions, sums
// and softmax in f32), rows may be strided. Query row i of a sequence of length n with kv_length m is at place m − n + i and sees keys
// 0 … m − n + i. Of a sequence with a parent the first m − n keys are the parent's; windows and chunks go by places.
void attention(Context& ctx, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
               std::span<const Sequence> sequences, const AttentionShape& shape);
// Overwrites d_q, d_k, d_v (training only: kv_start == start, kv_length == length, but for what a parent gives). partial [T,
// attention_partial_columns] F32 is room for what pieces of the queries give their keys and values, before it is added up. d_sinks [H],
// where it is given, += the gradient of the sinks.
void attention_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o,
                        const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                        const AttentionShape& shape, const Tensor& partial, float* d_sinks = nullptr);
int64_t attention_partial_columns(const AttentionShape& shape);
// What each thread keeps for it, for sequences of at most `length` and at most `shared` rows of sequences that share some; activations: the
// type of q.
size_t attention_backward_bytes(const AttentionShape& shape, Dtype activations, int64_t length, int64_t shared = 0);

}  // namespace loraine
