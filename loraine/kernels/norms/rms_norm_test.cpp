// RMSNorm against its formula in double, gradient by central differences.
#include "loraine/kernels/norms/rms_norm.h"

#include <omp.h>

#include "tests/support/op_check.h"

namespace loraine::rms_norm_test {
namespace {

constexpr float kEps = 1e-5f;

std::vector<double> reference(const std::vector<double>& x, const std::vector<float>& weight, int64_t T, int64_t C) {
  std::vector<double> y(x.size());
  for (int64_t t = 0; t < T; ++t) {
    double sum = 0;
    for (int64_t c = 0; c < C; ++c) sum += x[static_cast<size_t>(t * C + c)] * x[static_cast<size_t>(t * C + c)];
    double rstd = 1 / std::sqrt(sum / static_cast<double>(C) + kEps);
    for (int64_t c = 0; c < C; ++c) {
      size_t i = static_cast<size_t>(t * C + c);
      y[i] = x[i] * rstd * weight[static_cast<size_t>(c)];
    }
  }
  return y;
}

TEST(RmsNorm, ForwardRebuildAndBackward) {
  for (auto [T, C] : {std::pair<int64_t, int64_t>{5, 33}, {1, 1}, {3, 64}, {40, 7}}) {
    std::vector<float> x = random_floats(T * C, 1), weight = random_floats(C, 2), r = random_floats(T * C, 3);
    std::vector<float> y(x.size()), again(x.size()), rstd(static_cast<size_t>(T)), d_x(x.size());
    Context ctx;
    Tensor tr(rstd.data(), Dtype::F32, {T}), tw(weight.data(), Dtype::F32, {C});
    rms_norm(ctx, matrix(y, T, C), tr, matrix(x, T, C), tw, kEps);
    std::vector<double> xd = doubles(x);
    expect_near(y, reference(xd, weight, T, C), 1e-6, "y");
    rms_norm_rebuild(ctx, matrix(again, T, C), matrix(x, T, C), tr, tw);
    EXPECT_EQ(y, again);

    rms_norm_backward(ctx, matrix(d_x, T, C), matrix(r, T, C), matrix(x, T, C), tr, tw, false);
    std::vector<double> want = central_differences(xd, [&, T = T, C = C] { return inner(reference(xd, weight, T, C), r); });
    double scale = 0;
    for (size_t i = 0; i < r.size(); ++i) scale = std::max(scale, std::abs(double(r[i]) * rstd[i / static_cast<size_t>(C)]));
    expect_near(d_x, want, C == 1 ? 1e-3 * scale / std::abs(want[0]) : 2e-6, "d_x");
    std::vector<float> twice = d_x, in_place = r;
    rms_norm_backward(ctx, matrix(twice, T, C), matrix(r, T, C), matrix(x, T, C), tr, tw, true);
    for (size_t i = 0; i < twice.size(); ++i) EXPECT_NEAR(twice[i], 2 * d_x[i], 1e-5 * (1 + std::abs(d_x[i])));
    rms_norm_backward(ctx, matrix(in_place, T, C), matrix(in_place, T, C), matrix(x, T, C), tr, tw, false);
    EXPECT_EQ(in_place, d_x);
  }
}

TEST(RmsNorm, OffsetAndNoWeight) {
  const int64_t T = 300, C = 70;
  std::vector<float> x = random_floats(T * C, 1), weight = random_floats(C, 2), r = random_floats(T * C, 3), moved = weight, ones(C, 1.0f);
  for (float& w : moved) w = 1 + w;
  const int before = omp_get_max_threads();
  for (int threads : {1, 2, 3}) {
    omp_set_num_threads(threads);
    for (bool absent : {false, true}) {
      // What the effective weight gives as a plain one, to the bit.
      std::vector<float>& plain = absent ? ones : moved;
      const Tensor tp(plain.data(), Dtype::F32, {C}), tw = absent ? Tensor() : Tensor(weight.data(), Dtype::F32, {C});
      std::vector<float> y(x.size()), want(x.size()), d_x = r, want_d = r, rstd(T), want_rstd(T);
      const Tensor tr(rstd.data(), Dtype::F32, {T}), trw(want_rstd.data(), Dtype::F32, {T});
      Context ctx;
      rms_norm(ctx, matrix(y, T, C), tr, matrix(x, T, C), tw, kEps, 1);
      rms_norm(ctx, matrix(want, T, C), trw, matrix(x, T, C), tp, kEps);
      EXPECT_EQ(y, want);
      EXPECT_EQ(rstd, want_rstd);
      expect_near(y, reference(doubles(x), plain, T, C), 1e-6, "y");
      std::fill(y.begin(), y.end(), 0.0f);
      rms_norm_rebuild(ctx, matrix(y, T, C), matrix(x, T, C), tr, tw, 1);
      EXPECT_EQ(y, want);
      for (bool accumulate : {true, false}) {
        rms_norm_backward(ctx, matrix(d_x, T, C), matrix(r, T, C), matrix(x, T, C), tr, tw, accumulate, 1);
        rms_norm_backward(ctx, matrix(want_d, T, C), matrix(r, T, C), matrix(x, T, C), tr, tp, accumulate);
        EXPECT_EQ(d_x, want_d);
      }
    }
  }
  omp_set_num_threads(before);
}

}  // namespace
}  // namespace loraine::rms_norm_test
