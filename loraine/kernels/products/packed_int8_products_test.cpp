// Packed weights against activations in 8 bits by blocks: every type on every instruction set against whole sums of plain loops, the error
// of the rounding, and rows that do not feel each other.
#include "loraine/kernels/products/packed_int8_products.h"

#include <hwy/targets.h>
#include <omp.h>

#include <bit>
#include <cmath>
#include <limits>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/kernels/products/packed_int8_dots.h"
#include "tests/support/op_check.h"

namespace loraine::packed_int8_products_test {
namespace {

const std::vector<Dtype> kTypes = [] {
  std::vector<Dtype> all;
  for (int type = static_cast<int>(Dtype::Q4_0); type < static_cast<int>(Dtype::NF4); ++type) all.push_back(static_cast<Dtype>(type));
  return all;
}();

// Blocks of random bits, whose halves are made finite and small where the type has them.
std::vector<unsigned char> random_blocks(Dtype dtype, int64_t elements, uint32_t seed) {
  std::vector<unsigned char> bytes(static_cast<size_t>(bytes_of(dtype, elements)));
  std::mt19937 random(seed);
  for (unsigned char& b : bytes) b = static_cast<unsigned char>(random());
  std::vector<size_t> halves = {0};
  if (dtype == Dtype::Q4_1 || dtype == Dtype::Q5_1 || dtype == Dtype::Q4_K || dtype == Dtype::Q5_K) halves = {0, 2};
  if (dtype == Dtype::Q6_K) halves = {208};
  if (dtype == Dtype::Q2_K) halves = {80, 82};
  if (dtype == Dtype::Q3_K) halves = {108};
  if (dtype == Dtype::TQ1_0) halves = {52};
  if (dtype == Dtype::TQ2_0) halves = {64};
  for (size_t at = 0; at < bytes.size(); at += static_cast<size_t>(block_of(dtype).bytes)) {
    const f16 scale = f32_to_f16(static_cast<float>(random() % 2000) * 1e-5f - 0.01f);
    if (dtype == Dtype::MXFP4) bytes[at] = static_cast<unsigned char>(at % 5 == 0 ? at % 3 : 110 + random() % 20);
    else if (dtype == Dtype::IQ1_M)  // in the top four bits of its four words
      for (size_t word = 0; word < 4; ++word)
        bytes[at + 49 + 2 * word] = static_cast<unsigned char>((bytes[at + 49 + 2 * word] & 15) | (scale >> (4 * word) & 15) << 4);
    else
      for (size_t half : halves) std::memcpy(bytes.data() + at + half, &scale, 2);
  }
  return bytes;
}

struct Packed {
  std::vector<unsigned char> blocks;
  std::vector<float> values;
  Tensor packed;
  Packed(Dtype dtype, int64_t rows, int64_t cols, uint32_t seed = 7)
      : blocks(random_blocks(dtype, rows * cols, seed)), values(static_cast<size_t>(rows * cols)) {
    unpack(values.data(), blocks.data(), dtype, rows * cols);
    packed = Tensor(blocks.data(), dtype, {rows, cols});
  }
};

// The definition of a rounded row: a step is a 127th of the block's largest number.
std::vector<double> rounded(const float* x, int64_t K) {
  std::vector<double> out;
  for (int64_t k = 0; k < K; k += 32) {
    float most = 0;
    for (int64_t i = 0; i < 32; ++i) most = std::max(most, std::fabs(x[k + i]));
    for (int64_t i = 0; i < 32; ++i)
      out.push_back(most == 0 ? 0.0 : static_cast<double>(std::nearbyintf(x[k + i] * (127 / most))) * (most / 127));
  }
  return out;
}

// x of 5 rows of 512 numbers whose blocks are of very different size, one of zeros, one full of the largest number.
constexpr int64_t kRowsOfX = 13, kColumns = 512;
std::vector<float> some_x() {
  std::vector<float> x = random_floats(kRowsOfX * kColumns, 3);
  for (size_t i = 0; i < x.size(); ++i) x[i] *= std::exp2(static_cast<float>(i / 32 % 7));
  for (size_t i = 0; i < 32; ++i) x[64 + i] = 0, x[96 + i] = i % 2 ? 3.0f : -3.0f;
  return x;
}

// What products give beside sums in double of the same rounded numbers: f32 sums of 16 or 32 terms.
void check_type(Dtype dtype, const char* where) {
  const int64_t rows = 37;
  const Packed w(dtype, rows, kColumns);
  const std::vector<float> x = some_x();
  std::vector<float> y(static_cast<size_t>(kRowsOfX * rows));
  Context ctx;
  packed_int8_matmul(ctx, matrix(y, kRowsOfX, rows), matrix(const_cast<std::vector<float>&>(x), kRowsOfX, kColumns),
                     std::span(&w.packed, 1));
  for (int64_t m = 0; m < kRowsOfX; ++m) {
    const std::vector<double> of_x = rounded(x.data() + m * kColumns, kColumns);
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0, size = 0;
      for (int64_t k = 0; k < kColumns; ++k) {
        const double term = static_cast<double>(w.values[static_cast<size_t>(r * kColumns + k)]) * of_x[static_cast<size_t>(k)];
        sum += term, size += std::fabs(term);
      }
      // Minimums are taken away from what may be ten times as large.
      ASSERT_NEAR(static_cast<double>(y[static_cast<size_t>(m * rows + r)]), sum, 3e-6 * size) << name_of(dtype) << where << m << " " << r;
    }
  }
}

TEST(PackedInt8Products, OfEveryTypeOnEveryInstructionSetAreThoseOfPlainLoops) {
  const Vnni has = used_vnni();
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (const Vnni& now : {has, Vnni{false, false}}) {
      used_vnni() = now;
      for (Dtype dtype : kTypes) check_type(dtype, now.avx512 || now.avx2 ? " with VNNI " : " without ");
    }
  }
  used_vnni() = has;
  hwy::SetSupportedTargetsForTest(0);
}

// The largest sums that codes can give do not leave 16 or 32 bits.
TEST(PackedInt8Products, LargestCodes) {
  const Vnni has = used_vnni();
  for (const Vnni& now : {has, Vnni{false, false}}) {
    used_vnni() = now;
    for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
      hwy::SetSupportedTargetsForTest(left & -left);
      for (Dtype dtype : {Dtype::Q4_0, Dtype::Q5_0, Dtype::Q8_0, Dtype::Q4_K, Dtype::Q6_K})
        for (unsigned char byte : {0xff, 0x80, 0x7f, 0}) {
          Packed w(dtype, 16, 256);
          std::ranges::fill(w.blocks, byte);
          const f16 one = f32_to_f16(1);
          for (size_t at = 0; at < w.blocks.size(); at += static_cast<size_t>(block_of(dtype).bytes))
            for (size_t half : dtype == Dtype::Q6_K   ? std::vector<size_t>{208}
                               : dtype == Dtype::Q4_K ? std::vector<size_t>{0, 2}
                                                      : std::vector<size_t>{0})
              std::memcpy(w.blocks.data() + at + half, &one, 2);
          unpack(w.values.data(), w.blocks.data(), dtype, 16 * 256);
          std::vector<float> x(256, 1.0f), y(16);
          for (float sign : {1.0f, -1.0f}) {
            std::ranges::fill(x, sign);
            Context ctx;
            packed_int8_matmul(ctx, matrix(y, 1, 16), matrix(x, 1, 256), std::span(&w.packed, 1));
            double sum = 0, size = 0;
            for (int64_t k = 0; k < 256; ++k)
              sum += static_cast<double>(sign * w.values[static_cast<size_t>(k)]), size += std::fabs(w.values[static_cast<size_t>(k)]);
            EXPECT_NEAR(static_cast<double>(y[15]), sum, 1e-5 * size + 1e-3) << name_of(dtype) << " " << int{byte};
          }
        }
    }
  }
  used_vnni() = has;
  hwy::SetSupportedTargetsForTest(0);
}

// Numbers of a block have their largest at about two deviations, so a step of 2 / 127 and an error of a step / √12 each: half a percent.
TEST(PackedInt8Products, AreWithinTheRoundingOfTheExactOnes) {
  for (Dtype dtype : {Dtype::Q4_0, Dtype::Q8_0, Dtype::Q4_K, Dtype::Q6_K}) {
    const Packed w(dtype, 64, kColumns);
    std::vector<float> x = some_x(), y(kRowsOfX * 64);
    Context ctx;
    packed_int8_matmul(ctx, matrix(y, kRowsOfX, 64), matrix(x, kRowsOfX, kColumns), std::span(&w.packed, 1));
    double apart = 0, size = 0;
    for (int64_t m = 0; m < kRowsOfX; ++m)
      for (int64_t r = 0; r < 64; ++r) {
        double sum = 0;
        for (int64_t k = 0; k < kColumns; ++k)
          sum += static_cast<double>(w.values[static_cast<size_t>(r * kColumns + k)]) *
                 static_cast<double>(x[static_cast<size_t>(m * kColumns + k)]);
        apart += std::pow(static_cast<double>(y[static_cast<size_t>(m * 64 + r)]) - sum, 2), size += sum * sum;
      }
    EXPECT_LT(std::sqrt(apart / size), 0.01) << name_of(dtype);
    EXPECT_GT(std::sqrt(apart / size), 0.0005) << name_of(dtype);
  }
}

// A row has the bits that it has alone: whatever stands beside it, however many rows and threads there are, in parts of several types, F32
// and BF16, strided.
TEST(PackedInt8Products, RowsDoNotFeelEachOther) {
  const int64_t M = 150, N = 70 + 33;
  const Packed a(Dtype::Q4_K, 70, kColumns), b(Dtype::Q6_K, 33, kColumns);
  const std::vector<Tensor> parts = {a.packed, b.packed};
  std::vector<float> x = random_floats(M * kColumns, 5), all(static_cast<size_t>(M * N)), one(static_cast<size_t>(N));
  std::vector<bf16> x16 = to_bf16(x), all16(all.size()), one16(one.size());
  Context ctx;
  packed_int8_matmul(ctx, matrix(all, M, N), matrix(x, M, kColumns), parts);
  packed_int8_matmul(ctx, matrix(all16, M, N), matrix(x16, M, kColumns), parts);
  for (int threads : {1, 3}) {
    omp_set_num_threads(threads);
    for (int64_t m : {0, 1, 31, 64, 77, 149}) {
      packed_int8_matmul(ctx, matrix(one, 1, N), matrix(x, M, kColumns).row_range(m, 1), parts);
      EXPECT_TRUE(std::equal(one.begin(), one.end(), all.begin() + m * N)) << m;
      packed_int8_matmul(ctx, matrix(one16, 1, N), matrix(x16, M, kColumns).row_range(m, 1), parts);
      EXPECT_TRUE(std::equal(one16.begin(), one16.end(), all16.begin() + m * N)) << m;
    }
    for (int64_t count : {2, 3, 5, 8, 12, 32, 33, 65}) {
      std::vector<float> some(static_cast<size_t>(count * (N + 9)));
      packed_int8_matmul(ctx, matrix(some, count, N + 9).col_range(4, N), matrix(x, M, kColumns).row_range(20, count), parts);
      for (int64_t m = 0; m < count; ++m)
        EXPECT_TRUE(std::equal(all.begin() + (20 + m) * N, all.begin() + (21 + m) * N, some.begin() + m * (N + 9) + 4))
            << count << " " << m;
    }
  }
  omp_set_num_threads(omp_get_num_procs());
}

TEST(PackedInt8Products, WhatIsNotFiniteIsSeen) {
  const Packed w(Dtype::Q4_0, 16, 64);
  for (float bad : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()})
    for (size_t at : {0u, 1u, 40u, 63u}) {
      std::vector<float> x = random_floats(64, 1), y(16);
      x[at] = bad;
      Context ctx;
      packed_int8_matmul(ctx, matrix(y, 1, 16), matrix(x, 1, 64), std::span(&w.packed, 1));
      for (float v : y) EXPECT_TRUE(std::isnan(v));
    }
}

TEST(PackedInt8Products, RefuseOtherShapesAndTypes) {
  const Packed w(Dtype::Q4_0, 16, 64);
  std::vector<float> x(64), y(17), plain(16 * 64);
  Context ctx;
  const Tensor other = matrix(plain, 16, 64);
  EXPECT_THROW(packed_int8_matmul(ctx, matrix(y, 1, 17), matrix(x, 1, 64), std::span(&w.packed, 1)), Error);
  EXPECT_THROW(packed_int8_matmul(ctx, matrix(y, 1, 17).col_range(0, 16), matrix(x, 1, 64).col_range(0, 32), std::span(&w.packed, 1)),
               Error);
  EXPECT_THROW(packed_int8_matmul(ctx, matrix(y, 1, 17).col_range(0, 16), matrix(x, 1, 64), std::span(&other, 1)), Error);
}

}  // namespace
}  // namespace loraine::packed_int8_products_test
