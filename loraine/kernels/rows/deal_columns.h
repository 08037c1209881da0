// Columns dealt from one layout of heads to another, as checkpoints whose fused weights hold per head [q | k | v] or [q | gate] need.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

struct ColumnBlock {
  int64_t from = 0, to = 0, count = 0;  // columns [from, from + count) of x become [to, to + count) of y
};

// y [T, Cy], x [T, Cx] F32 or BF16, of one type, without memory in common; rows may be strided. Columns of y in no block stay as they are.
void deal_columns(Context& ctx, const Tensor& y, const Tensor& x, std::span<const ColumnBlock> blocks);
// The way back, which is the backward too where each column is dealt once: columns `to` of y become `from` of x.
void deal_columns_back(Context& ctx, const Tensor& x, const Tensor& y, std::span<const ColumnBlock> blocks);
// The same of single columns at a distance: column i of x [T, n] becomes first + i · step of y.
void spread_columns(Context& ctx, const Tensor& y, const Tensor& x, int64_t first, int64_t step);
void spread_columns_back(Context& ctx, const Tensor& x, const Tensor& y, int64_t first, int64_t step);

}  // namespace loraine
