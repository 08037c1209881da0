// What low-rank adapters add to rows of activations, several adapters at once, each over its own rows: one parallel loop for all of them,
// so that many tiny products cost about what reading their matrices costs. Called by the decoder's forward when nothing is trained.
#pragma once
#include <span>

#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

struct LowRankPart {
  Tensor b;            // [out, r] F32, contiguous
  int64_t offset = 0;  // first column of y
  float scale = 1;
  const float* bias = nullptr;  // [out] or nullptr
};

// A [R, in] F32, contiguous: the A matrices of the parts one below the other, R = Σ r.
struct LowRank {
  Tensor a;
  std::span<const LowRankPart> parts;
};

struct LowRankRange {  // rows [start, start + length)
  LowRank matrices;
  int64_t start = 0, length = 0;
};

// For the rows of every range: saved[:, 0 .. R) = x Aᵀ, y[:, part] += scale · (saved Bᵀ + bias). y, x, saved of one type, F32 or BF16 (sums
// in f32); saved has at least the most R of a range. Ranges do not overlap. A row's bits depend on its own x, A and B alone.
void low_rank_rows(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, std::span<const LowRankRange> ranges);

}  // namespace loraine
