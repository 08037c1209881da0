// The gates of recurrent mixers against their formulas in double.
#include "loraine/kernels/recurrent/recurrent_gates.h"

#include "loraine/kernels/recurrent/recurrent_test.h"
#include "tests/support/op_check.h"

namespace loraine::recurrent_gates_test {
namespace {

TEST(RecurrentGates, SoftplusIsExactToTwoUnits) {
  std::vector<float> x, y, room;
  for (float v = -100; v < 100; v += 0.0371f) x.push_back(v);
  y.resize(x.size()), room.resize(x.size());
  softplus_row(y.data(), x.data(), static_cast<int64_t>(x.size()), room.data());
  for (size_t i = 0; i < x.size(); ++i) {
    if (x[i] < -87) continue;
    const double want = std::log1p(std::exp(-std::abs(double(x[i])))) + std::max(0.0, double(x[i]));
    EXPECT_NEAR(y[i], want, 3e-7 * want) << x[i];
  }
}

TEST(RecurrentGates, LogDecay) {
  const int64_t T = 7, H = 3;
  for (int64_t width : {1, 5}) {
    const int64_t N = H * width;
    std::vector<float> a = random_floats(T * N, 1, 3), A_log = random_floats(H, 2), bias = random_floats(N, 3),
                       d_g = random_floats(T * N, 4), g(a.size()), d_a(a.size());
    Context ctx;
    const Tensor A(A_log.data(), Dtype::F32, {H}), dt(bias.data(), Dtype::F32, {N});
    log_decay(ctx, matrix(g, T, N), matrix(a, T, N), A, dt);
    std::vector<double> ad = doubles(a);
    auto reference = [&] {
      std::vector<double> out;
      for (size_t i = 0; i < ad.size(); ++i) {
        const size_t n = i % static_cast<size_t>(N);
        out.push_back(-std::exp(double(A_log[n / static_cast<size_t>(width)])) * std::log1p(std::exp(ad[i] + bias[n])));
      }
      return out;
    };
    expect_near(g, reference(), 1e-6, "g");
    log_decay_backward(ctx, matrix(d_a, T, N), matrix(d_g, T, N), matrix(a, T, N), A, dt);
    expect_near(d_a, central_differences(ad, [&] { return inner(reference(), d_g); }), 1e-6, "d_a");

    std::vector<bf16> rounded = to_bf16(a), d_rounded(a.size());
    std::vector<float> of_rounded = to_floats(rounded), g_rounded(a.size());
    log_decay(ctx, matrix(g_rounded, T, N), matrix(rounded, T, N), A, dt);
    log_decay(ctx, matrix(g, T, N), matrix(of_rounded, T, N), A, dt);
    EXPECT_EQ(g, g_rounded);
    log_decay_backward(ctx, matrix(d_rounded, T, N), matrix(d_g, T, N), matrix(rounded, T, N), A, dt);
    log_decay_backward(ctx, matrix(d_a, T, N), matrix(d_g, T, N), matrix(of_rounded, T, N), A, dt);
    EXPECT_EQ(to_floats(d_rounded), to_floats(to_bf16(d_a)));
  }
}

TEST(RecurrentGates, WriteStrength) {
  const int64_t T = 60, N = 9;
  for (float largest : {1.0f, 2.0f}) {
    std::vector<float> b = random_floats(T * N, 1, 3), d_beta = random_floats(T * N, 4), beta(b.size()), d_b(b.size());
    Context ctx;
    write_strength(ctx, matrix(beta, T, N), matrix(b, T, N), largest);
    std::vector<double> bd = doubles(b);
    auto reference = [&] {
      std::vector<double> out;
      for (double x : bd) out.push_back(largest / (1 + std::exp(-x)));
      return out;
    };
    expect_near(beta, reference(), 1e-6, "beta");
    write_strength_backward(ctx, matrix(d_b, T, N), matrix(d_beta, T, N), matrix(beta, T, N), largest);
    expect_near(d_b, central_differences(bd, [&] { return inner(reference(), d_beta); }), 1e-6, "d_b");
    for (int threads : {2, 3}) {
      std::vector<float> other(beta.size());
      with_threads(threads, [&] {
        write_strength(ctx, matrix(other, T, N), matrix(b, T, N), largest);
        return 0;
      });
      EXPECT_EQ(beta, other);
    }
  }
}

}  // namespace
}  // namespace loraine::recurrent_gates_test
