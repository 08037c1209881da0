// Causal attention over sequences of different length laid end to end (varlen), grouped-query, optional sliding window. Tiled;
// probabilities are never stored.
#pragma once
#include <span>

#include "loraine/core/batch.h"
#include "loraine/core/context.h"

namespace loraine {

struct AttentionShape {
  int64_t heads = 0, kv_heads = 0, head_dim = 0;
  int64_t window = 0;  // sliding window in tokens (a query sees itself and window − 1 before it); 0 = none
  float scale = 0;     // usually 1 / sqrt(head_dim)
};

// o [T, H·D], lse [T, H] (log-sum-exp of each row, saved for the backward; may have data == nullptr); q [T, H·D]; k, v [*, Hkv·D]; all F32,
// rows may be strided. Query row i of a sequence of length n with kv_length m sees keys 0 … m − n + i.
void attention(Context& ctx, const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
               std::span<const Sequence> sequences, const AttentionShape& shape);
// Overwrites d_q, d_k, d_v (training only: kv_start == start, kv_length == length). by_head [T, 2·H·D] is room for what each query head
// gives its keys and values, before the heads of a group are added up; every head is an item of work of its own.
void attention_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o,
                        const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                        const AttentionShape& shape, const Tensor& by_head);

}  // namespace loraine
