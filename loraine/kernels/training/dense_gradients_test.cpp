// Gradients of dense tensors against central differences of the ops they belong to, in double.
#include "loraine/kernels/training/dense_gradients.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::dense_gradients_test {
namespace {

TEST(DenseGradients, NormWeight) {
  for (auto [T, C] : {std::pair<int64_t, int64_t>{5, 33}, {1, 1}, {40, 130}}) {
    std::vector<float> x = random_floats(T * C, 1), r = random_floats(T * C, 2), w = random_floats(C, 3), rstd = random_floats(T, 4);
    std::vector<float> d_w(static_cast<size_t>(C), 0.5f);
    std::vector<double> weight = doubles(w),
                        want = central_differences(weight, [&, T = T, C = C] {
                          std::vector<double> y(x.size());
                          for (int64_t t = 0; t < T; ++t)
                            for (int64_t c = 0; c < C; ++c) {
                              const size_t i = static_cast<size_t>(t * C + c);
                              y[i] = static_cast<double>(x[i]) * rstd[static_cast<size_t>(t)] * weight[static_cast<size_t>(c)];
                            }
                          return inner(y, r);
                        });
    for (double& v : want) v += 0.5;  // the gradient is added to what is there
    Context ctx;
    const Tensor d(d_w.data(), Dtype::F32, {C}), s(rstd.data(), Dtype::F32, {T});
    norm_weight_gradient(ctx, d, matrix(r, T, C), matrix(x, T, C), s);
    expect_near(d_w, want, 1e-5, "d_weight");
    std::vector<bf16> x16 = to_bf16(x), r16 = to_bf16(r);
    std::vector<float> xr = to_floats(x16), rr = to_floats(r16), narrow(static_cast<size_t>(C)), wide(static_cast<size_t>(C));
    norm_weight_gradient(ctx, Tensor(narrow.data(), Dtype::F32, {C}), matrix(r16, T, C), matrix(x16, T, C), s);
    norm_weight_gradient(ctx, Tensor(wide.data(), Dtype::F32, {C}), matrix(rr, T, C), matrix(xr, T, C), s);
    EXPECT_EQ(narrow, wide);
  }
}

TEST(DenseGradients, Bias) {
  const int64_t T = 37, C = 70;
  std::vector<float> wide = random_floats(T * 2 * C, 1), d_bias(C, 2.0f);
  const Tensor d_y = matrix(wide, T, 2 * C).col_range(C, C);  // rows may be strided
  std::vector<double> want(C, 2.0);
  for (int64_t t = 0; t < T; ++t)
    for (int64_t c = 0; c < C; ++c) want[static_cast<size_t>(c)] += wide[static_cast<size_t>(t * 2 * C + C + c)];
  Context ctx;
  bias_gradient(ctx, Tensor(d_bias.data(), Dtype::F32, {C}), d_y);
  expect_near(d_bias, want, 1e-6, "d_bias");
  EXPECT_THROW(bias_gradient(ctx, Tensor(d_bias.data(), Dtype::F32, {C - 1}), d_y), Error);
}

TEST(DenseGradients, LayerNormWeight) {
  const int64_t T = 40, C = 130;
  std::vector<float> x = random_floats(T * C, 1), r = random_floats(T * C, 2), w = random_floats(C, 3), figures = random_floats(T * 2, 4);
  std::vector<double> weight = doubles(w), want = central_differences(weight, [&] {
                                             std::vector<double> y(x.size());
                                             for (size_t i = 0; i < y.size(); ++i) {
                                               const size_t t = i / C;
                                               y[i] = (static_cast<double>(x[i]) - figures[2 * t]) * figures[2 * t + 1] * weight[i % C];
                                             }
                                             return inner(y, r);
                                           });
  for (double& v : want) v += 0.5;
  std::vector<float> d_w(C, 0.5f), narrow(C), wide(C);
  Context ctx;
  const Tensor mean = matrix(figures, T, 2).col_range(0, 1), rstd = matrix(figures, T, 2).col_range(1, 1);  // they may be strided
  layer_norm_weight_gradient(ctx, Tensor(d_w.data(), Dtype::F32, {C}), matrix(r, T, C), matrix(x, T, C), mean, rstd);
  expect_near(d_w, want, 1e-5, "d_weight");
  std::vector<bf16> x16 = to_bf16(x), r16 = to_bf16(r);
  std::vector<float> xr = to_floats(x16), rr = to_floats(r16);
  layer_norm_weight_gradient(ctx, Tensor(narrow.data(), Dtype::F32, {C}), matrix(r16, T, C), matrix(x16, T, C), mean, rstd);
  layer_norm_weight_gradient(ctx, Tensor(wide.data(), Dtype::F32, {C}), matrix(rr, T, C), matrix(xr, T, C), mean, rstd);
  EXPECT_EQ(narrow, wide);
}

TEST(DenseGradients, EmbeddingAddsRepeatedTokens) {
  const int64_t T = 9, C = 70, V = 5;
  const std::vector<int32_t> tokens = {0, 4, 4, 2, 0, 4, 1, 1, 4};
  std::vector<float> d_y = random_floats(T * C, 1), d_table(static_cast<size_t>(V * C)), r = d_y;
  std::vector<double> table(static_cast<size_t>(V * C)), want = central_differences(table, [&] {
                                                           std::vector<double> y;
                                                           for (int32_t token : tokens)
                                                             for (int64_t c = 0; c < C; ++c)
                                                               y.push_back(table[static_cast<size_t>(token * C + c)]);
                                                           return inner(y, r);
                                                         });
  Context ctx;
  embedding_gradient(ctx, matrix(d_table, V, C), matrix(d_y, T, C), tokens);
  expect_near(d_table, want, 1e-6, "d_table");
  const std::vector<int32_t> outside(static_cast<size_t>(T), 5);
  EXPECT_THROW(embedding_gradient(ctx, matrix(d_table, V, C), matrix(d_y, T, C), outside), Error);
}

TEST(DenseGradients, ColumnLookup) {
  const int64_t T = 6, R = 3, V = 7;
  const std::vector<int32_t> tokens = {6, 0, 6, 3, 3, 3};
  std::vector<float> a = random_floats(R * V, 1), r = random_floats(T * R, 2), y(static_cast<size_t>(T * R)),
                     d_a(static_cast<size_t>(R * V));
  std::vector<double> table = doubles(a);
  const auto reference = [&] {
    std::vector<double> out;
    for (int32_t token : tokens)
      for (int64_t i = 0; i < R; ++i) out.push_back(table[static_cast<size_t>(i * V + token)]);
    return out;
  };
  Context ctx;
  column_lookup(ctx, matrix(y, T, R), matrix(a, R, V), tokens);
  expect_near(y, reference(), 0, "y");
  column_lookup_backward(ctx, matrix(d_a, R, V), matrix(r, T, R), tokens);
  expect_near(d_a, central_differences(table, [&] { return inner(reference(), r); }), 1e-6, "d_table");
}

TEST(DenseGradients, NumberOfThreadsDoesNotMatter) {
  const int64_t T = 501, C = 300;
  std::vector<float> x = random_floats(T * C, 1), g = random_floats(T * C, 2), rstd = random_floats(T, 3);
  std::vector<std::vector<float>> found;
  const int before = omp_get_max_threads();
  for (int threads : {1, 3}) {
    omp_set_num_threads(threads);
    Context ctx;
    std::vector<float> d(C);
    norm_weight_gradient(ctx, Tensor(d.data(), Dtype::F32, {C}), matrix(g, T, C), matrix(x, T, C), Tensor(rstd.data(), Dtype::F32, {T}));
    bias_gradient(ctx, Tensor(d.data(), Dtype::F32, {C}), matrix(g, T, C));
    const Tensor s(rstd.data(), Dtype::F32, {T});
    layer_norm_weight_gradient(ctx, Tensor(d.data(), Dtype::F32, {C}), matrix(g, T, C), matrix(x, T, C), s, s);
    found.push_back(d);
  }
  omp_set_num_threads(before);
  EXPECT_EQ(found[0], found[1]);
}

}  // namespace
}  // namespace loraine::dense_gradients_test
