// Adapters over ranges of rows against sums in double; a row's bits whatever stands beside it; any number of threads, every instruction
// set of this machine.
#include "loraine/kernels/products/low_rank_rows.h"

#include <hwy/targets.h>
#include <omp.h>

#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::low_rank_rows_test {
namespace {

// One adapter: parts of ranks r over columns [0, 40) and [45, 45 + more) of y.
struct Matrices {
  std::vector<float> a, b0, b1;
  int64_t r0, r1, in, more;
  std::vector<LowRankPart> parts;
  Matrices(int64_t r0_, int64_t r1_, int64_t in_, int64_t more_, uint32_t seed)
      : a(random_floats((r0_ + r1_) * in_, seed)),
        b0(random_floats(40 * r0_, seed + 1)),
        b1(random_floats(more_ * r1_, seed + 2)),
        r0(r0_),
        r1(r1_),
        in(in_),
        more(more_) {
    parts = {{matrix(b0, 40, r0), 0, 0.5f}, {matrix(b1, more, r1), 45, 2.0f}};
  }
  LowRank views() { return {matrix(a, r0 + r1, in), parts}; }
  void add(std::vector<double>& y, int64_t columns, int64_t row, const float* x) const {
    for (int64_t j = 0; j < r0 + r1; ++j) {
      double p = 0;
      for (int64_t k = 0; k < in; ++k) p += static_cast<double>(a[static_cast<size_t>(j * in + k)]) * x[k];
      const bool first = j < r0;
      for (int64_t n = 0; n < (first ? 40 : more); ++n)
        y[static_cast<size_t>(row * columns + (first ? 0 : 45) + n)] +=
            (first ? 0.5 * b0[static_cast<size_t>(n * r0 + j)] : 2.0 * b1[static_cast<size_t>(n * r1 + j - r0)]) * p;
    }
  }
};

TEST(LowRankRows, EqualTheSumInDouble) {
  Context ctx;
  for (int64_t target = hwy::SupportedTargets(), left = target; left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (int64_t in : {5, 64, 601}) {
      Matrices one(8, 8, in, 37, 1), two(3, 17, in, 37, 4);
      const int64_t rows = 83, columns = 90, width = 24;
      std::vector<float> x = random_floats(rows * in, 7), y = random_floats(rows * columns, 8);
      std::vector<double> want = doubles(y);
      for (int64_t t = 2; t < 72; ++t) one.add(want, columns, t, x.data() + t * in);
      for (int64_t t : {72, 73, 82}) two.add(want, columns, t, x.data() + t * in);
      std::vector<float> saved(static_cast<size_t>(rows * width));
      const LowRankRange ranges[] = {{two.views(), 72, 2}, {one.views(), 2, 70}, {two.views(), 82, 1}};
      low_rank_rows(ctx, matrix(y, rows, columns), matrix(x, rows, in), matrix(saved, rows, width), ranges);
      expect_near(y, want, 3e-6, "y");  // rows and columns outside too: they must be untouched
    }
  }
  hwy::SetSupportedTargetsForTest(0);
}

// All rows in one range against each row by itself, in both types and at sizes that all threads share.
TEST(LowRankRows, GiveEachRowTheBitsItHasAlone) {
  Context ctx;
  const int threads = omp_get_max_threads();
  for (Dtype dtype : {Dtype::F32, Dtype::BF16})
    for (int64_t in : {33, 4099}) {
      Matrices m(8, 60, in, 9000, 1);
      const int64_t rows = 37, columns = 9100, width = 70;
      std::vector<float> x = random_floats(rows * in, 7), y = random_floats(rows * columns, 8);
      std::vector<bf16> x16 = to_bf16(x), y16 = to_bf16(y);
      auto run = [&](bool together, int n) {
        omp_set_num_threads(n);
        std::vector<float> out = y, saved(static_cast<size_t>(rows * width));
        std::vector<bf16> out16 = y16, saved16(saved.size());
        const bool wide = dtype == Dtype::F32;
        const Tensor ty = wide ? matrix(out, rows, columns) : matrix(out16, rows, columns),
                     tx = wide ? matrix(x, rows, in) : matrix(x16, rows, in),
                     kept = wide ? matrix(saved, rows, width) : matrix(saved16, rows, width);
        std::vector<LowRankRange> ranges = {{m.views(), 0, rows}};
        if (together) low_rank_rows(ctx, ty, tx, kept, ranges);
        else
          for (ranges[0].length = 1; ranges[0].start < rows; ++ranges[0].start) low_rank_rows(ctx, ty, tx, kept, ranges);
        if (!wide) out = to_floats(out16), saved = to_floats(saved16);
        out.insert(out.end(), saved.begin(), saved.end());
        return out;
      };
      const std::vector<float> want = run(true, 1);
      EXPECT_EQ(want, run(false, 1));
      EXPECT_EQ(want, run(true, 3));
      EXPECT_EQ(want, run(false, 3));
      omp_set_num_threads(threads);
    }
}

TEST(LowRankRows, WrongShapesAreNamed) {
  Context ctx;
  Matrices m(4, 4, 16, 10, 1);
  std::vector<float> x(3 * 16), y(3 * 55), saved(3 * 8);
  auto run = [&](int64_t start, int64_t columns) {
    const LowRankRange range{m.views(), start, 2};
    low_rank_rows(ctx, matrix(y, 3, 55).col_range(0, columns), matrix(x, 3, 16), matrix(saved, 3, 8), std::span(&range, 1));
  };
  run(1, 55);
  EXPECT_THROW(run(2, 55), Error);
  EXPECT_THROW(run(0, 54), Error);
}

}  // namespace
}  // namespace loraine::low_rank_rows_test
