// Packed weights: every format against the scalar reference, and products with them against those with the unpacked matrix.
#include "loraine/kernels/products/packed_rows.h"

#include <hwy/targets.h>

#include "loraine/core/error.h"
#include "loraine/kernels/products/dot_tiles.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/op_check.h"

namespace loraine::packed_rows_test {
namespace {

const std::vector<Dtype> kPacked = [] {
  std::vector<Dtype> all;
  for (int type = static_cast<int>(Dtype::Q4_0); type < static_cast<int>(Dtype::NF4); ++type) all.push_back(static_cast<Dtype>(type));
  return all;
}();

// Where a block has scales in half precision.
std::vector<int> places_of_halves(Dtype dtype) {
  switch (dtype) {
    case Dtype::Q4_1:
    case Dtype::Q5_1:
    case Dtype::Q4_K:
    case Dtype::Q5_K: return {0, 2};
    case Dtype::Q6_K: return {208};
    case Dtype::Q2_K: return {80, 82};
    case Dtype::Q3_K: return {108};
    case Dtype::TQ1_0: return {52};
    case Dtype::TQ2_0: return {64};
    case Dtype::IQ1_M:
    case Dtype::MXFP4: return {};
    default: return {0};
  }
}

// Blocks of random bits with scales that are finite: half floats of moderate size where the format has them.
std::vector<unsigned char> random_blocks(Dtype dtype, int64_t elements, uint32_t seed) {
  std::vector<unsigned char> bytes(static_cast<size_t>(bytes_of(dtype, elements)));
  std::mt19937 random(seed);
  for (unsigned char& b : bytes) b = static_cast<unsigned char>(random());
  const int block = block_of(dtype).bytes;
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(block)) {
    const f16 scale = f32_to_f16(static_cast<float>(random() % 2000) * 1e-5f - 0.01f);
    for (int half : places_of_halves(dtype)) std::memcpy(bytes.data() + at + half, &scale, 2);
    if (dtype == Dtype::MXFP4) bytes[at] = static_cast<unsigned char>(110 + random() % 20);
    if (dtype == Dtype::IQ1_M)  // in the top four bits of its four words
      for (size_t word = 0; word < 4; ++word)
        bytes[at + 49 + 2 * word] = static_cast<unsigned char>((bytes[at + 49 + 2 * word] & 15) | (scale >> (4 * word) & 15) << 4);
  }
  return bytes;
}

struct Packed {
  std::vector<unsigned char> blocks;
  std::vector<float> values;
  Tensor packed, wide;
  Packed(Dtype dtype, int64_t rows, int64_t cols) : blocks(random_blocks(dtype, rows * cols, 7)), values(static_cast<size_t>(rows * cols)) {
    unpack(values.data(), blocks.data(), dtype, rows * cols);
    packed = Tensor(blocks.data(), dtype, {rows, cols});
    wide = matrix(values, rows, cols);
  }
};

TEST(PackedRows, UnpackAsTheReferenceDoes) {
  for (Dtype dtype : kPacked) {
    const Packed w(dtype, 5, 768);
    std::vector<float> out(5 * 768);
    unpack_row(out.data(), w.packed);
    EXPECT_EQ(out, w.values) << name_of(dtype);
  }
  std::vector<float> out(256);
  EXPECT_THROW(unpack_row(out.data(), Tensor(out.data(), Dtype::Q4_K, {1, 128})), Error);
  EXPECT_THROW(unpack(out.data(), out.data(), Dtype::Q4_K, 128), Error);
  EXPECT_THROW(unpack(out.data(), out.data(), Dtype::F16, 128), Error);
}

TEST(PackedRows, DotsHaveTheBitsOfTheUnpackedRows) {
  for (Dtype dtype : kPacked)
    for (int64_t rows : {1, 3, 4, 9, 33}) {
      const Packed w(dtype, rows, 1280);
      const std::vector<float> x = random_floats(1280, 3);
      std::vector<float> sums(static_cast<size_t>(rows)), want(static_cast<size_t>(rows));
      packed_dots(sums.data(), w.packed, x.data());
      row_dots(want.data(), w.wide, x.data());
      EXPECT_EQ(sums, want) << name_of(dtype) << " " << rows;
      packed_dots(sums.data(), w.packed.col_range(0, 768), x.data());  // part of each row
      row_dots(want.data(), w.wide.col_range(0, 768), x.data());
      EXPECT_EQ(sums, want) << name_of(dtype) << " " << rows;
    }
}

TEST(PackedRows, EveryInstructionSetGivesTheBitsOfTheReference) {
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (Dtype dtype : kPacked) {
      const Packed w(dtype, 9, 768);
      std::vector<float> out(w.values.size()), sums(9), want(9);
      unpack_row(out.data(), w.packed);
      EXPECT_EQ(out, w.values) << name_of(dtype);
      const std::vector<float> x = random_floats(768, 3);
      packed_dots(sums.data(), w.packed, x.data());
      row_dots(want.data(), w.wide, x.data());
      EXPECT_EQ(sums, want) << name_of(dtype);
    }
  }
  hwy::SetSupportedTargetsForTest(0);
}

// MXFP4 whose powers of two lie apart; of rows that are no whole number of blocks too.
struct Codes {
  std::vector<uint8_t> codes, exponents;
  QuantState state;
  std::vector<float> values;
  Tensor packed, wide;
  Codes(int64_t rows, int64_t cols)
      : codes(static_cast<size_t>(rows * cols / 2)), exponents(static_cast<size_t>((rows * cols + 31) / 32)), values(codes.size() * 2) {
    std::mt19937 random(5);
    for (uint8_t& code : codes) code = static_cast<uint8_t>(random());
    for (uint8_t& exponent : exponents) exponent = static_cast<uint8_t>(118 + random() % 8);
    exponents[0] = 0, exponents[1] = 1;
    state.codes = codes.data();
    state.exponents = exponents.data();
    state.cols = cols;
    packed = Tensor(codes.data(), Dtype::MXFP4_CODES, {rows, cols});
    packed.quant = &state;
    unpack(values.data(), packed);
    wide = matrix(values, rows, cols);
  }
};

TEST(PackedRows, CodesWithPowersOfTwoApart) {
  const Codes all(12, 96);
  const double magnitudes[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
  for (size_t i = 0; i < all.values.size(); ++i) {
    const int code = i % 2 ? all.codes[i / 2] >> 4 : all.codes[i / 2] & 15;
    const double want = magnitudes[code & 7] * (code & 8 ? -1 : 1) * std::ldexp(1.0, all.exponents[i / 32] - 127);
    ASSERT_EQ(static_cast<double>(all.values[i]), want) << i;
  }
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (int64_t cols : {96, 576, 80, 50}) {
      const Codes w(9, cols);
      std::vector<float> out(w.values.size()), sums(9), want(9), tiles(27);
      unpack_row(out.data(), w.packed);
      ASSERT_EQ(out, w.values) << cols;
      for (int64_t r = 0; r < 9; ++r) unpack_row(out.data() + r * cols, w.packed.row_range(r, 1));
      ASSERT_EQ(out, w.values) << cols;
      const std::vector<float> x = random_floats(cols * 3, 3);
      row_dots(sums.data(), w.packed, x.data());
      row_dots(want.data(), w.wide, x.data());
      ASSERT_EQ(sums, want) << cols;
      dot_tiles(tiles.data(), 9, w.packed, x.data(), cols, 3);
      ASSERT_TRUE(std::equal(sums.begin(), sums.end(), tiles.begin())) << cols;
    }
  }
  hwy::SetSupportedTargetsForTest(0);
  Context ctx;
  const int64_t N = 260, K = 576, M = 40;
  const Codes w(N, K);
  std::vector<float> x = random_floats(M * K, 5), d_y = random_floats(M * N, 6), y(M * N), want_y(y.size()), d_x(M * K),
                     want_d_x(d_x.size());
  matmul_nt_parts(ctx, matrix(y, M, N), matrix(x, M, K), std::span(&w.packed, 1));
  matmul_nt_parts(ctx, matrix(want_y, M, N), matrix(x, M, K), std::span(&w.wide, 1));
  EXPECT_EQ(y, want_y);
  matmul_nn_parts(ctx, matrix(d_x, M, K), matrix(d_y, M, N), std::span(&w.packed, 1), 0);
  matmul_nn_parts(ctx, matrix(want_d_x, M, K), matrix(d_y, M, N), std::span(&w.wide, 1), 0);
  expect_near(d_x, doubles(want_d_x), 1e-5, "d_x");
}

TEST(PackedRows, SeveralRowsOfActivationsHaveTheBitsOfOne) {
  for (Dtype dtype : kPacked) {
    const int64_t rows = 10, K = 512, M = 7;
    const Packed w(dtype, rows, K);
    const std::vector<float> x = random_floats(M * K, 4);
    std::vector<float> sums(M * rows), alone(rows);
    dot_tiles(sums.data(), rows, w.packed, x.data(), K, M);
    for (int64_t m = 0; m < M; ++m) {
      row_dots(alone.data(), w.packed, x.data() + m * K);
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), sums.begin() + m * rows)) << name_of(dtype) << " " << m;
    }
  }
}

TEST(PackedRows, ProductsEqualThoseWithTheUnpackedMatrix) {
  Context ctx;
  for (Dtype dtype : kPacked)
    for (Dtype x_type : {Dtype::F32, Dtype::BF16})
      for (int64_t M : {1, 7, 300}) {
        const int64_t N = 520, K = 768;
        const Packed w(dtype, N, K);
        std::vector<float> x = random_floats(M * K, 5), d_y = random_floats(M * N, 6);
        std::vector<bf16> x16 = to_bf16(x), d_y16 = to_bf16(d_y);
        const bool narrow = x_type == Dtype::BF16;
        const Tensor tx = narrow ? matrix(x16, M, K) : matrix(x, M, K), td = narrow ? matrix(d_y16, M, N) : matrix(d_y, M, N);
        std::vector<float> y(static_cast<size_t>(M * N)), want_y(y.size()), d_x(static_cast<size_t>(M * K), 1), want_d_x(d_x.size(), 1);
        matmul_nt_parts(ctx, matrix(y, M, N), tx, std::span(&w.packed, 1));
        matmul_nt_parts(ctx, matrix(want_y, M, N), tx, std::span(&w.wide, 1));
        EXPECT_EQ(y, want_y) << name_of(dtype) << " " << M;
        matmul_nn_parts(ctx, matrix(d_x, M, K), td, std::span(&w.packed, 1), 1);
        matmul_nn_parts(ctx, matrix(want_d_x, M, K), td, std::span(&w.wide, 1), 1);
        expect_near(d_x, doubles(want_d_x), 1e-5, name_of(dtype));
      }
}

TEST(PackedRows, LongSumsAndEmbedding) {
  Context ctx;
  for (Dtype dtype : {Dtype::Q8_0, Dtype::Q4_K}) {
    const int64_t M = 12, V = 17000, C = 256;
    const Packed w(dtype, V, C);
    std::vector<float> d = random_floats(M * V, 1), d_x(M * C), want(M * C);
    matmul_nn(ctx, matrix(d_x, M, C), matrix(d, M, V), w.packed);
    matmul_nn(ctx, matrix(want, M, C), matrix(d, M, V), w.wide);
    expect_near(d_x, doubles(want), 1e-5, name_of(dtype));
    const std::vector<int32_t> tokens = {0, 16999, 5};
    std::vector<float> y(3 * C), want_y(3 * C);
    embedding(ctx, matrix(y, 3, C), w.packed, tokens);
    embedding(ctx, matrix(want_y, 3, C), w.wide, tokens);
    EXPECT_EQ(y, want_y);
  }
}

}  // namespace
}  // namespace loraine::packed_rows_test
