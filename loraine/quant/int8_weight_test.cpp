// A weight in int8 beside the one it was made of: products within the rounding, input gradients too, and the error of a rounded product is
// what independent roundings of x and W give.
#include "loraine/quant/int8_weight.h"

#include <cmath>

#include "loraine/quant/weight.h"
#include "tests/support/apart.h"
#include "tests/support/op_check.h"

namespace loraine::int8_weight_test {
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
  void round() {
    for (WeightPart& part : weight.parts) quantise_part(part, {.type = Dtype::INT8, .as_f16 = false}, Dtype::F32);
    weight.integer_products = true;
  }
};

// A row of normal numbers has its largest at about 3 deviations, so a step of 3/127 and an error of a step / √12 per number: 0.7 % of a
// deviation, and 1 % of a product where both sides are rounded. That is the tolerance, with half as much above it.
constexpr double kTolerance = 0.015;

TEST(Int8Weight, ProductsAreWithinTheRounding) {
  Context ctx;
  Site exact, rounded;
  rounded.round();
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
  rounded.round();
  for (size_t p = 0; p < 2; ++p) {
    const WeightPart& part = rounded.weight.parts[p];
    weight_rows(part, 0, part.weight.rows(), read_back.weight.parts[p].weight);
  }
  std::vector<float> small = random_floats(kRows * kIn, 3), large = small;
  for (int64_t t = 0; t < kRows; ++t)
    for (int64_t k : {7, 150, 299}) {
      small[static_cast<size_t>(t * kIn + k)] = 0;
      large[static_cast<size_t>(t * kIn + k)] = t % 9 == 0 ? 400.0f : 0.5f;  // a few rows hold them, as a few tokens do
    }
  std::vector<bf16> large16 = to_bf16(large);
  const int64_t N = kOut0 + kOut1;
  for (auto [x, count] : {std::pair{matrix(large, kRows, kIn), kRows}, std::pair{matrix(large16, kRows, kIn), kRows},
                          std::pair{matrix(large, kRows, kIn), int64_t{20}}}) {  // columns, and row by row
    std::vector<float> y(static_cast<size_t>(count * N)), want = y, rest = y;
    multiply_weight(ctx, matrix(rest, count, N), read_back.weight, matrix(small, kRows, kIn).row_range(0, count));
    multiply_weight(ctx, matrix(want, count, N), read_back.weight, matrix(large, kRows, kIn).row_range(0, count));
    multiply_weight(ctx, matrix(y, count, N), rounded.weight, x.row_range(0, count));
    double difference = 0, size = 0;  // the small numbers are not lost beside the large ones
    for (size_t i = 0; i < y.size(); ++i) {
      difference += std::pow(static_cast<double>(y[i]) - static_cast<double>(want[i]), 2);
      size += std::pow(static_cast<double>(rest[i]), 2);
    }
    EXPECT_LT(std::sqrt(difference / size), kTolerance);
  }
}

TEST(Int8Weight, DecodingRowsFeelNothingOfTheOthers) {
  Context ctx;
  Site site;
  site.round();
  constexpr int64_t kFew = 32, N = kOut0 + kOut1;
  std::vector<float> x = random_floats(kFew * kIn, 3), y(kFew * N), alone(N);
  for (int64_t t = 0; t < kFew; ++t)  // none to 15 outliers, more than there may be, at places of its own
    for (int64_t i = 0; i < t / 2; ++i) x[static_cast<size_t>(t * kIn + (37 * i + t) % kIn)] = static_cast<float>(6 + i);
  std::vector<bf16> x16 = to_bf16(x);
  for (const Tensor& rows : {matrix(x, kFew, kIn), matrix(x16, kFew, kIn)}) {
    multiply_weight(ctx, matrix(y, kFew, N), site.weight, rows);
    for (int64_t t = 0; t < kFew; ++t) {
      multiply_weight(ctx, matrix(alone, 1, N), site.weight, rows.row_range(t, 1));
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.begin() + t * N)) << "row " << t;
    }
  }
}

TEST(Int8Weight, WeightsAreTheNearestCodes) {
  Site exact, rounded;
  exact.a[5] = 0.0f;
  std::fill_n(exact.a.begin() + kIn, kIn, 1e-40f);
  std::copy(exact.a.begin(), exact.a.end(), rounded.a.begin());
  rounded.round();
  std::vector<float> memory(10 * kIn);
  for (size_t p = 0; p < 2; ++p) {
    const WeightPart& part = rounded.weight.parts[p];
    const Tensor rows = weight_rows(part, 0, 10, matrix(memory, 10, kIn));
    for (int64_t r = 0; r < 10; ++r) {
      const float step = part.weight.quant->row_scale(r);
      int largest = 0;
      for (int64_t k = 0; k < kIn; ++k) {
        EXPECT_NEAR(rows.f32()[r * kIn + k], (p ? exact.b : exact.a)[static_cast<size_t>(r * kIn + k)], 0.5001f * step + 1e-36f);
        largest = std::max(largest, std::abs(static_cast<int>(static_cast<const int8_t*>(part.weight.data)[r * kIn + k])));
      }
      EXPECT_EQ(largest, p == 0 && r == 1 ? 0 : 127);  // nothing of a row of denormals
    }
  }
}

}  // namespace
}  // namespace loraine::int8_weight_test
