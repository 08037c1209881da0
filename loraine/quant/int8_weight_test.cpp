// A weight in int8 beside the one it was made of: products within the rounding, input gradients too, and the error of a rounded product is
// what independent roundings of x and W give.
#include "loraine/quant/int8_weight.h"

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/quant/bitsandbytes.h"
#include "tests/support/op_check.h"

namespace loraine {
namespace {

constexpr int64_t kRows = 70, kIn = 300, kOut0 = 130, kOut1 = 65;

struct Site {
  std::vector<float> a = random_floats(kOut0 * kIn, 1, 0.05f), b = random_floats(kOut1 * kIn, 2, 0.2f);
  Weight weight;
  Site() {
    weight.parts.resize(2);
    weight.parts[0].weight = matrix(a, kOut0, kIn);
    weight.parts[1].weight = matrix(b, kOut1, kIn);
  }
};

// |x − y| / |y|
double apart(const std::vector<float>& x, const std::vector<float>& y) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    difference += std::pow(static_cast<double>(x[i]) - static_cast<double>(y[i]), 2);
    size += std::pow(static_cast<double>(y[i]), 2);
  }
  return std::sqrt(difference / size);
}

// A row of normal numbers has its largest at about 3 deviations, so a step of 3/127 and an error of a step / √12 per number: 0.7 % of a
// deviation, and 1 % of a product where both sides are rounded. That is the tolerance, with half as much above it.
constexpr double kTolerance = 0.015;

TEST(Int8Weight, ProductsAreWithinTheRounding) {
  Context ctx;
  Site exact, rounded;
  for (WeightPart& part : rounded.weight.parts) to_int8(ctx, part);
  EXPECT_FALSE(is_int8(exact.weight));
  EXPECT_TRUE(is_int8(rounded.weight));
  EXPECT_EQ(rounded.weight.out(), kOut0 + kOut1);
  std::vector<float> x = random_floats(kRows * kIn, 3), d_y = random_floats(kRows * (kOut0 + kOut1), 4, 1e-4f);
  for (int64_t t = 0; t < kRows; ++t)  // rows of very different size, each with its own scale
    for (int64_t k = 0; k < kIn; ++k) x[static_cast<size_t>(t * kIn + k)] *= std::exp2(static_cast<float>(t % 20));
  std::vector<float> y(kRows * (kOut0 + kOut1)), want_y = y, d_x(kRows * kIn, 1e-4f), want_d_x = d_x;
  multiply_weight(ctx, matrix(want_y, kRows, kOut0 + kOut1), exact.weight, matrix(x, kRows, kIn));
  multiply_weight(ctx, matrix(y, kRows, kOut0 + kOut1), rounded.weight, matrix(x, kRows, kIn));
  EXPECT_LT(apart(y, want_y), kTolerance);
  EXPECT_GT(apart(y, want_y), kTolerance / 10);
  for (bool accumulate : {false, true}) {
    multiply_weight_backward(ctx, matrix(want_d_x, kRows, kIn), exact.weight, matrix(d_y, kRows, kOut0 + kOut1), accumulate);
    multiply_weight_backward(ctx, matrix(d_x, kRows, kIn), rounded.weight, matrix(d_y, kRows, kOut0 + kOut1), accumulate);
    EXPECT_LT(apart(d_x, want_d_x), kTolerance);
  }
}

TEST(Int8Weight, ColumnsOfLargeNumbersAreMultipliedAsTheyAre) {
  Context ctx;
  Site rounded, read_back;  // the same weights, so that what differs is the rounding of x
  for (size_t p = 0; p < 2; ++p) {
    WeightPart& part = rounded.weight.parts[p];
    to_int8(ctx, part);
    weight_rows(part, 0, part.weight.rows(), read_back.weight.parts[p].weight);
  }
  std::vector<float> small = random_floats(kRows * kIn, 3), large = small;
  for (int64_t t = 0; t < kRows; ++t)
    for (int64_t k : {7, 150, 299}) {
      small[static_cast<size_t>(t * kIn + k)] = 0;
      large[static_cast<size_t>(t * kIn + k)] = t % 9 == 0 ? 400.0f : 0.5f;  // a few rows hold them, as a few tokens do
    }
  const int64_t N = kOut0 + kOut1;
  std::vector<float> y(kRows * N), want = y, rest = y;
  multiply_weight(ctx, matrix(rest, kRows, N), read_back.weight, matrix(small, kRows, kIn));
  multiply_weight(ctx, matrix(want, kRows, N), read_back.weight, matrix(large, kRows, kIn));
  std::vector<bf16> large16 = to_bf16(large);
  for (const Tensor& x : {matrix(large, kRows, kIn), matrix(large16, kRows, kIn)}) {
    multiply_weight(ctx, matrix(y, kRows, N), rounded.weight, x);
    double difference = 0, size = 0;  // the small numbers are not lost beside the large ones
    for (size_t i = 0; i < y.size(); ++i) {
      difference += std::pow(static_cast<double>(y[i]) - static_cast<double>(want[i]), 2);
      size += std::pow(static_cast<double>(rest[i]), 2);
    }
    EXPECT_LT(std::sqrt(difference / size), kTolerance);
  }
}

TEST(Int8Weight, AQuantisedWeightKeepsItsCodes) {
  Context ctx;
  Site site;
  WeightPart& part = site.weight.parts[0];
  QuantisedWeight q = quantise(part.weight, {Dtype::INT8, false}, Dtype::F32);
  std::vector<float> before(kOut0 * kIn), after(before.size());
  dequantise(before.data(), q.weight);
  part.weight = q.weight;
  to_int8(ctx, part);
  EXPECT_EQ(part.weight.data, q.memory.data());
  weight_rows(part, 0, kOut0, matrix(after, kOut0, kIn));
  EXPECT_EQ(before, after);
}

TEST(Int8Weight, RowsAreReadBackWithinHalfAStep) {
  Context ctx;
  Site exact, rounded;
  to_int8(ctx, rounded.weight.parts[1]);
  std::vector<float> memory(10 * kIn);
  const Tensor rows = weight_rows(rounded.weight.parts[1], 20, 10, matrix(memory, 10, kIn));
  for (int64_t r = 0; r < 10; ++r)
    for (int64_t k = 0; k < kIn; ++k)
      EXPECT_NEAR(rows.f32()[r * kIn + k], exact.b[static_cast<size_t>((20 + r) * kIn + k)],
                  0.5001f * rounded.weight.parts[1].row_scales[20 + r]);
  EXPECT_THROW(is_int8(rounded.weight), Error);  // one part of two
}

}  // namespace
}  // namespace loraine
