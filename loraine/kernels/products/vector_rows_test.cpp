// Codes of vectors: by hand, every instruction set against the plain reference, and products with them against those with the dequantised
// matrix.
#include "loraine/kernels/products/vector_rows.h"

#include <hwy/targets.h>

#include "loraine/core/packed.h"
#include "loraine/core/vector_codes.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/packed_rows.h"
#include "loraine/kernels/products/row_dots.h"
#include "tests/support/op_check.h"

namespace loraine::vector_rows_test {
namespace {

struct Coded {
  std::vector<uint8_t> codes;
  std::vector<float> books32, scales, values;
  std::vector<uint16_t> books16;
  VectorCodes vectors;
  QuantState state;
  Tensor packed, wide;
  Coded(Dtype type, Dtype books, int64_t rows, int64_t cols)
      : codes(static_cast<size_t>(bytes_of(type, rows * cols))), values(static_cast<size_t>(rows * cols)) {
    std::mt19937 random(7);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
    const int64_t size = type == Dtype::V1X16 ? 65536 : 512;
    books32 = random_floats(size * kVector, 3);
    books16.resize(books32.size());
    if (books != Dtype::F32) convert(books16.data(), books, books32.data(), Dtype::F32, size * kVector);
    scales = random_floats(rows, 4);
    vectors = {books == Dtype::F32 ? static_cast<const void*>(books32.data()) : books16.data(), scales.data(), books, Dtype::F32};
    state.codes = codes.data();
    state.cols = cols;
    state.vectors = &vectors;
    packed = Tensor(codes.data(), type, {rows, cols});
    packed.quant = &state;
    unpack(values.data(), packed);
    wide = matrix(values, rows, cols);
  }
};

TEST(VectorRows, ByHand) {
  const Coded one(Dtype::V1X16, Dtype::F32, 2, 16), two(Dtype::V2X8, Dtype::F32, 2, 16);
  for (int64_t g = 0; g < 4; ++g)
    for (int64_t j = 0; j < 8; ++j) {
      const auto at = static_cast<size_t>(2 * g), i = static_cast<size_t>(8 * g + j), row = static_cast<size_t>(g / 2);
      const size_t code = one.codes[at] + 256u * one.codes[at + 1], first = two.codes[at], second = 256u + two.codes[at + 1];
      EXPECT_EQ(one.values[i], one.books32[8 * code + static_cast<size_t>(j)] * one.scales[row]);
      EXPECT_EQ(two.values[i],
                (two.books32[8 * first + static_cast<size_t>(j)] + two.books32[8 * second + static_cast<size_t>(j)]) * two.scales[row]);
    }
}

TEST(VectorRows, EveryInstructionSetGivesTheBitsOfTheReference) {
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (const Dtype type : {Dtype::V1X16, Dtype::V2X8})
      for (const Dtype books : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
        const Coded w(type, books, 9, 88);
        std::vector<float> out(w.values.size()), sums(9), want(9);
        unpack_row(out.data(), w.packed);
        ASSERT_EQ(out, w.values) << hwy::TargetName(left & -left);
        for (int64_t r = 0; r < 9; ++r) unpack_row(out.data() + r * 88, w.packed.row_range(r, 1));
        ASSERT_EQ(out, w.values) << hwy::TargetName(left & -left);
        const std::vector<float> x = random_floats(88, 3);
        row_dots(sums.data(), w.packed, x.data());
        row_dots(want.data(), w.wide, x.data());
        ASSERT_EQ(sums, want) << hwy::TargetName(left & -left);
      }
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(VectorRows, ProductsEqualThoseWithTheDequantisedMatrix) {
  Context ctx;
  for (const Dtype type : {Dtype::V1X16, Dtype::V2X8})
    for (const int64_t M : {1, 7, 300}) {
      const int64_t N = 260, K = 576;
      const Coded w(type, Dtype::F16, N, K);
      std::vector<float> x = random_floats(M * K, 5), d_y = random_floats(M * N, 6), y(static_cast<size_t>(M * N)), want_y(y.size()),
                         d_x(static_cast<size_t>(M * K), 1), want_d_x(d_x.size(), 1);
      matmul_nt_parts(ctx, matrix(y, M, N), matrix(x, M, K), std::span(&w.packed, 1));
      matmul_nt_parts(ctx, matrix(want_y, M, N), matrix(x, M, K), std::span(&w.wide, 1));
      EXPECT_EQ(y, want_y) << M;
      matmul_nn_parts(ctx, matrix(d_x, M, K), matrix(d_y, M, N), std::span(&w.packed, 1), 1);
      matmul_nn_parts(ctx, matrix(want_d_x, M, K), matrix(d_y, M, N), std::span(&w.wide, 1), 1);
      expect_near(d_x, doubles(want_d_x), 1e-5, name_of(type));
    }
}

}  // namespace
}  // namespace loraine::vector_rows_test
