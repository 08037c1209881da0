// Matrix products against sums in double: every dtype, shape class (decode, small rank, tile edges), strides, alpha and beta, any thread
// count.
#include "loraine/kernels/products/matmul.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"
#include "tests/support/sanitized.h"

namespace loraine::matmul_test {
namespace {

enum class Form { nt, nn, tn };

struct Case {
  int64_t M, N, K;
  float alpha = 1, beta = 0;
  int64_t pad = 0;  // extra columns in every row
};

std::vector<float> widened(const std::vector<float>& x, Dtype dtype, std::vector<uint16_t>& narrow) {
  narrow.resize(x.size());
  std::vector<float> back(x.size());
  convert(narrow.data(), dtype, x.data(), Dtype::F32, static_cast<int64_t>(x.size()));
  convert(back.data(), Dtype::F32, narrow.data(), dtype, static_cast<int64_t>(x.size()));
  return back;
}

// x_type: of x and y
std::vector<float> run(Form form, const Case& c, Dtype dtype, double tolerance, Dtype x_type = Dtype::F32) {
  int64_t xr = form == Form::tn ? c.K : c.M, xc = form == Form::tn ? c.M : c.K;
  int64_t wr = form == Form::nt ? c.N : c.K, wc = form == Form::nt ? c.K : c.N;
  std::vector<float> x = random_floats(xr * (xc + c.pad), 1), w = random_floats(wr * (wc + c.pad), 2),
                     y = random_floats(c.M * (c.N + c.pad), 3);
  std::vector<uint16_t> narrow;
  if (dtype != Dtype::F32) w = widened(w, dtype, narrow);
  std::vector<bf16> x16 = to_bf16(x), y16 = to_bf16(y);
  if (x_type == Dtype::BF16) x = to_floats(x16), y = to_floats(y16);
  std::vector<double> want = doubles(y);
  int64_t lx = xc + c.pad, lw = wc + c.pad, ly = c.N + c.pad;
  for (int64_t m = 0; m < c.M; ++m) {
    for (int64_t n = 0; n < c.N; ++n) {
      double sum = 0;
      for (int64_t k = 0; k < c.K; ++k) {
        double a = form == Form::tn ? x[static_cast<size_t>(k * lx + m)] : x[static_cast<size_t>(m * lx + k)];
        double b = form == Form::nt ? w[static_cast<size_t>(n * lw + k)] : w[static_cast<size_t>(k * lw + n)];
        sum += a * b;
      }
      double& out = want[static_cast<size_t>(m * ly + n)];
      out = c.alpha * sum + (c.beta == 0 ? 0 : c.beta * out);
    }
  }
  Context ctx;
  const bool wide = x_type == Dtype::F32;
  Tensor ty = (wide ? matrix(y, c.M, ly) : matrix(y16, c.M, ly)).col_range(0, c.N),
         tx = (wide ? matrix(x, xr, lx) : matrix(x16, xr, lx)).col_range(0, xc);
  Tensor tw(dtype == Dtype::F32 ? static_cast<void*>(w.data()) : narrow.data(), dtype, {wr, lw});
  tw = tw.col_range(0, wc);
  if (form == Form::nt) matmul_nt(ctx, ty, tx, tw, c.alpha, c.beta);
  if (form == Form::nn) matmul_nn(ctx, ty, tx, tw, c.alpha, c.beta);
  if (form == Form::tn) matmul_tn(ctx, ty, tx, tw, c.alpha, c.beta);
  if (!wide) y = to_floats(y16);
  expect_near(y, want, tolerance, "y");  // the padding columns too: they must be untouched
  return y;
}

const Case kCases[] = {{1, 1, 1},
                       {1, 100, 64},
                       {2, 300, 77, 0.5f, 1},
                       {3, 65, 576, 2, 0, 3},
                       {4, 33, 19, 1, 1, 5},
                       {5, 49, 31},
                       {300, 16, 200},
                       {130, 200, 8, 2, 1},
                       {64, 8, 300},
                       {256, 192, 64, 0.75f, 1, 8},
                       {320, 64, 128, 1, 0, 64},
                       {17, 193, 64, 1, 0.5f, 2},
                       {257, 385, 60, 1, 1},
                       {1, 5, 2000, -1, 1},
                       {4, 700, 1030},
                       {70, 3, 5},
                       {1, 70, 5}};

TEST(Matmul, EqualsTheSumInDouble) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.M << " x " << c.N << " x " << c.K);
    for (Dtype dtype : {Dtype::F32, Dtype::BF16, Dtype::F16}) {
      run(Form::nt, c, dtype, 2e-6);
      run(Form::nn, c, dtype, 2e-6);
    }
    for (Dtype dtype : {Dtype::F32, Dtype::BF16}) run(Form::tn, c, dtype, 2e-6);
  }
}

TEST(Matmul, PartsEqualSingleProducts) {
  Context ctx;
  for (int64_t M : {1, 3, 4, 70, 300}) {
    std::vector<float> x = random_floats(M * 75, 1), a = random_floats(40 * 75, 2), b = random_floats(7 * 75, 3),
                       y(static_cast<size_t>(M * 47));
    std::vector<bf16> narrow(b.size());
    convert(narrow.data(), Dtype::BF16, b.data(), Dtype::F32, static_cast<int64_t>(b.size()));
    Tensor parts[] = {matrix(a, 40, 75), Tensor(narrow.data(), Dtype::BF16, {7, 75})};
    matmul_nt_parts(ctx, matrix(y, M, 47), matrix(x, M, 75), parts);
    std::vector<float> want(y.size(), 1.0f);
    matmul_nt(ctx, matrix(want, M, 47).col_range(0, 40), matrix(x, M, 75), parts[0]);
    matmul_nt(ctx, matrix(want, M, 47).col_range(40, 7), matrix(x, M, 75), parts[1]);
    EXPECT_EQ(y, want);
    std::vector<float> d_x(static_cast<size_t>(M * 75), 2.0f), both(d_x.size());
    for (float beta : {0.0f, 1.0f}) {
      matmul_nn_parts(ctx, matrix(d_x, M, 75), matrix(y, M, 47), parts, beta);
      matmul_nn(ctx, matrix(both, M, 75), matrix(y, M, 47).col_range(0, 40), parts[0], 1, beta);
      matmul_nn(ctx, matrix(both, M, 75), matrix(y, M, 47).col_range(40, 7), parts[1], 1, 1);
      EXPECT_EQ(d_x, both);
    }
  }
}

TEST(Matmul, LongSumsIntoFewTiles) {
  const int64_t M = 5, N = 24, K = 16500;
  std::vector<float> x = random_floats(M * K, 1), turned(x.size()), w = random_floats(K * N, 2), y = random_floats(M * N, 3), y_t = y;
  for (int64_t m = 0; m < M; ++m)
    for (int64_t k = 0; k < K; ++k) turned[static_cast<size_t>(k * M + m)] = x[static_cast<size_t>(m * K + k)];
  std::vector<double> want;
  for (int64_t m = 0; m < M; ++m)
    for (int64_t n = 0; n < N; ++n) {
      double sum = y[static_cast<size_t>(m * N + n)];
      for (int64_t k = 0; k < K; ++k)
        sum += 0.5 * static_cast<double>(x[static_cast<size_t>(m * K + k)]) * w[static_cast<size_t>(k * N + n)];
      want.push_back(sum);
    }
  Context ctx;
  matmul_nn(ctx, matrix(y, M, N), matrix(x, M, K), matrix(w, K, N), 0.5f, 1);
  expect_near(y, want, 2e-6, "nn");
  matmul_tn(ctx, matrix(y_t, M, N), matrix(turned, K, M), matrix(w, K, N), 0.5f, 1);
  expect_near(y_t, want, 2e-6, "tn");
}

TEST(Matmul, BfloatActivationsStayWithinTheirPrecision) {
  for (const Case& c : kCases) {
    SCOPED_TRACE(::testing::Message() << c.M << " x " << c.N << " x " << c.K);
    for (Dtype dtype : {Dtype::F32, Dtype::BF16, Dtype::F16})  // rounding w, then y
      for (Form form : {Form::nt, Form::nn, Form::tn}) run(form, c, dtype, 8e-3, Dtype::BF16);
  }
}

TEST(Matmul, DoesNotDependOnTheNumberOfThreads) {
  int threads = omp_get_max_threads();
  for (const Case& c : {Case{300, 400, kSanitized ? 200 : 700}, Case{2, 900, 700}, Case{64, 16, 700}}) {
    for (Form form : {Form::nt, Form::nn, Form::tn}) {
      omp_set_num_threads(1);
      for (Dtype type : {Dtype::F32, Dtype::BF16}) {
        omp_set_num_threads(1);
        std::vector<float> one = run(form, c, type, 8e-3, type);
        omp_set_num_threads(3);
        std::vector<float> three = run(form, c, type, 8e-3, type);
        omp_set_num_threads(threads);
        EXPECT_EQ(one, three);
      }
    }
  }
}

TEST(Matmul, EmptyAndWrongShapes) {
  Context ctx;
  std::vector<float> a(12), b(12), y(9);
  matmul_nt(ctx, Tensor(y.data(), Dtype::F32, {0, 3}), Tensor(a.data(), Dtype::F32, {0, 4}), matrix(b, 3, 4));
  EXPECT_THROW(matmul_nt(ctx, matrix(y, 3, 3), matrix(a, 3, 4), matrix(b, 4, 3)), Error);
  ctx.device = Device::cuda;
  try {
    matmul_nt(ctx, matrix(y, 3, 3), matrix(a, 3, 4), matrix(b, 3, 4));
    FAIL() << "cuda is not in this build";
  } catch (const Error& e) {
    EXPECT_EQ(e.kind, ErrorKind::unsupported);
    EXPECT_NE(std::string(e.what()).find("matmul_nt"), std::string::npos);
  }
}

}  // namespace
}  // namespace loraine::matmul_test
