// Packed weights: every format against the scalar reference, and products with them against those with the unpacked matrix.
#include "loraine/kernels/products/packed_rows.h"

#include "loraine/core/error.h"
#include "loraine/kernels/products/dot_tiles.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/rows/elementwise.h"
#include "tests/support/op_check.h"

namespace loraine {
namespace {

const Dtype kPacked[] = {Dtype::Q4_0, Dtype::Q4_1, Dtype::Q5_0, Dtype::Q5_1, Dtype::Q8_0, Dtype::Q4_K, Dtype::Q5_K, Dtype::Q6_K};

// Blocks of random bits with scales that are finite: half floats of moderate size where the format has them.
std::vector<unsigned char> random_blocks(Dtype dtype, int64_t elements, uint32_t seed) {
  std::vector<unsigned char> bytes(static_cast<size_t>(bytes_of(dtype, elements)));
  std::mt19937 random(seed);
  for (unsigned char& b : bytes) b = static_cast<unsigned char>(random());
  const int block = block_of(dtype).bytes;
  std::vector<int> halves = {0};
  if (dtype == Dtype::Q4_1 || dtype == Dtype::Q5_1 || dtype == Dtype::Q4_K || dtype == Dtype::Q5_K) halves.push_back(2);
  if (dtype == Dtype::Q6_K) halves = {208};
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(block))
    for (int half : halves) {
      const f16 scale = f32_to_f16(static_cast<float>(random() % 2000) * 1e-5f - 0.01f);
      std::memcpy(bytes.data() + at + half, &scale, 2);
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
}  // namespace loraine
