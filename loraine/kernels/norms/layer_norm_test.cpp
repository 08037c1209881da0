// LayerNorm against its formula in double, gradient by central differences; offset, absent weight and bias, bf16, threads.
#include "loraine/kernels/norms/layer_norm.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::layer_norm_test {
namespace {

constexpr float kEps = 1e-5f;

std::vector<double> reference(const std::vector<double>& x, const std::vector<float>& weight, const std::vector<float>& bias, float offset,
                              int64_t C) {
  std::vector<double> y(x.size());
  for (size_t row = 0; row < x.size(); row += static_cast<size_t>(C)) {
    double mean = 0, variance = 0;
    for (size_t c = 0; c < static_cast<size_t>(C); ++c) mean += x[row + c] / static_cast<double>(C);
    for (size_t c = 0; c < static_cast<size_t>(C); ++c) variance += (x[row + c] - mean) * (x[row + c] - mean) / static_cast<double>(C);
    for (size_t c = 0; c < static_cast<size_t>(C); ++c) {
      const double w = weight.empty() ? 1 : static_cast<double>(offset) + weight[c], b = bias.empty() ? 0 : bias[c];
      y[row + c] = (x[row + c] - mean) / std::sqrt(variance + kEps) * w + b;
    }
  }
  return y;
}

Tensor vector_of(std::vector<float>& v) { return v.empty() ? Tensor() : Tensor(v.data(), Dtype::F32, {static_cast<int64_t>(v.size())}); }

TEST(LayerNorm, ForwardRebuildAndBackward) {
  for (auto [T, C] : {std::pair<int64_t, int64_t>{5, 33}, {3, 64}, {40, 7}}) {
    for (float offset : {0.0f, 1.0f}) {
      for (int with : {0, 1, 2, 3}) {  // 1: a weight, 2: a bias
        std::vector<float> x = random_floats(T * C, 1), r = random_floats(T * C, 2), weight, bias;
        if (with & 1) weight = random_floats(C, 3);
        if (with & 2) bias = random_floats(C, 4);
        for (float& v : x) v += 3;  // a mean to be taken off
        std::vector<float> y(x.size()), again(x.size()), figures(static_cast<size_t>(2 * T)), d_x(x.size());
        const Tensor mean = matrix(figures, T, 2).col_range(0, 1), rstd = matrix(figures, T, 2).col_range(1, 1);
        const Tensor w = vector_of(weight), b = vector_of(bias);
        Context ctx;
        layer_norm(ctx, matrix(y, T, C), mean, rstd, matrix(x, T, C), w, b, kEps, offset);
        std::vector<double> xd = doubles(x);
        expect_near(y, reference(xd, weight, bias, offset, C), 2e-6, "y");
        layer_norm_rebuild(ctx, matrix(again, T, C), matrix(x, T, C), mean, rstd, w, b, offset);
        EXPECT_EQ(y, again);
        std::vector<float> same = x;
        layer_norm(ctx, matrix(same, T, C), mean, rstd, matrix(same, T, C), w, b, kEps, offset);
        EXPECT_EQ(same, y);

        layer_norm_backward(ctx, matrix(d_x, T, C), matrix(r, T, C), matrix(x, T, C), mean, rstd, w, offset, false);
        std::vector<double> want = central_differences(xd, [&, C = C] { return inner(reference(xd, weight, bias, offset, C), r); });
        expect_near(d_x, want, 5e-6, "d_x");
        std::vector<float> twice = d_x, in_place = r;
        layer_norm_backward(ctx, matrix(twice, T, C), matrix(r, T, C), matrix(x, T, C), mean, rstd, w, offset, true);
        for (size_t i = 0; i < twice.size(); ++i) EXPECT_NEAR(twice[i], 2 * d_x[i], 1e-5 * (1 + std::abs(d_x[i])));
        layer_norm_backward(ctx, matrix(in_place, T, C), matrix(in_place, T, C), matrix(x, T, C), mean, rstd, w, offset, false);
        EXPECT_EQ(in_place, d_x);
      }
    }
  }
  std::vector<float> x(12), figures(3), bias(3);
  const Tensor f(figures.data(), Dtype::F32, {3});
  Context ctx;
  EXPECT_THROW(layer_norm(ctx, matrix(x, 3, 4), f, f, matrix(x, 3, 4), Tensor(), vector_of(bias), kEps), Error);
}

TEST(LayerNorm, BfloatIsTheRoundedF32AndThreadsDoNotMatter) {
  const int64_t T = 400, C = 72;
  std::vector<bf16> x = to_bf16(random_floats(T * C, 1)), r = to_bf16(random_floats(T * C, 2)), y(x.size()), d_x = r;
  std::vector<float> wide = to_floats(x), r_wide = to_floats(r), y_wide(x.size()), d_wide = r_wide, mean(T), rstd(T),
                     weight = random_floats(C, 3), bias = random_floats(C, 4), first;
  const Tensor m = vector_of(mean), s = vector_of(rstd), w = vector_of(weight), b = vector_of(bias);
  const int before = omp_get_max_threads();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    Context ctx;
    d_wide = r_wide;
    layer_norm(ctx, matrix(y_wide, T, C), m, s, matrix(wide, T, C), w, b, kEps);
    layer_norm_backward(ctx, matrix(d_wide, T, C), matrix(r_wide, T, C), matrix(wide, T, C), m, s, w, 0, true);
    std::vector<float> all = y_wide;
    all.insert(all.end(), d_wide.begin(), d_wide.end());
    if (first.empty()) first = all;
    EXPECT_EQ(all, first);
  }
  omp_set_num_threads(before);
  Context ctx;
  layer_norm(ctx, matrix(y, T, C), m, s, matrix(x, T, C), w, b, kEps);
  EXPECT_EQ(y, to_bf16(y_wide));
  layer_norm_backward(ctx, matrix(d_x, T, C), matrix(r, T, C), matrix(x, T, C), m, s, w, 0, true);
  EXPECT_EQ(d_x, to_bf16(d_wide));
}

}  // namespace
}  // namespace loraine::layer_norm_test
