// Mixing of streams, and rows brought to another's size, with their gradients, against sums in double.
#include "loraine/kernels/rows/streams.h"

#include <omp.h>

#include "tests/support/op_check.h"

namespace loraine::streams_test {
namespace {

constexpr int64_t kRows = 5, kColumns = 1037;

std::vector<Tensor> columns_of(std::vector<float>& all, int64_t streams, int64_t columns = kColumns) {
  std::vector<Tensor> out;
  for (int64_t i = 0; i < streams; ++i)
    out.push_back(Tensor(all.data(), Dtype::F32, {kRows, streams * columns}).col_range(i * columns, columns));
  return out;
}

// [T, m · C] from [T, n · C] and [T, m · n]
std::vector<double> mixed(const std::vector<double>& in, const std::vector<double>& factors, int64_t m, int64_t n, int64_t C) {
  std::vector<double> out(static_cast<size_t>(kRows * m * C));
  for (int64_t t = 0; t < kRows; ++t)
    for (int64_t j = 0; j < m; ++j)
      for (int64_t i = 0; i < n; ++i)
        for (int64_t c = 0; c < C; ++c)
          out[static_cast<size_t>((t * m + j) * C + c)] +=
              factors[static_cast<size_t>((t * m + j) * n + i)] * in[static_cast<size_t>((t * n + i) * C + c)];
  return out;
}

TEST(Streams, MixWithAMatrixPerRow) {
  const int64_t m = 3, n = 4;
  std::vector<float> in = random_floats(kRows * n * kColumns, 1), factors = random_floats(kRows * m * n, 2),
                     out(static_cast<size_t>(kRows * m * kColumns));
  const std::vector<double> want = mixed(doubles(in), doubles(factors), m, n, kColumns);
  Context ctx;
  const int threads = omp_get_max_threads();
  std::vector<float> first;
  for (const int count : {1, 3}) {
    omp_set_num_threads(count);
    mix_streams(ctx, columns_of(out, m), columns_of(in, n), matrix(factors, kRows, m * n));
    expect_near(out, want, 1e-6, "mixed");
    if (first.empty()) first = out;
    EXPECT_EQ(first, out);
  }
  omp_set_num_threads(threads);
  std::vector<bf16> narrow = to_bf16(in);
  std::vector<float> widened = to_floats(narrow);
  std::vector<Tensor> of_bf16;
  for (int64_t i = 0; i < n; ++i) of_bf16.push_back(matrix(narrow, kRows, n * kColumns).col_range(i * kColumns, kColumns));
  mix_streams(ctx, columns_of(out, m), of_bf16, matrix(factors, kRows, m * n));
  expect_near(out, mixed(doubles(widened), doubles(factors), m, n, kColumns), 1e-6, "mixed from bf16");
  mix_streams(ctx, std::span<const Tensor>(of_bf16).first(3), of_bf16, matrix(factors, kRows, m * n));
  const std::vector<float> in_place = to_floats(narrow);
  for (int64_t t = 0; t < kRows; ++t)
    for (int64_t c = 0; c < m * kColumns; ++c)
      EXPECT_EQ(in_place[static_cast<size_t>(t * n * kColumns + c)],
                bf16_to_f32(f32_to_bf16(out[static_cast<size_t>(t * m * kColumns + c)])));
}

TEST(Streams, GradientsOfMixing) {
  const int64_t m = 2, n = 3, C = 19;
  std::vector<float> in = random_floats(kRows * n * C, 3), factors = random_floats(kRows * m * n, 4),
                     d_out = random_floats(kRows * m * C, 5), d_in(in.size()), d_factors(factors.size(), 7.0f);
  Context ctx;
  mix_streams_backward(ctx, columns_of(d_in, n, C), columns_of(d_out, m, C), matrix(factors, kRows, m * n));
  mix_streams_factors(ctx, matrix(d_factors, kRows, m * n), columns_of(d_out, m, C), columns_of(in, n, C));
  std::vector<double> x = doubles(in), f = doubles(factors);
  const auto loss = [&] { return inner(mixed(x, f, m, n, C), d_out); };
  expect_near(d_in, central_differences(x, loss), 1e-6, "d_in");
  expect_near(d_factors, central_differences(f, loss), 1e-6, "d_factors");
}

TEST(Streams, RowsTakeTheSizeOfOthers) {
  const int64_t T = 4, C = 37;
  const float least = 1e-2f;
  std::vector<float> p = random_floats(T * C, 6), x = random_floats(T * C, 7, 3), d_y = random_floats(T * C, 8), y(p.size()), d_p(p.size()),
                     d_x(p.size(), 0.25f);
  for (int64_t c = 0; c < C; ++c) p[static_cast<size_t>(C + c)] *= 0.01f;  // below the least
  std::vector<double> from = doubles(p), like = doubles(x);
  const auto reference = [&] {
    std::vector<double> out(from.size());
    for (int64_t t = 0; t < T; ++t) {
      double a = 0, b = 0;
      for (int64_t c = 0; c < C; ++c) {
        const auto at = static_cast<size_t>(t * C + c);
        a += like[at] * like[at] / static_cast<double>(C), b += from[at] * from[at] / static_cast<double>(C);
      }
      for (int64_t c = 0; c < C; ++c)
        out[static_cast<size_t>(t * C + c)] = from[static_cast<size_t>(t * C + c)] * std::sqrt(a / std::max(b, double{least}));
    }
    return out;
  };
  Context ctx;
  match_size(ctx, matrix(y, T, C), matrix(p, T, C), matrix(x, T, C), least);
  expect_near(y, reference(), 1e-6, "sizes");
  match_size_backward(ctx, matrix(d_p, T, C), matrix(d_x, T, C), matrix(d_y, T, C), matrix(p, T, C), matrix(x, T, C), least);
  const auto loss = [&] { return inner(reference(), d_y); };
  expect_near(d_p, central_differences(from, loss, 1e-7), 1e-5, "d_p");
  std::vector<double> want = central_differences(like, loss);
  for (double& d : want) d += 0.25;
  expect_near(d_x, want, 1e-5, "d_x");
}

TEST(Streams, NothingTakesNoSizeFromZeros) {
  std::vector<float> p(6, 0), x(6, 0), y(6, 9), d_y(6, 1), d_p(6, 9), d_x(6, 0);
  Context ctx;
  match_size(ctx, matrix(y, 1, 6), matrix(p, 1, 6), matrix(x, 1, 6), 1e-5f);
  match_size_backward(ctx, matrix(d_p, 1, 6), matrix(d_x, 1, 6), matrix(d_y, 1, 6), matrix(p, 1, 6), matrix(x, 1, 6), 1e-5f);
  for (const std::vector<float>* all : {&y, &d_p, &d_x}) EXPECT_EQ(*all, std::vector<float>(6, 0));
}

}  // namespace
}  // namespace loraine::streams_test
