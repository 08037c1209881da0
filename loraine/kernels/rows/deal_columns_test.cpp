// Columns dealt between layouts of heads, and back; blocks beyond the tensors are refused.
#include "loraine/kernels/rows/deal_columns.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::deal_columns_test {
namespace {

constexpr int64_t T = 300, kHeads = 3, kDim = 10, C = 3 * kHeads * kDim;

// per head [q | k | v] → [q … | k … | v …]
std::vector<ColumnBlock> blocks_by_part() {
  std::vector<ColumnBlock> blocks;
  for (int64_t h = 0; h < kHeads; ++h)
    for (int64_t part = 0; part < 3; ++part) blocks.push_back({(h * 3 + part) * kDim, (part * kHeads + h) * kDim, kDim});
  return blocks;
}

TEST(DealColumns, ThereAndBack) {
  std::vector<float> x = random_floats(T * C, 1), want(x.size());
  for (size_t i = 0; i < x.size(); ++i) {
    const size_t t = i / C, c = i % C, head = c / (3 * kDim), part = c / kDim % 3;
    want[t * C + (part * kHeads + head) * kDim + c % kDim] = x[i];
  }
  const std::vector<ColumnBlock> blocks = blocks_by_part();
  std::vector<bf16> x16 = to_bf16(x);
  const int before = omp_get_max_threads();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    std::vector<float> y(x.size()), back(x.size());
    Context ctx;
    deal_columns(ctx, matrix(y, T, C), matrix(x, T, C), blocks);
    EXPECT_EQ(y, want);
    deal_columns_back(ctx, matrix(back, T, C), matrix(y, T, C), blocks);
    EXPECT_EQ(back, x);
    std::vector<bf16> y16(x.size());
    deal_columns(ctx, matrix(y16, T, C), matrix(x16, T, C), blocks);
    EXPECT_EQ(y16, to_bf16(want));
  }
  omp_set_num_threads(before);
}

TEST(DealColumns, StridedPartsAndBlocksBeyond) {
  std::vector<float> x = random_floats(4 * 12, 1), y(4 * 5, 9.0f);
  Context ctx;
  const Tensor part = matrix(x, 4, 12).col_range(4, 8);
  const std::vector<ColumnBlock> blocks{{6, 0, 2}, {1, 3, 1}};
  deal_columns(ctx, matrix(y, 4, 5), part, blocks);
  for (size_t t = 0; t < 4; ++t) {
    const float want[5] = {x[t * 12 + 10], x[t * 12 + 11], 9, x[t * 12 + 5], 9};
    for (size_t c = 0; c < 5; ++c) EXPECT_EQ(y[t * 5 + c], want[c]);
  }
  for (const ColumnBlock& bad : {ColumnBlock{7, 0, 2}, {0, 4, 2}, {-1, 0, 1}, {0, -1, 1}, {0, 0, -1}}) {
    EXPECT_THROW(deal_columns(ctx, matrix(y, 4, 5), part, std::vector<ColumnBlock>{bad}), Error);
  }
}

TEST(DealColumns, SpreadAndBack) {
  std::vector<float> even = random_floats(T * 7, 1), odd = random_floats(T * 7, 2), y(T * 14), back(T * 7);
  Context ctx;
  spread_columns(ctx, matrix(y, T, 14), matrix(even, T, 7), 0, 2);
  spread_columns(ctx, matrix(y, T, 14), matrix(odd, T, 7), 1, 2);
  for (size_t i = 0; i < y.size(); ++i) ASSERT_EQ(y[i], (i % 2 ? odd : even)[i / 2]) << i;
  spread_columns_back(ctx, matrix(back, T, 7), matrix(y, T, 14), 1, 2);
  EXPECT_EQ(back, odd);
  std::vector<bf16> odd16 = to_bf16(odd), y16(T * 14, f32_to_bf16(3)), back16(T * 7);
  spread_columns(ctx, matrix(y16, T, 14), matrix(odd16, T, 7), 1, 2);
  EXPECT_EQ(y16[0], f32_to_bf16(3));
  spread_columns_back(ctx, matrix(back16, T, 7), matrix(y16, T, 14), 1, 2);
  EXPECT_EQ(back16, odd16);
  EXPECT_THROW(spread_columns(ctx, matrix(y, T, 14), matrix(even, T, 7), 2, 2), Error);
  EXPECT_THROW(spread_columns_back(ctx, matrix(back, T, 7), matrix(y, T, 14), 0, 3), Error);
}

}  // namespace
}  // namespace loraine::deal_columns_test
