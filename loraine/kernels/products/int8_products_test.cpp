// Rows to int8 and their products against plain loops over integers: equal to the last bit, every shape class, both machines' ways.
#include "loraine/kernels/products/int8_products.h"

#include <omp.h>

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/kernels/products/matmul.h"
#include "tests/support/op_check.h"

namespace loraine::int8_products_test {
namespace {

struct Quantised {
  std::vector<int8_t> q;
  std::vector<float> scales;  // of activations; of a weight what row_scale takes
  int64_t rows, cols, stride;
  QuantState state = {};
  Tensor tensor() { return Tensor(q.data(), Dtype::I8, {rows, stride}).col_range(0, cols); }
  Int8Rows view() { return {tensor(), scales.data()}; }
  Tensor weight() {
    state.codes = q.data();
    state.cols = stride;
    state.row_absmax = scales.data();
    Tensor w = tensor();
    w.dtype = Dtype::INT8;
    w.quant = &state;
    return w;
  }
  int32_t at(int64_t r, int64_t c) const { return q[static_cast<size_t>(r * stride + c)]; }
};

Quantised random_rows(int64_t rows, int64_t cols, uint32_t seed, int64_t pad = 0, bool extreme = false) {
  Quantised x{std::vector<int8_t>(static_cast<size_t>(rows * (cols + pad))), {}, rows, cols, cols + pad, {}};
  std::mt19937 random(seed);
  for (int8_t& v : x.q) v = extreme ? (random() % 8 ? 127 : -127) : static_cast<int8_t>(static_cast<int>(random() % 255) - 127);
  x.scales = random_floats(rows, seed + 1);
  return x;
}

// The definition: whole sums, then two roundings.
float product_at(int64_t sum, float column, float row) { return static_cast<float>(static_cast<int32_t>(sum)) * column * row; }

void check_nt(int64_t M, std::vector<int64_t> N, int64_t K, bool extreme = false, int64_t pad = 0) {
  Quantised x = random_rows(M, K, 1, pad, extreme);
  std::vector<Quantised> w;
  std::vector<Tensor> parts;
  int64_t all = 0;
  for (int64_t n : N) {
    w.push_back(random_rows(n, K, static_cast<uint32_t>(5 + all), pad, extreme));
    all += n;
  }
  for (Quantised& one : w) parts.push_back(one.weight());
  std::vector<float> y(static_cast<size_t>(M * all)), few = y, want;
  std::vector<bf16> y16(y.size());
  Context ctx;
  int8_matmul_nt(ctx, matrix(y, M, all), x.view(), parts);
  int8_matmul_nt(ctx, matrix(y16, M, all), x.view(), parts);
  for (int64_t m = 0; m < M; ++m)
    for (const Quantised& part : w)
      for (int64_t n = 0; n < part.rows; ++n) {
        int64_t sum = 0;
        for (int64_t k = 0; k < K; ++k) sum += x.at(m, k) * part.at(n, k);
        want.push_back(product_at(sum, part.state.row_scale(n), x.scales[static_cast<size_t>(m)]));
      }
  EXPECT_EQ(y, want);
  for (size_t i = 0; i < y16.size(); ++i) EXPECT_EQ(y16[i], f32_to_bf16(want[i]));
  if (M > kFewRows) return;
  int8_matmul_few_rows(ctx, matrix(few, M, all), x.view(), {std::vector<size_t>(static_cast<size_t>(M) + 1), {}, {}}, parts);
  EXPECT_EQ(few, want);
}

void check_nn(int64_t M, int64_t N, std::vector<int64_t> K, bool extreme = false) {
  int64_t all = 0;
  std::vector<Quantised> w;
  std::vector<Tensor> parts;
  for (int64_t k : K) {
    w.push_back(random_rows(k, N, static_cast<uint32_t>(5 + all), 3, extreme));
    all += k;
  }
  for (Quantised& one : w) parts.push_back(one.weight());
  Quantised x = random_rows(M, all, 1, 2, extreme);
  std::vector<float> y(static_cast<size_t>(M * N)), want;
  Context ctx;
  int8_matmul_nn(ctx, matrix(y, M, N), x.view(), parts);
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      int64_t sum = 0, column = 0;
      for (const Quantised& part : w)
        for (int64_t k = 0; k < part.rows; ++k, ++column) sum += x.at(m, column) * part.at(k, n);
      want.push_back(product_at(sum, 1, x.scales[static_cast<size_t>(m)]));
    }
  EXPECT_EQ(y, want);
}

TEST(Int8Products, EqualTheIntegerSumsOfPlainLoops) {
  check_nt(1, {1}, 1);
  check_nt(70, {33}, 130, false, 5);
  check_nt(300, {200, 64, 10}, 96);
  check_nt(130, {193}, 1537);
  check_nt(5, {33, 7}, 130, false, 5);
  check_nt(32, {70}, 77);
  check_nn(1, 1, {1});
  check_nn(70, 33, {130});
  check_nn(300, 200, {96, 7, 50});
  check_nn(65, 100, {1025, 1500});
}

TEST(Int8Products, LargestSumsStayExact) {
  check_nt(3, {5}, 20000, true);
  check_nn(3, 5, {9000, 12000}, true);
}

TEST(Int8Products, RowsDependOnNothingElse) {
  Quantised x = random_rows(200, 300, 1), w = random_rows(100, 300, 2);
  const Tensor part = w.weight();
  std::vector<float> together(200 * 100), alone(200 * 100);
  Context ctx;
  const int threads = omp_get_max_threads();
  omp_set_num_threads(3);
  int8_matmul_nt(ctx, matrix(together, 200, 100), x.view(), std::span(&part, 1));
  omp_set_num_threads(threads);
  for (int64_t r = 0; r < 200; ++r)
    int8_matmul_nt(ctx, Tensor(alone.data() + r * 100, Dtype::F32, {1, 100}), {x.tensor().row_range(r, 1), x.scales.data() + r},
                   std::span(&part, 1));
  EXPECT_EQ(together, alone);
}

TEST(Int8Products, FewRowsAddTheirExactTerms) {
  constexpr int64_t M = 7, N = 75, K = 100;
  Quantised x = random_rows(M, K, 1), w = random_rows(N, K, 2, 3);
  const Tensor part = w.weight();
  ExactTerms exact{{0}, {}, {}};
  const std::vector<float> values = random_floats(M * K, 3, 50.0f);
  for (int64_t m = 0; m < M; ++m) {  // 0 to 6 of them
    for (int64_t i = 0; i < m; ++i) {
      exact.columns.push_back(13 * i + m);
      exact.values.push_back(values[static_cast<size_t>(m * K + i)]);
    }
    exact.first.push_back(exact.columns.size());
  }
  std::vector<float> y(M * N), alone(N);
  Context ctx;
  int8_matmul_few_rows(ctx, matrix(y, M, N), x.view(), exact, std::span(&part, 1));
  for (int64_t m = 0; m < M; ++m) {
    ExactTerms own{{0}, {}, {}};
    for (size_t i = exact.first[static_cast<size_t>(m)]; i < exact.first[static_cast<size_t>(m) + 1]; ++i) {
      own.columns.push_back(exact.columns[i]);
      own.values.push_back(exact.values[i]);
    }
    own.first.push_back(own.columns.size());
    int8_matmul_few_rows(ctx, matrix(alone, 1, N), {x.tensor().row_range(m, 1), x.scales.data() + m}, own, std::span(&part, 1));
    for (int64_t n = 0; n < N; ++n) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < K; ++k) sum += x.at(m, k) * w.at(n, k);
      sum *= static_cast<double>(x.scales[static_cast<size_t>(m)]);
      for (size_t i = 0; i < own.values.size(); ++i) {
        const double term = static_cast<double>(own.values[i]) * w.at(n, own.columns[i]);
        sum += term;
        size += std::abs(term);
      }
      const double scale = static_cast<double>(w.state.row_scale(n));
      EXPECT_NEAR(y[static_cast<size_t>(m * N + n)], sum * scale, 1e-6 * std::abs(scale) * (std::abs(sum) + size));
      EXPECT_EQ(y[static_cast<size_t>(m * N + n)], alone[static_cast<size_t>(n)]);
    }
  }
  exact.first.pop_back();
  EXPECT_THROW(int8_matmul_few_rows(ctx, matrix(y, M, N), x.view(), exact, std::span(&part, 1)), Error);
}

TEST(Int8Products, QuantisedRowsAreTheNearestOnes) {
  const int64_t T = 40, K = 333;
  std::vector<float> x = random_floats(T * K, 1, 0.02f), factors = random_floats(K, 2);
  factors[7] = 0;
  for (int64_t t = 0; t < T; ++t) x[static_cast<size_t>(t * K + 7)] = 1e6f;  // left out by its factor
  std::vector<bf16> x16 = to_bf16(x);
  std::vector<int8_t> q(static_cast<size_t>(T * K));
  std::vector<float> scales(static_cast<size_t>(T));
  Context ctx;
  for (bool narrow : {false, true}) {
    const std::vector<float> in = narrow ? to_floats(x16) : x;
    quantise_rows(ctx, Tensor(q.data(), Dtype::I8, {T, K}), scales.data(), narrow ? matrix(x16, T, K) : matrix(x, T, K), factors.data());
    for (int64_t t = 0; t < T; ++t) {
      double most = 0;
      for (int64_t k = 0; k < K; ++k)
        most = std::max(most, std::abs(static_cast<double>(in[static_cast<size_t>(t * K + k)]) * factors[static_cast<size_t>(k)]));
      const double scale = static_cast<double>(scales[static_cast<size_t>(t)]);
      EXPECT_NEAR(scale, most / 127, 1e-6 * most);
      int largest = 0;
      for (int64_t k = 0; k < K; ++k) {
        const double value = static_cast<double>(in[static_cast<size_t>(t * K + k)]) * factors[static_cast<size_t>(k)];
        const int code = q[static_cast<size_t>(t * K + k)];
        largest = std::max(largest, std::abs(code));
        EXPECT_LE(std::abs(code * scale - value), 0.5001 * scale);
      }
      EXPECT_EQ(largest, 127);
      EXPECT_EQ(q[static_cast<size_t>(t * K + 7)], 0);
    }
  }
}

TEST(Int8Products, ZerosStayZeroAndNanComesOutAsNan) {
  std::vector<float> x = random_floats(4 * 8, 1);
  std::fill_n(x.begin(), 8, 0.0f);
  x[8] = NAN;
  x[16] = INFINITY;
  std::fill_n(x.begin() + 24, 8, 1e-40f);
  Quantised q = random_rows(4, 8, 2), w = random_rows(5, 8, 3);
  Context ctx;
  quantise_rows(ctx, q.tensor(), q.scales.data(), matrix(x, 4, 8));
  std::vector<float> y(4 * 5);
  const Tensor part = w.weight();
  int8_matmul_nt(ctx, matrix(y, 4, 5), q.view(), std::span(&part, 1));
  for (int64_t n = 0; n < 5; ++n) {
    EXPECT_EQ(y[static_cast<size_t>(n)], 0.0f);
    EXPECT_TRUE(std::isnan(y[static_cast<size_t>(5 + n)]));
    EXPECT_TRUE(std::isnan(y[static_cast<size_t>(10 + n)]));
    EXPECT_EQ(y[static_cast<size_t>(15 + n)], 0.0f);
  }
}

TEST(Int8Products, WrongShapesAreRefused) {
  Quantised x = random_rows(4, 8, 1), w = random_rows(5, 9, 2);
  std::vector<float> y(20);
  Context ctx;
  const Tensor part = w.weight();
  EXPECT_THROW(int8_matmul_nt(ctx, matrix(y, 4, 5), x.view(), std::span(&part, 1)), Error);
  EXPECT_THROW(int8_matmul_nn(ctx, matrix(y, 4, 5), x.view(), {}), Error);
  EXPECT_THROW(quantise_rows(ctx, x.tensor(), x.scales.data(), matrix(y, 4, 5)), Error);
}

}  // namespace
}  // namespace loraine::int8_products_test
