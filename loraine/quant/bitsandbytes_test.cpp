// Codes and scales by hand, their way back, and products with quantised weights against those with the dequantised matrix on every
// instruction set. That they equal bitsandbytes' own: model/bitsandbytes_golden_test.cpp.
#include "loraine/quant/bitsandbytes.h"

#include <hwy/targets.h>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/kernels/products/dot_tiles.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/packed_rows.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/op_check.h"

namespace loraine::bitsandbytes_test {
namespace {

struct Case {
  Quantisation how;
  Dtype values;
};
std::vector<Case> all_cases() {
  std::vector<Case> all;
  for (Dtype values : {Dtype::F32, Dtype::BF16, Dtype::F16})
    for (Quantisation how :
         {Quantisation{Dtype::NF4, true}, {Dtype::NF4, false}, {Dtype::FP4, true}, {Dtype::FP4, false}, {Dtype::INT8, false}})
      all.push_back({how, values});
  return all;
}
std::string text(const Case& c) { return std::string(name_of(c.how.type)) + (c.how.nested ? " nested " : " ") + name_of(c.values); }

struct Quantised {
  std::vector<float> floats, values;
  QuantisedWeight weight;
  Tensor packed, wide;
  Quantised(const Case& c, int64_t rows, int64_t cols)
      : floats(random_floats(rows * cols, 7)), values(floats.size()), weight(quantise(matrix(floats, rows, cols), c.how, c.values)) {
    packed = weight.weight;
    unpack(values.data(), packed);
    wide = matrix(values, rows, cols);
  }
};

TEST(Bitsandbytes, CodesByHand) {
  std::vector<float> x(64, 0.0f);
  x[0] = -2, x[1] = 2, x[2] = 0.16f, x[3] = 1;  // of the largest: -1, 1, 0.08, 0.5
  const QuantisedWeight nf4 = quantise(matrix(x, 1, 64), {Dtype::NF4, false}, Dtype::F32);
  const auto* codes = static_cast<const uint8_t*>(nf4.state->codes);
  EXPECT_EQ(codes[0], 0x0f);
  EXPECT_EQ(codes[1], 0x8c);
  EXPECT_EQ(codes[2], 0x77);
  EXPECT_EQ(nf4.state->absmax[0], 2.0f);
  EXPECT_EQ(dynamic_map()[127], 0.0f);
  EXPECT_EQ(dynamic_map()[255], 1.0f);
  const QuantisedWeight eight = quantise(matrix(x, 1, 64), {Dtype::INT8, false}, Dtype::F32);
  EXPECT_EQ(static_cast<const int8_t*>(eight.state->codes)[0], -127);
  EXPECT_EQ(static_cast<const int8_t*>(eight.state->codes)[3], 64);  // 63.5 to even
  std::vector<float> large = random_floats(1024 * 1024, 5);
  EXPECT_LE(static_cast<double>(quantise(matrix(large, 1024, 1024), {Dtype::NF4, true}, Dtype::F32).memory.bytes()) * 8,
            4.13 * 1024 * 1024);
  EXPECT_THROW(quantise(matrix(x, 64, 1), {Dtype::NF4, false}, Dtype::F32), Error);
  for (const float wrong : {NAN, INFINITY})
    for (const Quantisation how : {Quantisation{Dtype::NF4, true}, {Dtype::FP4, false}, {Dtype::INT8, false}}) {
      x[5] = wrong;
      std::vector<float> values(64);
      const QuantisedWeight q = quantise(matrix(x, 1, 64), how, Dtype::BF16);
      unpack(values.data(), q.weight);
      EXPECT_TRUE(std::isnan(values[5])) << name_of(how.type);
    }
}

TEST(Bitsandbytes, RowsHaveTheBitsOfTheReference) {
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (const Case& c : all_cases())
      for (int64_t cols : {768, 576, 96, 50}) {  // whole blocks, and blocks that cross rows
        const Quantised w(c, 9, cols);
        std::vector<float> out(w.values.size());
        unpack_row(out.data(), w.packed);
        ASSERT_EQ(out, w.values) << text(c) << " " << cols;
        for (int64_t r = 0; r < 9; ++r) unpack_row(out.data() + r * cols, w.packed.row_range(r, 1));
        ASSERT_EQ(out, w.values) << text(c) << " " << cols;
        const std::vector<float> x = random_floats(cols * 3, 3);
        std::vector<float> sums(9), want(9), tiles(27);
        row_dots(sums.data(), w.packed, x.data());
        row_dots(want.data(), w.wide, x.data());
        ASSERT_EQ(sums, want) << text(c) << " " << cols;
        dot_tiles(tiles.data(), 9, w.packed, x.data(), cols, 3);
        for (size_t i = 0; i < sums.size(); ++i)
          ASSERT_EQ(sums[i], tiles[i]) << text(c) << " " << cols << " " << i << " " << hwy::TargetName(left & -left);
      }
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(Bitsandbytes, ProductsEqualThoseWithTheDequantisedMatrix) {
  Context ctx;
  for (const Case& c : all_cases())
    for (int64_t M : {1, 7, 300}) {
      const int64_t N = 260, K = 576;
      const Quantised w(c, N, K);
      const std::vector<float> x = random_floats(M * K, 5), d_y = random_floats(M * N, 6);
      std::vector<float> y(static_cast<size_t>(M * N)), want_y(y.size()), d_x(static_cast<size_t>(M * K), 1), want_d_x(d_x.size(), 1);
      std::vector<float> xs = x, ds = d_y;
      matmul_nt_parts(ctx, matrix(y, M, N), matrix(xs, M, K), std::span(&w.packed, 1));
      matmul_nt_parts(ctx, matrix(want_y, M, N), matrix(xs, M, K), std::span(&w.wide, 1));
      EXPECT_EQ(y, want_y) << text(c) << " " << M;
      matmul_nn_parts(ctx, matrix(d_x, M, K), matrix(ds, M, N), std::span(&w.packed, 1), 1);
      matmul_nn_parts(ctx, matrix(want_d_x, M, K), matrix(ds, M, N), std::span(&w.wide, 1), 1);
      expect_near(d_x, doubles(want_d_x), 1e-5, text(c).c_str());
    }
}

}  // namespace
}  // namespace loraine::bitsandbytes_test
