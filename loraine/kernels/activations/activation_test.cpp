// Activations against their formulas in double, gradients by central differences; extremes, every length, bf16, threads; gated silu is
// SwiGLU.
#include "loraine/kernels/activations/activation.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "loraine/kernels/activations/activation_rows.h"
#include "loraine/kernels/activations/swiglu.h"
#include "tests/support/op_check.h"

namespace loraine::activation_test {
namespace {

constexpr Activation kAll[] = {Activation::silu,  Activation::gelu_tanh, Activation::gelu_erf,
                               Activation::relu2, Activation::relu,      Activation::xielu};

double softplus(double x) { return std::log1p(std::exp(x)); }

double formula(double x, const ActivationShape& shape) {
  switch (shape.kind) {
    case Activation::silu: return x / (1 + std::exp(-x));
    case Activation::gelu_tanh: return 0.5 * x * (1 + std::tanh(std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x)));
    case Activation::gelu_erf: return 0.5 * x * std::erfc(-x / std::sqrt(2));
    case Activation::relu2: return x > 0 ? x * x : 0;
    case Activation::relu: return x > 0 ? x : 0;
    case Activation::xielu: {
      const double a_p = softplus(shape.alpha_p), a_n = 0.5 + softplus(shape.alpha_n);
      return x > 0 ? a_p * x * x + 0.5 * x : a_n * (std::expm1(std::min(x, -1e-6)) - x) + 0.5 * x;
    }
  }
  return 0;
}

ActivationShape shape_of(Activation kind) { return {kind, 0.2f, -0.7f}; }

std::vector<double> plain(const std::vector<double>& x, const ActivationShape& shape) {
  std::vector<double> h;
  for (double v : x) h.push_back(formula(v, shape));
  return h;
}

std::vector<double> gated(const std::vector<double>& gu, int64_t T, int64_t F, const ActivationShape& shape) {
  std::vector<double> h(static_cast<size_t>(T * F));
  for (int64_t t = 0; t < T; ++t)
    for (int64_t f = 0; f < F; ++f) {
      const size_t g = static_cast<size_t>(t * 2 * F + f);
      h[static_cast<size_t>(t * F + f)] = formula(gu[g], shape) * gu[g + static_cast<size_t>(F)];
    }
  return h;
}

TEST(Activation, ForwardAndBackward) {
  const int64_t T = 6, F = 37;
  for (Activation kind : kAll) {
    const ActivationShape shape = shape_of(kind);
    std::vector<float> x = random_floats(T * F, 1, 3), r = random_floats(T * F, 2), h(x.size()), d(x.size());
    x[0] = 30;
    x[1] = -30;
    Context ctx;
    activate(ctx, matrix(h, T, F), matrix(x, T, F), shape);
    std::vector<double> xd = doubles(x);
    expect_near(h, plain(xd, shape), 3e-7, "h");
    activate_backward(ctx, matrix(d, T, F), matrix(r, T, F), matrix(x, T, F), shape);
    expect_near(d, central_differences(xd, [&] { return inner(plain(xd, shape), r); }), 2e-6, "d_x");
    std::vector<float> over_x = x, over_h = r, same = x;
    activate_backward(ctx, matrix(over_x, T, F), matrix(r, T, F), matrix(over_x, T, F), shape);
    activate_backward(ctx, matrix(over_h, T, F), matrix(over_h, T, F), matrix(x, T, F), shape);
    activate(ctx, matrix(same, T, F), matrix(same, T, F), shape);
    EXPECT_EQ(over_x, d);
    EXPECT_EQ(over_h, d);
    EXPECT_EQ(same, h);
  }
}

TEST(Activation, XieluAlphasHaveTheirGradients) {
  const int64_t T = 5;
  for (const int64_t F : {1, 37, 64}) {
    std::vector<float> x = random_floats(T * F, 1, 2), r = random_floats(T * F, 2), sums(static_cast<size_t>(2 * T));
    x[0] = -1e-7f;  // above ε
    Context ctx;
    xielu_slopes(ctx, matrix(sums, T, 2), matrix(r, T, F), matrix(x, T, F));
    const std::vector<double> xd = doubles(x);
    for (int64_t t = 0; t < T; ++t) {
      const std::vector<double> row(xd.begin() + t * F, xd.begin() + (t + 1) * F);
      const std::vector<float> d(r.begin() + t * F, r.begin() + (t + 1) * F);
      for (const int which : {0, 1}) {
        const auto loss = [&](float change) {
          ActivationShape shape = shape_of(Activation::xielu);
          (which ? shape.alpha_n : shape.alpha_p) += change;
          return inner(plain(row, shape), d);
        };
        const float h = 0x1p-8f, alpha = which ? -0.7f : 0.2f;
        const double slope = 1 / (1 + std::exp(-static_cast<double>(alpha)));
        const double rise = (8 * (loss(h / 2) - loss(-h / 2)) - (loss(h) - loss(-h))) / (6 * static_cast<double>(h));
        EXPECT_NEAR(slope * static_cast<double>(sums[static_cast<size_t>(2 * t + which)]), rise, 2e-6 * static_cast<double>(F));
      }
    }
    const std::vector<bf16> x16 = to_bf16(x), r16 = to_bf16(r);
    std::vector<float> narrow(sums.size()), wide(sums.size()), x_wide = to_floats(x16), r_wide = to_floats(r16);
    std::vector<bf16> xs = x16, rs = r16;
    xielu_slopes(ctx, matrix(narrow, T, 2), matrix(rs, T, F), matrix(xs, T, F));
    xielu_slopes(ctx, matrix(wide, T, 2), matrix(r_wide, T, F), matrix(x_wide, T, F));
    EXPECT_EQ(narrow, wide);
  }
}

TEST(Activation, GatedForwardAndBackward) {
  const int64_t T = 4, F = 37;
  for (Activation kind : kAll) {
    const ActivationShape shape = shape_of(kind);
    std::vector<float> gu = random_floats(T * 2 * F, 1, 2), r = random_floats(T * F, 2), h(r.size()), d(gu.size());
    Context ctx;
    gated_activate(ctx, matrix(h, T, F), matrix(gu, T, 2 * F), shape);
    std::vector<double> gud = doubles(gu);
    expect_near(h, gated(gud, T, F, shape), 5e-7, "h");
    gated_activate_backward(ctx, matrix(d, T, 2 * F), matrix(r, T, F), matrix(gu, T, 2 * F), shape);
    expect_near(d, central_differences(gud, [&] { return inner(gated(gud, T, F, shape), r); }), 2e-6, "d_gate_up");
    std::vector<float> in_place = gu, h_swiglu(h.size()), d_swiglu(d.size());
    gated_activate_backward(ctx, matrix(in_place, T, 2 * F), matrix(r, T, F), matrix(in_place, T, 2 * F), shape);
    EXPECT_EQ(in_place, d);
    if (kind != Activation::silu) continue;
    swiglu(ctx, matrix(h_swiglu, T, F), matrix(gu, T, 2 * F));
    swiglu_backward(ctx, matrix(d_swiglu, T, 2 * F), matrix(r, T, F), matrix(gu, T, 2 * F));
    EXPECT_EQ(h, h_swiglu);
    EXPECT_EQ(d, d_swiglu);
  }
}

TEST(Activation, IsCloseEverywhereAndFiniteAtExtremes) {
  std::vector<float> x;
  for (double v = -14; v < 14; v += 0.00371) x.push_back(static_cast<float>(v));
  const int64_t n = static_cast<int64_t>(x.size());
  for (Activation kind : kAll) {
    const ActivationShape shape = shape_of(kind);
    std::vector<float> h(x.size()), slope(x.size()), ones(x.size(), 1.0f);
    Context ctx;
    activate(ctx, matrix(h, 1, n), matrix(x, 1, n), shape);
    activate_backward(ctx, matrix(slope, 1, n), matrix(ones, 1, n), matrix(x, 1, n), shape);
    for (size_t i = 0; i < x.size(); ++i) {
      const double at = static_cast<double>(x[i]), want = formula(at, shape), step = 1e-4;
      ASSERT_NEAR(h[i], want, 3e-7 * (std::abs(want) + std::min(1.0, std::abs(at)))) << at << " of " << static_cast<int>(kind);
      if (std::abs(at) < 2 * step) continue;  // some have a corner there
      const double rise = (formula(at + step, shape) - formula(at - step, shape)) / (2 * step);
      ASSERT_NEAR(slope[i], rise, 2e-6 * (1 + std::abs(rise))) << at << " of " << static_cast<int>(kind);
    }
    std::vector<float> ends{1e18f, -1e18f, 100, -100, 0, -0.0f, -1e-7f, 1e-30f, NAN}, out(ends.size()), d(ends.size());
    const int64_t m = static_cast<int64_t>(ends.size());
    activate(ctx, matrix(out, 1, m), matrix(ends, 1, m), shape);
    activate_backward(ctx, matrix(d, 1, m), matrix(ones = std::vector<float>(ends.size(), 1.0f), 1, m), matrix(ends, 1, m), shape);
    for (size_t i = 0; i + 1 < ends.size(); ++i) {
      const double want = formula(ends[i], shape);
      EXPECT_NEAR(out[i], want, 1e-6 * std::abs(want) + 1e-18) << ends[i] << " of " << static_cast<int>(kind);
      EXPECT_TRUE(std::isfinite(d[i])) << ends[i] << " of " << static_cast<int>(kind);
    }
    EXPECT_TRUE(std::isnan(out.back())) << static_cast<int>(kind);
  }
}

TEST(Activation, EveryLengthAndNothingBeyond) {
  for (Activation kind : kAll) {
    const ActivationShape shape = shape_of(kind);
    std::vector<float> x = random_floats(70, 1), whole(70);
    activate_row(whole.data(), x.data(), Dtype::F32, 70, shape);
    for (int64_t n = 0; n < 70; ++n) {
      std::vector<float> h(70, 7.0f);
      activate_row(h.data(), x.data(), Dtype::F32, n, shape);
      for (size_t i = 0; i < h.size(); ++i) ASSERT_EQ(h[i], static_cast<int64_t>(i) < n ? whole[i] : 7.0f);
    }
  }
}

TEST(Activation, BfloatIsTheRoundedF32AndThreadsDoNotMatter) {
  const int64_t T = 400, F = 75;
  const int before = omp_get_max_threads();
  for (Activation kind : kAll) {
    const ActivationShape shape = shape_of(kind);
    std::vector<bf16> x = to_bf16(random_floats(T * 2 * F, 1)), r = to_bf16(random_floats(T * F, 2)), h(r.size()), d(x.size());
    std::vector<float> wide = to_floats(x), r_wide = to_floats(r), h_wide(h.size()), d_wide(d.size()), first;
    Context ctx;
    for (int threads : {1, 2, 3}) {
      omp_set_num_threads(threads);
      std::vector<float> all(x.size()), d_all(x.size());
      activate(ctx, matrix(all, T, 2 * F), matrix(wide, T, 2 * F), shape);
      activate_backward(ctx, matrix(d_all, T, 2 * F), matrix(wide, T, 2 * F), matrix(wide, T, 2 * F), shape);
      gated_activate(ctx, matrix(h_wide, T, F), matrix(wide, T, 2 * F), shape);
      gated_activate_backward(ctx, matrix(d_wide, T, 2 * F), matrix(r_wide, T, F), matrix(wide, T, 2 * F), shape);
      for (const std::vector<float>& more : {d_all, h_wide, d_wide}) all.insert(all.end(), more.begin(), more.end());
      if (first.empty()) first = all;
      EXPECT_EQ(all, first);
    }
    omp_set_num_threads(before);
    gated_activate(ctx, matrix(h, T, F), matrix(x, T, 2 * F), shape);
    gated_activate_backward(ctx, matrix(d, T, 2 * F), matrix(r, T, F), matrix(x, T, 2 * F), shape);
    EXPECT_EQ(h, to_bf16(h_wide));
    EXPECT_EQ(d, to_bf16(d_wide));
    std::vector<bf16> plain16(x.size()), d16(x.size());
    activate(ctx, matrix(plain16, T, 2 * F), matrix(x, T, 2 * F), shape);
    activate_backward(ctx, matrix(d16, T, 2 * F), matrix(x, T, 2 * F), matrix(x, T, 2 * F), shape);
    EXPECT_EQ(plain16, to_bf16({first.begin(), first.begin() + static_cast<int64_t>(x.size())}));
    EXPECT_EQ(d16, to_bf16({first.begin() + static_cast<int64_t>(x.size()), first.begin() + static_cast<int64_t>(2 * x.size())}));
  }
  std::vector<float> x(12), h(12);
  Context ctx;
  EXPECT_THROW(gated_activate(ctx, matrix(h, 3, 4), matrix(x, 3, 4), shape_of(Activation::relu2)), Error);
}

}  // namespace
}  // namespace loraine::activation_test
