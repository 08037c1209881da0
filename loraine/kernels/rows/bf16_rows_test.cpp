// Ops that go row by row give on BF16 activations what they give in F32 on the same values, rounded once.
#include "loraine/kernels/activations/swiglu.h"
#include "loraine/kernels/attention/rope.h"
#include "loraine/kernels/norms/rms_norm.h"
#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/op_check.h"

namespace loraine::bf16_rows_test {
namespace {

constexpr int64_t kRows = 5, kCols = 72;

// A matrix of values that bf16 holds, in both types.
struct Both {
  std::vector<bf16> narrow;
  std::vector<float> wide;
  int64_t cols;
  explicit Both(uint32_t seed, int64_t cols_ = kCols)
      : narrow(to_bf16(random_floats(kRows * cols_, seed))), wide(to_floats(narrow)), cols(cols_) {}
  Tensor n() { return matrix(narrow, kRows, cols); }
  Tensor w() { return matrix(wide, kRows, cols); }
  void expect_rounded(const char* what) const { EXPECT_EQ(narrow, to_bf16(wide)) << what; }
};

TEST(Bf16Rows, EqualTheF32OnesRounded) {
  Context ctx;
  std::vector<float> weight = random_floats(kCols, 9), rstd(kRows), rstd16(kRows);
  const Tensor w(weight.data(), Dtype::F32, {kCols}), r(rstd.data(), Dtype::F32, {kRows}), r16(rstd16.data(), Dtype::F32, {kRows});
  Both x(1), y(2), d(3);
  rms_norm(ctx, y.w(), r, x.w(), w, 1e-5f);
  rms_norm(ctx, y.n(), r16, x.n(), w, 1e-5f);
  EXPECT_EQ(rstd, rstd16);
  y.expect_rounded("rms_norm");
  Both again(4);
  rms_norm_rebuild(ctx, again.n(), x.w(), r, w);  // mixed: the residual stream is F32
  EXPECT_EQ(again.narrow, y.narrow);
  for (bool accumulate : {false, true}) {
    Both d_x(5);
    rms_norm_backward(ctx, d_x.w(), d.w(), x.w(), r, w, accumulate);
    rms_norm_backward(ctx, d_x.n(), d.n(), x.n(), r, w, accumulate);
    d_x.expect_rounded("rms_norm_backward");
  }
  Both gate_up(6, 2 * kCols), h(7);
  swiglu(ctx, h.w(), gate_up.w());
  swiglu(ctx, h.n(), gate_up.n());
  h.expect_rounded("swiglu");
  swiglu_backward(ctx, gate_up.w(), d.w(), gate_up.w());
  swiglu_backward(ctx, gate_up.n(), d.n(), gate_up.n());
  gate_up.expect_rounded("swiglu_backward in place");
  const std::vector<int32_t> positions = {0, 3, 4, 100, 7};
  const std::vector<float> frequencies = {1, 0.5f, 0.1f, 0.01f};
  Both q(8);
  rope(ctx, q.w(), 8, positions, frequencies);
  rope(ctx, q.n(), 8, positions, frequencies);
  q.expect_rounded("rope");
  Both back(10);
  rope_backward(ctx, back.w(), 8, positions, frequencies);
  rope_backward(ctx, back.n(), 8, positions, frequencies);
  back.expect_rounded("rope_backward");
}

TEST(Bf16Rows, SumIsKeptAndItsRoundingWritten) {
  Context ctx;
  std::vector<float> sum = random_floats(kRows * kCols, 11), want = sum;
  Both x(12), rounded(13);
  for (size_t i = 0; i < want.size(); ++i) want[i] += x.wide[i];
  add_rounded(ctx, matrix(sum, kRows, kCols), rounded.n(), x.n());
  EXPECT_EQ(sum, want);
  EXPECT_EQ(rounded.narrow, to_bf16(want));
  for (size_t i = 0; i < want.size(); ++i) want[i] += x.wide[i];
  add_rounded(ctx, matrix(sum, kRows, kCols), rounded.w(), x.w());
  EXPECT_EQ(sum, want);
  EXPECT_EQ(rounded.wide, want);
}

TEST(Bf16Rows, SmallOps) {
  Context ctx;
  Both a(1), b(2), sum(3);
  add(ctx, sum.w(), a.w(), b.w());
  add(ctx, sum.n(), a.n(), b.n());
  sum.expect_rounded("add");
  Both in_place(1);
  add(ctx, in_place.w(), a.w(), b.w());
  add(ctx, in_place.w(), in_place.w(), b.n());
  Both other(1);
  add(ctx, other.n(), other.n(), b.w());
  EXPECT_EQ(other.narrow, sum.narrow);
  std::vector<float> bias = random_floats(kCols, 4);
  Both biased(5);
  add_bias(ctx, biased.w(), bias.data());
  add_bias(ctx, biased.n(), bias.data());
  biased.expect_rounded("add_bias");
  Both dropped(6);
  dropout(ctx, dropped.w(), a.w(), 0.3f, 11);
  dropout(ctx, dropped.n(), a.n(), 0.3f, 11);
  dropped.expect_rounded("dropout");
  std::vector<float> exact = random_floats(kRows * kCols, 7);
  Both converted(8);
  convert_rows(ctx, converted.n(), matrix(exact, kRows, kCols));
  EXPECT_EQ(converted.narrow, to_bf16(exact));
  convert_rows(ctx, converted.w(), converted.n());
  EXPECT_EQ(converted.wide, to_floats(converted.narrow));
  std::vector<float> copy(exact.size());
  convert_rows(ctx, matrix(copy, kRows, kCols), matrix(exact, kRows, kCols));
  EXPECT_EQ(copy, exact);
  const std::vector<int64_t> rows = {3, 0};
  std::vector<bf16> picked(2 * kCols);
  gather_rows(ctx, matrix(picked, 2, kCols), a.n(), rows);
  EXPECT_TRUE(std::equal(picked.begin(), picked.begin() + kCols, a.narrow.begin() + 3 * kCols));
  EXPECT_TRUE(std::equal(picked.begin() + kCols, picked.end(), a.narrow.begin()));
  const std::vector<int32_t> tokens = {4, 1, 1, 0, 2};
  Both embedded(9);
  embedding(ctx, embedded.n(), b.n(), tokens);
  EXPECT_TRUE(std::equal(embedded.narrow.begin(), embedded.narrow.begin() + kCols, b.narrow.begin() + 4 * kCols));
}

}  // namespace
}  // namespace loraine::bf16_rows_test
