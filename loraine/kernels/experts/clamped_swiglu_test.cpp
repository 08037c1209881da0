// The clamped SwiGLU against its formula in double, gradient by central differences, in both layouts; bf16 is one rounding.
#include "loraine/kernels/experts/clamped_swiglu.h"

#include "tests/support/op_check.h"

namespace loraine::clamped_swiglu_test {
namespace {

constexpr int64_t kT = 5, kF = 37;

std::vector<double> reference(const std::vector<double>& gate_up, bool interleaved) {
  std::vector<double> h;
  for (int64_t t = 0; t < kT; ++t)
    for (int64_t f = 0; f < kF; ++f) {
      const double* row = gate_up.data() + t * 2 * kF;
      const double gate = std::min(interleaved ? row[2 * f] : row[f], 7.0),
                   up = std::clamp(interleaved ? row[2 * f + 1] : row[kF + f], -7.0, 7.0);
      h.push_back((up + 1) * gate / (1 + std::exp(-1.702 * gate)));
    }
  return h;
}

TEST(ClampedSwiglu, ForwardAndBackward) {
  for (bool interleaved : {true, false}) {
    std::vector<float> in = random_floats(kT * 2 * kF, 1, 6), r = random_floats(kT * kF, 2), h(static_cast<size_t>(kT * kF)), d(in.size());
    in[0] = in[1] = 300;
    in[2] = in[3] = -300;
    const ClampedSwiglu how{.interleaved = interleaved};
    Context ctx;
    clamped_swiglu(ctx, matrix(h, kT, kF), matrix(in, kT, 2 * kF), how);
    std::vector<double> ind = doubles(in);
    expect_near(h, reference(ind, interleaved), 1e-6, "h");
    clamped_swiglu_backward(ctx, matrix(d, kT, 2 * kF), matrix(r, kT, kF), matrix(in, kT, 2 * kF), how);
    expect_near(d, central_differences(ind, [&] { return inner(reference(ind, interleaved), r); }), 2e-6, "d_gate_up");
    std::vector<float> in_place = in;
    clamped_swiglu_backward(ctx, matrix(in_place, kT, 2 * kF), matrix(r, kT, kF), matrix(in_place, kT, 2 * kF), how);
    EXPECT_EQ(in_place, d);

    std::vector<bf16> in16 = to_bf16(in), r16 = to_bf16(r), h16(h.size()), d16(d.size());
    in = to_floats(in16), r = to_floats(r16);
    clamped_swiglu(ctx, matrix(h16, kT, kF), matrix(in16, kT, 2 * kF), how);
    clamped_swiglu(ctx, matrix(h, kT, kF), matrix(in, kT, 2 * kF), how);
    EXPECT_EQ(h16, to_bf16(h));
    clamped_swiglu_backward(ctx, matrix(d16, kT, 2 * kF), matrix(r16, kT, kF), matrix(in16, kT, 2 * kF), how);
    clamped_swiglu_backward(ctx, matrix(d, kT, 2 * kF), matrix(r, kT, kF), matrix(in, kT, 2 * kF), how);
    EXPECT_EQ(d16, to_bf16(d));
  }
}

}  // namespace
}  // namespace loraine::clamped_swiglu_test
