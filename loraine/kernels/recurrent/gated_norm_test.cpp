// The gated RMSNorm against its formulas in double, gradients by central differences; large gates stay finite.
#include "loraine/kernels/recurrent/gated_norm.h"

#include "loraine/kernels/recurrent/recurrent_test.h"
#include "tests/support/op_check.h"

namespace loraine::gated_norm_test {
namespace {

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& z, const std::vector<float>& weight, int64_t C,
                              const GatedNormShape& s) {
  const int64_t width = s.width ? s.width : C;
  std::vector<double> y(x.size());
  for (size_t first = 0; first < x.size(); first += static_cast<size_t>(width)) {
    double sum = 0;
    auto act = [&](size_t i) { return (s.activation == GateActivation::silu ? z[i] : 1) / (1 + std::exp(-z[i])); };
    auto normed = [&](size_t i) { return s.gate_first ? x[i] * act(i) : x[i]; };
    for (size_t i = first; i < first + static_cast<size_t>(width); ++i) sum += normed(i) * normed(i);
    const double rstd = 1 / std::sqrt(sum / static_cast<double>(width) + double(s.eps));
    for (size_t i = first; i < first + static_cast<size_t>(width); ++i)
      y[i] = s.width == 0 ? x[i] * act(i) : normed(i) * rstd * weight[i % weight.size()] * (s.gate_first ? 1 : act(i));
  }
  return y;
}

constexpr GateActivation kSilu = GateActivation::silu, kSigmoid = GateActivation::sigmoid;

TEST(GatedNorm, ForwardAndBackward) {
  const int64_t T = 5, C = 42;
  for (const GatedNormShape& s :
       {GatedNormShape{14, false, kSilu}, GatedNormShape{14, true, kSilu}, GatedNormShape{21, false, kSigmoid},
        GatedNormShape{42, true, kSigmoid}, GatedNormShape{0, false, kSilu}, GatedNormShape{0, false, kSigmoid}}) {
    for (bool shared : {false, true}) {
      std::vector<float> x = random_floats(T * C, 1), z = random_floats(T * C, 2, 3),
                         weight = random_floats(shared && s.width ? s.width : C, 3), d_y = random_floats(T * C, 4), y(x.size()),
                         d_x(x.size()), d_z(x.size());
      z[0] = 100, z[1] = -100;
      Context ctx;
      const Tensor tx = matrix(x, T, C), tz = matrix(z, T, C), w(weight.data(), Dtype::F32, {static_cast<int64_t>(weight.size())});
      gated_norm(ctx, matrix(y, T, C), tx, tz, s.width ? w : Tensor(), s);
      std::vector<double> xd = doubles(x), zd = doubles(z);
      expect_near(y, reference(xd, zd, weight, C, s), 2e-6, "y");
      gated_norm_backward(ctx, matrix(d_x, T, C), matrix(d_z, T, C), matrix(d_y, T, C), tx, tz, s.width ? w : Tensor(), s);
      auto loss = [&] { return inner(reference(xd, zd, weight, C, s), d_y); };
      expect_near(d_x, central_differences(xd, loss), 4e-6, "d_x");
      expect_near(d_z, central_differences(zd, loss), 4e-6, "d_gate");
      std::vector<float> in_place = x, d = d_y;
      gated_norm(ctx, matrix(in_place, T, C), matrix(in_place, T, C), tz, s.width ? w : Tensor(), s);
      EXPECT_EQ(in_place, y);
      gated_norm_backward(ctx, matrix(d, T, C), matrix(d_z, T, C), matrix(d, T, C), tx, tz, s.width ? w : Tensor(), s);
      EXPECT_EQ(d, d_x);
    }
  }
}

TEST(GatedNorm, OfBfloatActivationsIsThatOfTheirValuesOnAnyThreads) {
  const int64_t T = 70, C = 96;
  const GatedNormShape s{32, false, kSilu};
  std::vector<bf16> x = to_bf16(random_floats(T * C, 1)), z = to_bf16(random_floats(T * C, 2)), d_y = to_bf16(random_floats(T * C, 4)),
                    y(x.size()), d_x(x.size()), d_z(x.size());
  std::vector<float> weight = random_floats(32, 3), xf = to_floats(x), zf = to_floats(z), d_yf = to_floats(d_y), yf(xf.size()),
                     d_xf(xf.size()), d_zf(xf.size());
  const Tensor w(weight.data(), Dtype::F32, {32});
  Context ctx;
  gated_norm(ctx, matrix(yf, T, C), matrix(xf, T, C), matrix(zf, T, C), w, s);
  gated_norm_backward(ctx, matrix(d_xf, T, C), matrix(d_zf, T, C), matrix(d_yf, T, C), matrix(xf, T, C), matrix(zf, T, C), w, s);
  for (int threads : {1, 2, 3}) {
    with_threads(threads, [&] {
      gated_norm(ctx, matrix(y, T, C), matrix(x, T, C), matrix(z, T, C), w, s);
      gated_norm_backward(ctx, matrix(d_x, T, C), matrix(d_z, T, C), matrix(d_y, T, C), matrix(x, T, C), matrix(z, T, C), w, s);
      return 0;
    });
    EXPECT_EQ(to_floats(y), to_floats(to_bf16(yf)));
    EXPECT_EQ(to_floats(d_x), to_floats(to_bf16(d_xf)));
    EXPECT_EQ(to_floats(d_z), to_floats(to_bf16(d_zf)));
  }
}

}  // namespace
}  // namespace loraine::gated_norm_test
