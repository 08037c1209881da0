// The rows of experts: each choice of a token is a row, and rows lie sorted by their expert, so that an expert's lie one after the other.
#pragma once
#include "loraine/core/context.h"
#include "loraine/core/tensor.h"

namespace loraine {

// Views into memory of the caller, all I32.
struct ExpertOrder {
  Tensor offsets;  // [E + 1]: the rows of expert e are [offsets[e], offsets[e + 1])
  Tensor tokens;   // [T · K]: the token of each row; ascending within an expert
  Tensor places;   // [T, K]: the row of each choice
  int64_t experts() const { return offsets.rows() - 1; }
  int64_t rows() const { return tokens.rows(); }
};

// Room for T tokens that choose K of E experts; with a dry arena only counted.
ExpertOrder take_expert_order(Arena& arena, int64_t T, int64_t K, int64_t E);
// Fills the order of the choices I32 [T, K]; a token chooses an expert once at most.
void order_by_expert(Context& ctx, const ExpertOrder& order, const Tensor& chosen);

}  // namespace loraine
