// Gathering and combining rows against sums in double, gradients by central differences of those; bf16, in place, any number of threads.
#include "loraine/kernels/experts/combine.h"

#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/expert_rows.h"
#include "tests/support/op_check.h"

namespace loraine::combine_test {
namespace {

constexpr int64_t kT = 37, kK = 3, kE = 6, kC = 45, kRows = kT * kK;

std::vector<double> gathered(const ChosenRows& rows, const std::vector<double>& x, const std::vector<double>& weights) {
  std::vector<double> out(static_cast<size_t>(kRows * kC));
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t c = 0; c < kC; ++c)
      out[static_cast<size_t>(rows.places()[i] * kC + c)] = weights[static_cast<size_t>(i)] * x[static_cast<size_t>(i / kK * kC + c)];
  return out;
}
std::vector<double> combined(const ChosenRows& rows, const std::vector<double>& r, const std::vector<double>& weights) {
  std::vector<double> out(static_cast<size_t>(kT * kC));
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t c = 0; c < kC; ++c)
      out[static_cast<size_t>(i / kK * kC + c)] += weights[static_cast<size_t>(i)] * r[static_cast<size_t>(rows.places()[i] * kC + c)];
  return out;
}

TEST(GatherTokens, ForwardAndBackward) {
  const ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> x = random_floats(kT * kC, 2), w = random_floats(kRows, 3), d_rows = random_floats(kRows * kC, 4);
  std::vector<double> xd = doubles(x), wd = doubles(w);
  const std::vector<double> ones(w.size(), 1);
  const Tensor tx = matrix(x, kT, kC), tw = matrix(w, kT, kK), td = matrix(d_rows, kRows, kC);
  Context ctx;
  for (bool weighted : {false, true}) {
    const std::vector<double>& by = weighted ? wd : ones;
    std::vector<float> out(d_rows.size()), d_x(x.size(), 1), d_w(w.size());
    gather_tokens(ctx, matrix(out, kRows, kC), tx, rows.order, weighted ? &tw : nullptr);
    expect_near(out, gathered(rows, xd, by), 1e-7, "rows");
    auto loss = [&] { return inner(gathered(rows, xd, by), d_rows); };
    std::vector<double> want = central_differences(xd, loss, 1e-3);
    for (bool accumulate : {false, true}) {
      if (weighted) gather_tokens_backward(ctx, matrix(d_x, kT, kC), matrix(d_w, kT, kK), td, tx, rows.order, tw, accumulate);
      else gather_tokens_backward(ctx, matrix(d_x, kT, kC), td, rows.order, accumulate);
      expect_near(d_x, want, 1e-6, "d_x");
      for (double& v : want) v *= 2;
    }
    if (weighted) expect_near(d_w, central_differences(wd, loss, 1e-3), 1e-6, "d_weights");
  }
}

TEST(CombineExperts, ForwardAndBackward) {
  const ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> r = random_floats(kRows * kC, 2), w = random_floats(kRows, 3), d_y = random_floats(kT * kC, 4);
  std::vector<double> rd = doubles(r), wd = doubles(w);
  const Tensor tr = matrix(r, kRows, kC), tw = matrix(w, kT, kK), td = matrix(d_y, kT, kC);
  Context ctx;
  std::vector<float> y(d_y.size(), 1);
  std::vector<double> want = combined(rows, rd, wd);
  for (bool accumulate : {false, true}) {
    combine_experts(ctx, matrix(y, kT, kC), tr, rows.order, &tw, accumulate);
    expect_near(y, want, 1e-6, "y");
    for (double& v : want) v *= 2;
  }
  combine_experts(ctx, matrix(y, kT, kC), tr, rows.order, nullptr, false);
  expect_near(y, combined(rows, rd, std::vector<double>(w.size(), 1)), 1e-6, "y without weights");
  auto loss = [&] { return inner(combined(rows, rd, wd), d_y); };
  std::vector<float> d_rows(r.size()), d_w(w.size());
  combine_experts_backward(ctx, matrix(d_rows, kRows, kC), matrix(d_w, kT, kK), td, tr, rows.order, tw);
  expect_near(d_rows, central_differences(rd, loss, 1e-3), 1e-6, "d_rows");
  expect_near(d_w, central_differences(wd, loss, 1e-3), 1e-6, "d_weights");
  std::vector<float> again(w.size());
  combine_experts_backward(ctx, tr, matrix(again, kT, kK), td, tr, rows.order, tw);
  EXPECT_EQ(r, d_rows);
  EXPECT_EQ(again, d_w);
}

TEST(CombineExperts, BfloatIsOneRoundingAndThreadsChangeNothing) {
  const ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> x = random_floats(kT * kC, 2), w = random_floats(kRows, 3);
  std::vector<bf16> x16 = to_bf16(x);
  x = to_floats(x16);
  const Tensor tw = matrix(w, kT, kK);
  Context ctx;
  const int threads = omp_get_max_threads();
  std::vector<float> first;
  for (int n : {1, 2, 3}) {
    omp_set_num_threads(n);
    std::vector<bf16> out16(static_cast<size_t>(kRows * kC)), y16(x.size());
    std::vector<float> out(out16.size()), y(x.size()), d_w(w.size()), d_w16(w.size());
    gather_tokens(ctx, matrix(out16, kRows, kC), matrix(x16, kT, kC), rows.order, &tw);
    gather_tokens(ctx, matrix(out, kRows, kC), matrix(x, kT, kC), rows.order, &tw);
    EXPECT_EQ(out16, to_bf16(out));
    out = to_floats(out16);
    combine_experts(ctx, matrix(y16, kT, kC), matrix(out16, kRows, kC), rows.order, &tw, false);
    combine_experts(ctx, matrix(y, kT, kC), matrix(out, kRows, kC), rows.order, &tw, false);
    EXPECT_EQ(y16, to_bf16(y));
    combine_experts_backward(ctx, matrix(out, kRows, kC), matrix(d_w, kT, kK), matrix(x, kT, kC), matrix(out, kRows, kC), rows.order, tw);
    combine_experts_backward(ctx, matrix(out16, kRows, kC), matrix(d_w16, kT, kK), matrix(x16, kT, kC), matrix(out16, kRows, kC),
                             rows.order, tw);
    EXPECT_EQ(out16, to_bf16(out));
    expect_near(d_w16, d_w, 1e-6, "d_weights");  // the order of sums is that of the type
    std::vector<float> all = y;
    all.insert(all.end(), out.begin(), out.end());
    all.insert(all.end(), d_w16.begin(), d_w16.end());
    if (n == 1) first = all;
    EXPECT_EQ(all, first);
  }
  omp_set_num_threads(threads);
}

std::vector<double> weighed(const ChosenRows& rows, const std::vector<double>& r, const std::vector<double>& weights) {
  std::vector<double> out(r.size());
  for (int64_t i = 0; i < kRows; ++i)
    for (int64_t c = 0; c < kC; ++c) {
      const size_t at = static_cast<size_t>(rows.places()[i] * kC + c);
      out[at] = weights[static_cast<size_t>(i)] * r[at];
    }
  return out;
}

TEST(WeighRows, ForwardAndBackward) {
  const ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> r = random_floats(kRows * kC, 2), w = random_floats(kRows, 3), d_out = random_floats(kRows * kC, 4), out(r.size()),
                     d_w(w.size());
  std::vector<double> rd = doubles(r), wd = doubles(w);
  const Tensor tr = matrix(r, kRows, kC), tw = matrix(w, kT, kK), td = matrix(d_out, kRows, kC);
  Context ctx;
  weigh_rows(ctx, matrix(out, kRows, kC), tr, rows.order, tw);
  expect_near(out, weighed(rows, rd, wd), 1e-7, "rows");
  auto loss = [&] { return inner(weighed(rows, rd, wd), d_out); };
  const std::vector<double> want_rows = central_differences(rd, loss, 1e-3), want_w = central_differences(wd, loss, 1e-3);
  weigh_rows_backward(ctx, td, matrix(d_w, kT, kK), td, tr, rows.order, tw);  // in place
  expect_near(d_out, want_rows, 1e-6, "d_rows");
  expect_near(d_w, want_w, 1e-6, "d_weights");
  weigh_rows(ctx, tr, tr, rows.order, tw);
  EXPECT_EQ(r, out);
}

TEST(WeighRows, BfloatIsOneRoundingAndThreadsChangeNothing) {
  const ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> w = random_floats(kRows, 3);
  const std::vector<bf16> r16 = to_bf16(random_floats(kRows * kC, 2)), d16 = to_bf16(random_floats(kRows * kC, 4));
  std::vector<bf16> in16 = r16;
  std::vector<float> r = to_floats(r16);
  const Tensor tw = matrix(w, kT, kK);
  Context ctx;
  const int threads = omp_get_max_threads();
  std::vector<float> first;
  for (int n : {1, 2, 3}) {
    omp_set_num_threads(n);
    std::vector<bf16> out16(r.size()), d_out16 = d16;
    std::vector<float> out(r.size()), d_out = to_floats(d16), d_w(w.size()), d_w16(w.size());
    weigh_rows(ctx, matrix(out16, kRows, kC), matrix(in16, kRows, kC), rows.order, tw);
    weigh_rows(ctx, matrix(out, kRows, kC), matrix(r, kRows, kC), rows.order, tw);
    EXPECT_EQ(out16, to_bf16(out));
    weigh_rows_backward(ctx, matrix(d_out16, kRows, kC), matrix(d_w16, kT, kK), matrix(d_out16, kRows, kC), matrix(in16, kRows, kC),
                        rows.order, tw);
    weigh_rows_backward(ctx, matrix(d_out, kRows, kC), matrix(d_w, kT, kK), matrix(d_out, kRows, kC), matrix(r, kRows, kC), rows.order, tw);
    EXPECT_EQ(d_out16, to_bf16(d_out));
    expect_near(d_w16, d_w, 1e-6, "d_weights");
    std::vector<float> all = out;
    for (const auto* part : {&d_out, &d_w, &d_w16}) all.insert(all.end(), part->begin(), part->end());
    if (n == 1) first = all;
    EXPECT_EQ(all, first);
  }
  omp_set_num_threads(threads);
}

TEST(WeightedBiases, ForwardAndBackward) {
  ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> w = random_floats(kRows, 3), biases = random_floats(kE * kC, 5), d_y = random_floats(kT * kC, 4), y(d_y.size(), 1),
                     d_w(w.size(), 1);
  std::vector<double> wd = doubles(w);
  const Tensor tw = matrix(w, kT, kK), tb = matrix(biases, kE, kC), chosen(rows.chosen.data(), Dtype::I32, {kT, kK});
  auto reference = [&] {
    std::vector<double> out(y.size());
    for (int64_t i = 0; i < kRows; ++i)
      for (int64_t c = 0; c < kC; ++c)
        out[static_cast<size_t>(i / kK * kC + c)] +=
            wd[static_cast<size_t>(i)] * static_cast<double>(biases[static_cast<size_t>(rows.chosen[static_cast<size_t>(i)] * kC + c)]);
    return out;
  };
  Context ctx;
  add_weighted_biases(ctx, matrix(y, kT, kC), tb, chosen, tw);
  std::vector<double> want = reference();
  for (double& v : want) v += 1;
  expect_near(y, want, 1e-6, "y");
  std::vector<double> want_w = central_differences(
      wd, [&] { return inner(reference(), d_y); }, 1e-3);
  for (double& v : want_w) v += 1;  // gradients are added
  add_weighted_biases_backward(ctx, matrix(d_w, kT, kK), matrix(d_y, kT, kC), tb, chosen);
  expect_near(d_w, want_w, 1e-6, "d_weights");
}

TEST(CombineExperts, WrongShapesAreNamed) {
  const ChosenRows rows(kT, kK, kE, 1);
  std::vector<float> y(kT * kC), r(kRows * kC), w(kRows);
  Context ctx;
  EXPECT_THROW(combine_experts(ctx, matrix(y, kT, kC), matrix(r, kRows, kC).row_range(1, kRows - 1), rows.order, nullptr, false), Error);
  const Tensor narrow = matrix(w, kRows, 1);
  EXPECT_THROW(gather_tokens(ctx, matrix(r, kRows, kC), matrix(y, kT, kC), rows.order, &narrow), Error);
}

}  // namespace
}  // namespace loraine::combine_test
