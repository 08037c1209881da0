// Products with diagonal blocks against sums in double, both ways round, shared and not, in f32 and bf16; gradients against differences.
#include "loraine/kernels/structured/diagonal_blocks.h"

#include "tests/support/op_check.h"

namespace loraine::diagonal_blocks_test {
namespace {

constexpr int64_t T = 7, kBlocks = 3, B = 5, C = kBlocks * B;

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& r, bool transposed, bool shared) {
  std::vector<double> y(static_cast<size_t>(T * C));
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < kBlocks; ++k)
      for (int64_t c = 0; c < B; ++c)
        for (int64_t j = 0; j < B; ++j)
          y[static_cast<size_t>(t * C + k * B + c)] +=
              x[static_cast<size_t>(t * C + k * B + j)] *
              r[static_cast<size_t>((shared ? 0 : k) * B * B + (transposed ? c * B + j : j * B + c))];
  return y;
}

TEST(DiagonalBlocks, ProductsAndGradients) {
  Context ctx;
  for (const bool shared : {false, true})
    for (const bool transposed : {false, true}) {
      std::vector<float> x = random_floats(T * C, 1), r = random_floats((shared ? 1 : kBlocks) * B * B, 2), g = random_floats(T * C, 3),
                         y = random_floats(T * C, 4);
      const Tensor blocks(r.data(), Dtype::F32, {shared ? 1 : kBlocks, B, B});
      std::vector<double> want = reference(doubles(x), doubles(r), transposed, shared), before = doubles(y);
      multiply_blocks(ctx, matrix(y, T, C), matrix(x, T, C), blocks, transposed, false);
      expect_near(y, want, 1e-6, "y");
      y.assign(before.begin(), before.end());
      multiply_blocks(ctx, matrix(y, T, C), matrix(x, T, C), blocks, transposed, true);
      for (size_t i = 0; i < want.size(); ++i) want[i] += before[i];
      expect_near(y, want, 1e-6, "y + …");
      if (transposed) continue;
      std::vector<float> d_r(r.size());
      multiply_blocks_gradient(ctx, Tensor(d_r.data(), Dtype::F32, {shared ? 1 : kBlocks, B, B}), matrix(x, T, C), matrix(g, T, C));
      std::vector<double> r64 = doubles(r);
      expect_near(d_r, central_differences(r64, [&] { return inner(reference(doubles(x), r64, false, shared), g); }), 1e-5, "d_r");
      std::vector<float> d_x(x.size());
      multiply_blocks(ctx, matrix(d_x, T, C), matrix(g, T, C), blocks, true, false);
      std::vector<double> x64 = doubles(x);
      expect_near(d_x, central_differences(x64, [&] { return inner(reference(x64, doubles(r), false, shared), g); }), 1e-5, "d_x");
    }
}

TEST(DiagonalBlocks, Bf16RoundsOnce) {
  Context ctx;
  std::vector<bf16> x = to_bf16(random_floats(T * C, 5)), y(static_cast<size_t>(T * C));
  std::vector<float> r = random_floats(kBlocks * B * B, 6);
  multiply_blocks(ctx, matrix(y, T, C), matrix(x, T, C), Tensor(r.data(), Dtype::F32, {kBlocks, B, B}), false, false);
  expect_near(to_floats(y), reference(doubles(to_floats(x)), doubles(r), false, false), 4e-3, "y in bf16");
}

}  // namespace
}  // namespace loraine::diagonal_blocks_test
