// Circulant products and their gradients against plain sums in double and differences of them, for sizes with and without factors; a row by
// itself has the bits that it has among others.
#include "loraine/kernels/structured/circulant.h"

#include "tests/support/op_check.h"

namespace loraine::circulant_test {
namespace {

constexpr int64_t T = 70, M = 2, N = 3;  // more rows than are taken at once
constexpr float kScale = 0.5f;

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& w, int64_t b, int64_t rows) {
  std::vector<double> y(static_cast<size_t>(rows * M * b));
  for (int64_t t = 0; t < rows; ++t)
    for (int64_t m = 0; m < M; ++m)
      for (int64_t k = 0; k < b; ++k)
        for (int64_t n = 0; n < N; ++n)
          for (int64_t j = 0; j < b; ++j)
            y[static_cast<size_t>((t * M + m) * b + k)] += static_cast<double>(kScale) *
                                                           w[static_cast<size_t>((m * N + n) * b + (j - k + b) % b)] *
                                                           x[static_cast<size_t>((t * N + n) * b + j)];
  return y;
}

struct Spectrum {
  Spectrum(Context& ctx, std::vector<float>& w, int64_t b) : values(static_cast<size_t>(M * N * spectrum_width(b))) {
    tensor = Tensor(values.data(), Dtype::F32, {M, N, spectrum_width(b)});
    circulant_spectrum(ctx, tensor, Tensor(w.data(), Dtype::F32, {M, N, b}));
  }
  std::vector<float> values;
  Tensor tensor;
};

TEST(Circulant, Products) {
  Context ctx;
  for (const int64_t b : {1, 2, 5, 8, 9, 12, 14, 32}) {
    std::vector<float> x = random_floats(T * N * b, 1), w = random_floats(M * N * b, 2), y(static_cast<size_t>(T * M * b));
    const Spectrum s(ctx, w, b);
    multiply_circulant(ctx, matrix(y, T, M * b), matrix(x, T, N * b), s.tensor, b, kScale);
    expect_near(y, reference(doubles(x), doubles(w), b, T), 2e-6, "y");
    std::vector<float> alone(static_cast<size_t>(M * b));
    multiply_circulant(ctx, matrix(alone, 1, M * b), matrix(x, T, N * b).row_range(7, 1), s.tensor, b, kScale);
    EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.begin() + 7 * M * b)) << b;
  }
}

TEST(Circulant, Gradients) {
  Context ctx;
  for (const int64_t b : {3, 4, 6}) {
    std::vector<float> x = random_floats(T * N * b, 1), w = random_floats(M * N * b, 2), g = random_floats(T * M * b, 3), d_x(x.size()),
                       d_w(w.size());
    const Spectrum s(ctx, w, b);
    std::vector<float> d_s(s.values.size());
    const Tensor d_spectrum(d_s.data(), Dtype::F32, {M, N, spectrum_width(b)});
    multiply_circulant_backward(ctx, matrix(d_x, T, N * b), d_spectrum, matrix(g, T, M * b), matrix(x, T, N * b), s.tensor, b, kScale);
    circulant_spectrum_backward(ctx, Tensor(d_w.data(), Dtype::F32, {M, N, b}), d_spectrum);
    std::vector<double> w64 = doubles(w);
    const std::vector<double> x64 = doubles(x);
    expect_near(d_w, central_differences(w64, [&] { return inner(reference(x64, w64, b, T), g); }), 1e-5, "d_w");
    std::vector<double> first(x64.begin(), x64.begin() + N * b);  // of the first row, which no other depends on
    std::vector<float> g_first(g.begin(), g.begin() + M * b), d_first(d_x.begin(), d_x.begin() + N * b);
    expect_near(d_first, central_differences(first, [&] { return inner(reference(first, w64, b, 1), g_first); }), 1e-5, "d_x");
  }
}

TEST(Circulant, Bf16) {
  Context ctx;
  const int64_t b = 8;
  std::vector<bf16> x = to_bf16(random_floats(T * N * b, 5)), y(static_cast<size_t>(T * M * b));
  std::vector<float> w = random_floats(M * N * b, 6);
  const Spectrum s(ctx, w, b);
  multiply_circulant(ctx, matrix(y, T, M * b), matrix(x, T, N * b), s.tensor, b, kScale);
  expect_near(to_floats(y), reference(doubles(to_floats(x)), doubles(w), b, T), 8e-3, "y in bf16");
}

}  // namespace
}  // namespace loraine::circulant_test
