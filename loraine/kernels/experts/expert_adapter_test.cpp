// LoRA on experts against sums in double, gradients by central differences of those; PEFT's layouts; bf16; any number of threads.
#include "loraine/kernels/experts/expert_adapter.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/expert_rows.h"
#include "tests/support/op_check.h"

namespace loraine::expert_adapter_test {
namespace {

constexpr int64_t kE = 5, kK = 2, kIn = 19, kOut = 23, kR = 3;

ExpertFactors factors(std::vector<float>& down, std::vector<float>& up, float scale = 1) {
  return {Tensor(down.data(), Dtype::F32, {kE, kR, kIn}), Tensor(up.data(), Dtype::F32, {kE, kOut, kR}), scale};
}

std::vector<double> reference(const ChosenRows& rows, const std::vector<double>& x, const std::vector<double>& down,
                              const std::vector<double>& up, double scale) {
  const int64_t M = rows.order.rows();
  std::vector<double> y(static_cast<size_t>(M * kOut));
  for (int64_t m = 0; m < M; ++m)
    for (int64_t k = 0; k < kR; ++k) {
      const int64_t e = rows.expert_of(m);
      double p = 0;
      for (int64_t i = 0; i < kIn; ++i) p += x[static_cast<size_t>(m * kIn + i)] * down[static_cast<size_t>((e * kR + k) * kIn + i)];
      for (int64_t o = 0; o < kOut; ++o)
        y[static_cast<size_t>(m * kOut + o)] += scale * p * up[static_cast<size_t>((e * kOut + o) * kR + k)];
    }
  return y;
}

TEST(ExpertAdapter, ForwardAndBackward) {
  for (int64_t T : {3, 90}) {
    const int64_t M = T * kK;
    const ChosenRows rows(T, kK, kE, 1);
    std::vector<float> x = random_floats(M * kIn, 2), down = random_floats(kE * kR * kIn, 3), up = random_floats(kE * kOut * kR, 4),
                       d_y = random_floats(M * kOut, 5), y(d_y.size(), 1), saved(static_cast<size_t>(M * kR)), d_saved(saved.size());
    std::vector<double> xd = doubles(x), downd = doubles(down), upd = doubles(up);
    const ExpertFactors lora = factors(down, up, 0.5f);
    Context ctx;
    expert_adapter(ctx, matrix(y, M, kOut), matrix(saved, M, kR), matrix(x, M, kIn), lora, rows.order);
    std::vector<double> want = reference(rows, xd, downd, upd, 0.5);
    for (double& v : want) v += 1;
    expect_near(y, want, 2e-6, "y");
    auto loss = [&] { return inner(reference(rows, xd, downd, upd, 0.5), d_y); };
    const std::vector<double> want_x = central_differences(xd, loss, 1e-3), want_down = central_differences(downd, loss, 1e-3),
                              want_up = central_differences(upd, loss, 1e-3);
    std::vector<float> d_x(x.size()), d_down(down.size()), d_up(up.size());
    expert_adapter_backward(ctx, matrix(d_x, M, kIn), factors(d_down, d_up), matrix(d_saved, M, kR), matrix(d_y, M, kOut),
                            matrix(x, M, kIn), matrix(saved, M, kR), lora, rows.order);
    expect_near(d_x, want_x, 3e-6, "d_x");
    expect_near(d_down, want_down, 3e-6, "d_down");
    expect_near(d_up, want_up, 3e-6, "d_up");
    const std::vector<float> once = d_up;  // gradients are added, and without a d_x nothing else changes
    expert_adapter_backward(ctx, {}, factors(d_down, d_up), matrix(d_saved, M, kR), matrix(d_y, M, kOut), matrix(x, M, kIn),
                            matrix(saved, M, kR), lora, rows.order);
    for (size_t i = 0; i < once.size(); ++i) EXPECT_NEAR(d_up[i], 2 * once[i], 1e-5 * (1 + std::abs(once[i])));
  }
}

TEST(ExpertAdapter, ThreadsChangeNothingAndBfloatIsNear) {
  const int64_t T = 150, M = T * kK;
  const ChosenRows rows(T, kK, kE, 1);
  std::vector<bf16> x16 = to_bf16(random_floats(M * kIn, 2)), d_y16 = to_bf16(random_floats(M * kOut, 5));
  std::vector<float> x = to_floats(x16), d_y = to_floats(d_y16), down = random_floats(kE * kR * kIn, 3),
                     up = random_floats(kE * kOut * kR, 4);
  const ExpertFactors lora = factors(down, up, 0.5f);
  Context ctx;
  const int threads = omp_get_max_threads();
  std::vector<float> wide;
  for (Dtype type : {Dtype::F32, Dtype::BF16}) {
    std::vector<float> first;
    for (int n : {1, 2, 3}) {
      omp_set_num_threads(n);
      const bool f32 = type == Dtype::F32;
      std::vector<float> y(static_cast<size_t>(M * kOut)), saved(static_cast<size_t>(M * kR)), d_saved(saved.size()), d_x(x.size()),
          d_down(down.size()), d_up(up.size());
      std::vector<bf16> saved16(saved.size()), d_saved16(saved.size());
      const Tensor ts = f32 ? matrix(saved, M, kR) : matrix(saved16, M, kR), td = f32 ? matrix(d_saved, M, kR) : matrix(d_saved16, M, kR),
                   tx = f32 ? matrix(x, M, kIn) : matrix(x16, M, kIn), tdy = f32 ? matrix(d_y, M, kOut) : matrix(d_y16, M, kOut);
      expert_adapter(ctx, matrix(y, M, kOut), ts, tx, lora, rows.order);
      expert_adapter_backward(ctx, matrix(d_x, M, kIn), factors(d_down, d_up), td, tdy, tx, ts, lora, rows.order);
      std::vector<float> all = y;
      for (const auto* part : {&d_x, &d_down, &d_up}) all.insert(all.end(), part->begin(), part->end());
      if (n == 1) first = all;
      EXPECT_EQ(all, first);
    }
    if (type == Dtype::F32) wide = first;
    else expect_near(first, doubles(wide), 1e-2, "bf16");
  }
  omp_set_num_threads(threads);
}

TEST(ExpertAdapter, EveryTokenHasItsOwn) {
  const int64_t T = 40, M = T * kK;
  const ChosenRows rows(T, kK, kE, 1);
  std::vector<float> x = random_floats(M * kIn, 2), y(static_cast<size_t>(M * kOut)), saved(static_cast<size_t>(M * kR));
  std::vector<float> down[2] = {random_floats(kE * kR * kIn, 3), random_floats(kE * kR * kIn, 6)},
                     up[2] = {random_floats(kE * kOut * kR, 4), random_floats(kE * kOut * kR, 7)};
  const ExpertFactors lora[2] = {factors(down[0], up[0], 0.5f), factors(down[1], up[1], 2)};
  const ExpertAdapterTokens of[] = {{&lora[1], 0, 7}, {&lora[0], 11, 20}};
  Context ctx;
  expert_adapters(ctx, matrix(y, M, kOut), matrix(saved, M, kR), matrix(x, M, kIn), of, rows.order);
  std::vector<float> alone[2];
  for (size_t a = 0; a < 2; ++a) {
    alone[a].resize(y.size());
    expert_adapter(ctx, matrix(alone[a], M, kOut), matrix(saved, M, kR), matrix(x, M, kIn), lora[a], rows.order);
  }
  for (int64_t m = 0; m < M; ++m) {
    const int64_t t = rows.tokens()[m];
    const int which = t < 7 ? 1 : t >= 11 && t < 31 ? 0 : -1;
    for (int64_t o = 0; o < kOut; ++o) {
      const size_t at = static_cast<size_t>(m * kOut + o);
      EXPECT_EQ(y[at], which < 0 ? 0 : alone[which][at]);
    }
  }
}

TEST(ExpertAdapter, PeftsLayouts) {
  for (bool swapped : {false, true}) {
    const int64_t a_columns = swapped ? kOut : kIn, b_rows = swapped ? kIn : kOut;
    std::vector<float> a = random_floats(kE * kR * a_columns, 1), b = random_floats(b_rows * kR * kE, 2), down(kE * kR * kIn),
                       up(kE * kOut * kR), a_again(a.size()), b_again(b.size());
    const ExpertFactors lora = factors(down, up);
    expert_factors_from_peft(lora, matrix(a, kE * kR, a_columns), matrix(b, b_rows, kR * kE), swapped);
    for (int64_t e = 0; e < kE; ++e)  // the change of expert e's matrix
      for (int64_t o = 0; o < kOut; ++o)
        for (int64_t i = 0; i < kIn; ++i) {
          double mine = 0, peft = 0;
          for (int64_t k = 0; k < kR; ++k) {
            mine += static_cast<double>(up[static_cast<size_t>((e * kOut + o) * kR + k)]) *
                    static_cast<double>(down[static_cast<size_t>((e * kR + k) * kIn + i)]);
            peft += static_cast<double>(b[static_cast<size_t>((swapped ? i : o) * kR * kE + k * kE + e)]) *
                    static_cast<double>(a[static_cast<size_t>((e * kR + k) * a_columns + (swapped ? o : i))]);
          }
          EXPECT_EQ(mine, peft);
        }
    expert_factors_to_peft(matrix(a_again, kE * kR, a_columns), matrix(b_again, b_rows, kR * kE), lora, swapped);
    EXPECT_EQ(a_again, a);
    EXPECT_EQ(b_again, b);
    EXPECT_THROW(expert_factors_to_peft(matrix(a_again, kE * kR, a_columns), matrix(b_again, b_rows, kR * kE), lora, !swapped), Error);
  }
}

}  // namespace
}  // namespace loraine::expert_adapter_test
