// Attention of single query rows, as decoding has them: bound by reading the keys and values once. Called by attention_cpu.
#pragma once
#include <span>

#include "loraine/core/batch.h"
#include "loraine/kernels/attention/attention.h"

namespace loraine {

// attention() for the rows of `sequences`; each row has the same bits whatever else is in the batch and however many threads there are.
void attention_rows_cpu(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                        std::span<const Sequence> sequences, const AttentionShape& shape);

}  // namespace loraine
