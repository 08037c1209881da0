// The rotary embedding against its formula; the backward is the transpose, so backward(forward(x)) = scale² · x.
#include "loraine/kernels/attention/rope.h"

#include "tests/support/op_check.h"

namespace loraine {
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

}  // namespace
}  // namespace loraine
