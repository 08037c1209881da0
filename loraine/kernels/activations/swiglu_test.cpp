// SwiGLU against its formula in double, gradient by central differences; extreme gates stay finite.
#include "loraine/kernels/activations/swiglu.h"

#include "tests/support/op_check.h"

namespace loraine::swiglu_test {
namespace {

std::vector<double> reference(const std::vector<double>& gu, int64_t T, int64_t F) {
  std::vector<double> h(static_cast<size_t>(T * F));
  for (int64_t t = 0; t < T; ++t) {
    for (int64_t f = 0; f < F; ++f) {
      double g = gu[static_cast<size_t>(t * 2 * F + f)], u = gu[static_cast<size_t>(t * 2 * F + F + f)];
      h[static_cast<size_t>(t * F + f)] = g / (1 + std::exp(-g)) * u;
    }
  }
  return h;
}

TEST(Swiglu, ForwardAndBackward) {
  const int64_t T = 4, F = 37;
  std::vector<float> gu = random_floats(T * 2 * F, 1, 3), r = random_floats(T * F, 2), h(static_cast<size_t>(T * F)), d(gu.size());
  gu[0] = 100;
  gu[1] = -100;
  Context ctx;
  swiglu(ctx, matrix(h, T, F), matrix(gu, T, 2 * F));
  std::vector<double> gud = doubles(gu);
  expect_near(h, reference(gud, T, F), 1e-6, "h");
  swiglu_backward(ctx, matrix(d, T, 2 * F), matrix(r, T, F), matrix(gu, T, 2 * F));
  std::vector<double> want = central_differences(gud, [&] { return inner(reference(gud, T, F), r); });
  expect_near(d, want, 2e-6, "d_gate_up");
  std::vector<float> in_place = gu;
  swiglu_backward(ctx, matrix(in_place, T, 2 * F), matrix(r, T, F), matrix(in_place, T, 2 * F));
  EXPECT_EQ(in_place, d);
}

}  // namespace
}  // namespace loraine::swiglu_test
