// Grouped products against sums in double: types, both ways that matrices are stored, experts with no, few and many rows; a row's bits in
// small batches; any number of threads.
#include "loraine/kernels/experts/grouped_product.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "tests/support/expert_rows.h"
#include "tests/support/op_check.h"
#include "tests/support/sanitized.h"

namespace loraine::grouped_product_test {
namespace {

constexpr int64_t kE = 7, kK = 3;  // experts, and choices of a token

// The matrices of all experts [E, R, C], as they are stored and as what that holds.
struct Experts {
  std::vector<float> values;
  std::vector<unsigned char> stored;
  std::vector<Tensor> views;
  Experts(Dtype dtype, int64_t R, int64_t C, uint32_t seed) : values(random_floats(kE * R * C, seed)) {
    const int64_t n = kE * R * C;
    stored.resize(static_cast<size_t>(bytes_of(dtype, n)));
    if (is_packed(dtype)) {  // Q8_0: blocks of a scale and 32 codes
      std::mt19937 random(seed);
      for (unsigned char& b : stored) b = static_cast<unsigned char>(random());
      for (size_t at = 0; at < stored.size(); at += 34) {
        const f16 scale = f32_to_f16(0.005f + static_cast<float>(random() % 100) * 1e-4f);
        std::memcpy(stored.data() + at, &scale, 2);
      }
      unpack(values.data(), stored.data(), dtype, n);
    } else {
      convert(stored.data(), dtype, values.data(), Dtype::F32, n);
      convert(values.data(), Dtype::F32, stored.data(), dtype, n);
    }
    const Tensor all(stored.data(), dtype, {kE, R, C});
    for (int64_t e = 0; e < kE; ++e) views.push_back(expert_matrix(all, e));
  }
  Experts(const Experts&) = delete;
};

// y, x of `type`; the matrices stored [N, K] (nt) or [K, N].
struct Product {
  int64_t T, N, K;
  bool nt;
  Dtype stored;
  Dtype type = Dtype::F32;
  float alpha = 1, beta = 0;
};

std::vector<float> run(const Product& p, const ChosenRows& rows, const Experts& w, const std::vector<float>& x_values,
                       const std::vector<float>& y_values) {
  const int64_t M = p.T * kK;
  std::vector<float> x = x_values, y = y_values;
  std::vector<bf16> x16 = to_bf16(x), y16 = to_bf16(y);
  const bool wide = p.type == Dtype::F32;
  const Tensor ty = wide ? matrix(y, M, p.N + 2).col_range(1, p.N) : matrix(y16, M, p.N + 2).col_range(1, p.N),
               tx = wide ? matrix(x, M, p.K + 1).col_range(0, p.K) : matrix(x16, M, p.K + 1).col_range(0, p.K);
  Context ctx;
  if (p.nt) grouped_nt(ctx, ty, tx, w.views, rows.order, p.alpha, p.beta);
  else grouped_nn(ctx, ty, tx, w.views, rows.order, p.alpha, p.beta);
  return wide ? y : to_floats(y16);
}

std::vector<double> reference(const Product& p, const ChosenRows& rows, const Experts& w, const std::vector<float>& x,
                              const std::vector<float>& y) {
  std::vector<double> out = doubles(y);
  for (int64_t m = 0; m < p.T * kK; ++m) {
    const float* matrix_of_row = w.values.data() + rows.expert_of(m) * p.N * p.K;
    for (int64_t n = 0; n < p.N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < p.K; ++k)
        sum += static_cast<double>(x[static_cast<size_t>(m * (p.K + 1) + k)]) *
               static_cast<double>(p.nt ? matrix_of_row[n * p.K + k] : matrix_of_row[k * p.N + n]);
      double& to = out[static_cast<size_t>(m * (p.N + 2) + n + 1)];
      to = static_cast<double>(p.alpha) * sum + static_cast<double>(p.beta) * to;
    }
  }
  return out;
}

TEST(GroupedProduct, EqualsTheSumInDouble) {
  const int threads = omp_get_max_threads();
  for (int64_t T : {1, 12, 60, kSanitized ? 90 : 300})
    for (bool nt : {true, false})
      for (Dtype stored : {Dtype::F32, Dtype::BF16, Dtype::F16, Dtype::Q8_0})
        for (Dtype type : {Dtype::F32, Dtype::BF16})
          for (float beta : {0.0f, 1.0f, 0.5f}) {
            const Product p{T, nt ? 210 : 224, 96, nt, stored, type, beta == 0.5f ? 2.0f : 1.0f, beta};
            SCOPED_TRACE(::testing::Message() << T << (nt ? " nt " : " nn ") << name_of(stored) << " " << name_of(type) << " " << beta);
            const ChosenRows rows(T, kK, kE, 1);
            const Experts w(stored, nt ? p.N : p.K, nt ? p.K : p.N, 2);
            std::vector<float> x = random_floats(T * kK * (p.K + 1), 3), y = random_floats(T * kK * (p.N + 2), 4);
            if (type == Dtype::BF16) x = to_floats(to_bf16(x)), y = to_floats(to_bf16(y));
            omp_set_num_threads(1);
            const std::vector<float> one = run(p, rows, w, x, y);
            expect_near(one, reference(p, rows, w, x, y), type == Dtype::F32 ? 2e-6 : 8e-3, "y");
            for (int n : {2, 3}) {
              omp_set_num_threads(n);
              EXPECT_EQ(one, run(p, rows, w, x, y));
            }
            omp_set_num_threads(threads);
          }
}

TEST(GroupedProduct, ManyRowsOfAnExpertAndLongSums) {
  for (bool nt : {true, false})
    for (Dtype type : {Dtype::F32, Dtype::BF16}) {
      const Product p{kSanitized ? 200 : 700, 65, 1100, nt, Dtype::BF16, type};
      const ChosenRows rows(p.T, kK, kE, 1);
      const Experts w(p.stored, nt ? p.N : p.K, nt ? p.K : p.N, 2);
      const std::vector<float> x = to_floats(to_bf16(random_floats(p.T * kK * (p.K + 1), 3))),
                               y = to_floats(to_bf16(random_floats(p.T * kK * (p.N + 2), 4)));
      expect_near(run(p, rows, w, x, y), reference(p, rows, w, x, y), type == Dtype::F32 ? 2e-6 : 8e-3, "y");
    }
}

// Up to kFewRows tokens: the rows of each token by themselves, whoever else is in the batch.
TEST(GroupedProduct, GivesEachTokenTheBitsItHasAlone) {
  for (bool nt : {true, false})
    for (Dtype stored : {Dtype::F32, Dtype::BF16, Dtype::Q8_0})
      for (Dtype type : {Dtype::F32, Dtype::BF16}) {
        const int64_t T = 32;
        Product p{T, 288, 320, nt, stored, type};
        const ChosenRows rows(T, kK, kE, 1);
        const Experts w(stored, nt ? p.N : p.K, nt ? p.K : p.N, 2);
        const std::vector<float> x = random_floats(T * kK * (p.K + 1), 3), y = random_floats(T * kK * (p.N + 2), 4);
        const std::vector<float> together = run(p, rows, w, x, y);
        p.T = 1;
        for (int64_t t = 0; t < T; ++t) {
          ChosenRows one(1, kK, kE, 1);
          one.chosen.assign(rows.chosen.begin() + t * kK, rows.chosen.begin() + (t + 1) * kK);
          Context ctx;
          order_by_expert(ctx, one.order, Tensor(one.chosen.data(), Dtype::I32, {1, kK}));
          auto rows_of_token = [&](const std::vector<float>& all, int64_t width) {
            std::vector<float> out(static_cast<size_t>(kK * width));
            for (int64_t k = 0; k < kK; ++k)
              std::copy_n(all.begin() + rows.places()[t * kK + k] * width, width, out.begin() + one.places()[k] * width);
            return out;
          };
          EXPECT_EQ(run(p, one, w, rows_of_token(x, p.K + 1), rows_of_token(y, p.N + 2)), rows_of_token(together, p.N + 2)) << t;
        }
      }
}

TEST(GroupedProduct, GradientsOfMatrices) {
  const int threads = omp_get_max_threads();
  for (int64_t T : {5, 300})
    for (Dtype type : {Dtype::F32, Dtype::BF16}) {
      const int64_t M = 270, N = 200, R = T * kK;
      const ChosenRows rows(T, kK, kE, 1);
      std::vector<bf16> x16 = to_bf16(random_floats(R * M, 3)), z16 = to_bf16(random_floats(R * N, 4));
      std::vector<float> x = to_floats(x16), z = to_floats(z16), start = random_floats(kE * M * N, 5);
      const bool wide = type == Dtype::F32;
      const Tensor tx = wide ? matrix(x, R, M) : matrix(x16, R, M), tz = wide ? matrix(z, R, N) : matrix(z16, R, N);
      std::vector<double> want = doubles(start);
      for (int64_t r = 0; r < R; ++r)
        for (int64_t m = 0; m < M; ++m)
          for (int64_t n = 0; n < N; ++n)
            want[static_cast<size_t>((rows.expert_of(r) * M + m) * N + n)] +=
                0.5 * static_cast<double>(x[static_cast<size_t>(r * M + m)]) * static_cast<double>(z[static_cast<size_t>(r * N + n)]);
      std::vector<float> first;
      for (int threads_now : {1, 2, 3}) {
        omp_set_num_threads(threads_now);
        std::vector<float> sums = start;
        std::vector<Tensor> views;
        for (int64_t e = 0; e < kE; ++e) views.push_back(expert_matrix(Tensor(sums.data(), Dtype::F32, {kE, M, N}), e));
        Context ctx;
        grouped_tn(ctx, views, tx, tz, rows.order, 0.5f);
        if (threads_now == 1) first = sums, expect_near(sums, want, 2e-6, "sums");  // bf16 products are exact in f32
        EXPECT_EQ(sums, first);
      }
      omp_set_num_threads(threads);
    }
}

TEST(GroupedProduct, BiasOfEachExpert) {
  const int64_t T = 30, C = 21, R = T * kK;
  const ChosenRows rows(T, kK, kE, 1);
  std::vector<bf16> bias16 = to_bf16(random_floats(kE * C, 2)), y16 = to_bf16(random_floats(R * C, 3));
  std::vector<float> bias = to_floats(bias16), y = to_floats(y16), want = y;
  for (int64_t r = 0; r < R; ++r)
    for (int64_t c = 0; c < C; ++c) want[static_cast<size_t>(r * C + c)] += bias[static_cast<size_t>(rows.expert_of(r) * C + c)];
  Context ctx;
  add_expert_bias(ctx, matrix(y, R, C), matrix(bias16, kE, C), rows.order);
  EXPECT_EQ(y, want);
  add_expert_bias(ctx, matrix(y16, R, C), matrix(bias, kE, C), rows.order);
  EXPECT_EQ(y16, to_bf16(want));
}

TEST(GroupedProduct, ScratchGrowsWithWhatIsWidened) {
  for (bool nt : {true, false}) {
    EXPECT_GE(grouped_scratch_bytes(512, 640, nt, Dtype::BF16, Dtype::F32), 640 * 192 * sizeof(float));
    EXPECT_LT(grouped_scratch_bytes(512, 640, nt, Dtype::F32, Dtype::F32), grouped_scratch_bytes(512, 640, nt, Dtype::Q8_0, Dtype::F32));
    EXPECT_LT(grouped_scratch_bytes(4096, 16384, nt, Dtype::BF16, Dtype::BF16), size_t{64} << 20);
  }
}

TEST(GroupedProduct, EmptyAndWrongShapes) {
  Context ctx;
  const ChosenRows none(0, kK, kE, 1), rows(2, kK, kE, 1);
  const Experts w(Dtype::F32, 8, 4, 2);
  std::vector<float> x(6 * 4), y(6 * 8);
  grouped_nt(ctx, Tensor(y.data(), Dtype::F32, {0, 8}), Tensor(x.data(), Dtype::F32, {0, 4}), w.views, none.order);
  EXPECT_THROW(grouped_nn(ctx, matrix(y, 6, 8), matrix(x, 6, 4), w.views, rows.order), Error);
  EXPECT_THROW(grouped_nt(ctx, matrix(y, 6, 8), matrix(x, 6, 4), std::span(w.views).first(kE - 1), rows.order), Error);
  EXPECT_THROW(expert_matrix(matrix(y, 6, 8), 0), Error);
}

}  // namespace
}  // namespace loraine::grouped_product_test
