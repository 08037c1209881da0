// The rotary embedding against its formula; the backward is the transpose, so backward(forward(x)) = scale² · x.
#include "loraine/kernels/attention/rope.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::rope_test {
namespace {

TEST(Rope, TurnsEachHeadAndBack) {
  const int64_t T = 6, H = 3, D = 10, pad = 4;
  std::vector<float> x = random_floats(T * (H * D + pad), 1), y = x;
  std::vector<int32_t> positions{0, 1, 5, 2, 100, 4000};
  std::vector<float> frequencies;
  for (int i = 0; i < D / 2; ++i) frequencies.push_back(std::pow(10000.0f, -2.0f * static_cast<float>(i) / static_cast<float>(D)));
  std::vector<double> want = doubles(x);
  const float scale = 1.25f;
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t h = 0; h < H; ++h) {
      for (int64_t i = 0; i < D / 2; ++i) {
        double angle = static_cast<float>(positions[static_cast<size_t>(t)]) * frequencies[static_cast<size_t>(i)];
        size_t a = static_cast<size_t>(t * (H * D + pad) + h * D + i), b = a + D / 2;
        want[a] = scale * (x[a] * std::cos(angle) - x[b] * std::sin(angle));
        want[b] = scale * (x[b] * std::cos(angle) + x[a] * std::sin(angle));
      }
    }
  }
  Context ctx;
  Tensor view = matrix(y, T, H * D + pad).col_range(0, H * D);
  rope(ctx, view, D, positions, frequencies, scale);
  expect_near(y, want, 3e-7 * 4, "y");
  rope_backward(ctx, view, D, positions, frequencies, scale);
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t c = 0; c < H * D; ++c) {
      size_t i = static_cast<size_t>(t * (H * D + pad) + c);
      EXPECT_NEAR(y[i], scale * scale * x[i], 2e-6);
    }
  }
}

constexpr int64_t kRows = 90, kHeads = 3, kDim = 38, kCols = kHeads * kDim;

// All of x in double, of which n pairs per head turn from column `first` on; direction −1: back.
std::vector<double> reference(const std::vector<double>& x, const std::vector<int32_t>& positions, const std::vector<float>& frequencies,
                              RopeLayout layout, int64_t first, double direction) {
  std::vector<double> y = x;
  const int64_t n = static_cast<int64_t>(frequencies.size());
  for (int64_t t = 0; t < kRows; ++t)
    for (int64_t h = 0; h < kHeads; ++h)
      for (int64_t i = 0; i < n; ++i) {
        const double angle = static_cast<float>(positions[static_cast<size_t>(t)]) * frequencies[static_cast<size_t>(i)];
        const size_t head = static_cast<size_t>(t * kCols + h * kDim + first);
        const size_t a = head + static_cast<size_t>(layout == RopeLayout::half ? i : 2 * i);
        const size_t b = layout == RopeLayout::half ? a + static_cast<size_t>(n) : a + 1;
        y[a] = x[a] * std::cos(angle) - x[b] * std::sin(angle) * direction;
        y[b] = x[b] * std::cos(angle) + x[a] * std::sin(angle) * direction;
      }
  return y;
}

TEST(Rope, LayoutsAndPartsOfAHead) {
  const std::vector<float> x = random_floats(kRows * kCols, 1);
  std::vector<int32_t> positions;
  for (int32_t t = 0; t < kRows; ++t) positions.push_back(t * 7 % 50);
  const int before = omp_get_max_threads();
  Context ctx;
  for (RopeLayout layout : {RopeLayout::half, RopeLayout::pairs}) {
    for (auto [first, n] : {std::pair<int64_t, int64_t>{0, 19}, {0, 5}, {11, 13}, {6, 16}, {20, 1}}) {
      std::vector<float> frequencies;
      for (int64_t i = 0; i < n; ++i) frequencies.push_back(std::pow(10.0f, -static_cast<float>(i) / static_cast<float>(n)));
      std::vector<float> y, d;
      for (int threads : {1, 2, 3}) {
        omp_set_num_threads(threads);
        std::vector<float> turned = x, back = x;
        rope(ctx, matrix(turned, kRows, kCols), kDim, positions, frequencies, 1, layout, first);
        rope_backward(ctx, matrix(back, kRows, kCols), kDim, positions, frequencies, 1, layout, first);
        if (threads == 1) y = turned, d = back;
        EXPECT_EQ(y, turned);
        EXPECT_EQ(d, back);
      }
      omp_set_num_threads(before);
      expect_near(y, reference(doubles(x), positions, frequencies, layout, first, 1), 1e-6, "y");
      expect_near(d, reference(doubles(x), positions, frequencies, layout, first, -1), 1e-6, "d_x");  // the transpose
      std::vector<bf16> narrow = to_bf16(x);
      std::vector<float> wide = to_floats(narrow);
      rope(ctx, matrix(narrow, kRows, kCols), kDim, positions, frequencies, 1, layout, first);
      rope(ctx, matrix(wide, kRows, kCols), kDim, positions, frequencies, 1, layout, first);
      EXPECT_EQ(narrow, to_bf16(wide));
    }
  }
  std::vector<float> y = x;
  const std::vector<float> frequencies(10, 1.0f);
  EXPECT_THROW(rope(ctx, matrix(y, kRows, kCols), kDim, positions, frequencies, 1, RopeLayout::half, 19), Error);
  EXPECT_THROW(rope(ctx, matrix(y, kRows, kCols), kDim, positions, frequencies, 1, RopeLayout::pairs, -1), Error);
}

}  // namespace
}  // namespace loraine::rope_test
