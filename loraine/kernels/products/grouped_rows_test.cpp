// Codes in groups: each format by hand, every kernel on every instruction set against the plain reference, and products with them against
// those with the dequantised matrix.
#include "loraine/kernels/products/grouped_rows.h"

#include <hwy/targets.h>

#include "loraine/core/grouped_codes.h"
#include "loraine/core/packed.h"
#include "loraine/kernels/products/dot_tiles.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/packed_rows.h"
#include "loraine/kernels/products/row_dots.h"
#include "tests/support/op_check.h"

namespace loraine::grouped_rows_test {
namespace {

constexpr Dtype kTypes[] = {Dtype::U1_GROUPS, Dtype::U2_GROUPS, Dtype::U3_GROUPS, Dtype::U4_GROUPS,
                            Dtype::U8_GROUPS, Dtype::I8_GROUPS, Dtype::F8_GROUPS, Dtype::F4_GROUPS};
constexpr ScaleType kScales[] = {ScaleType::f32, ScaleType::f16, ScaleType::bf16, ScaleType::e4m3, ScaleType::e8m0};

struct Shape {
  int64_t group_rows, group_cols;
  bool zeros = false, chosen = false;  // chosen: columns choose their groups
  bool broken = false, flat = false,
       across = false;  // zeros that are no whole numbers; groups of the flattened matrix, along and across it
};
// group_cols 0: the whole row
constexpr Shape kShapes[] = {{1, 32, true},
                             {1, 128},
                             {1, 64, true, true},
                             {1, 0, true},
                             {1000, 0},
                             {128, 128},
                             {1, 16},
                             {1, 24, true},
                             {1, 64, false, false, true},
                             {1, 40, false, false, true, true},
                             {1, 1, false, false, true, true, true}};

struct Coded {
  std::vector<uint8_t> codes, scales, zeros, broken_zeros;
  std::vector<int32_t> column_group;
  GroupedCodes groups;
  QuantState state;
  std::vector<float> values;
  Tensor packed, wide;
  Coded(Dtype type, ScaleType scale, Shape shape, int64_t rows, int64_t cols)
      : codes(static_cast<size_t>(bytes_of(type, rows * cols))), values(static_cast<size_t>(rows * cols)) {
    std::mt19937 random(5);
    for (uint8_t& code : codes) {
      code = static_cast<uint8_t>(random());
      if (type == Dtype::F8_GROUPS && (code & 0x7f) == 0x7f) code = 1;
    }
    groups.group_rows = shape.group_rows;
    groups.group_cols = shape.group_cols ? shape.group_cols : cols;
    groups.groups = (cols + groups.group_cols - 1) / groups.group_cols;
    if (shape.flat) {
      groups.flat = true;
      groups.period = shape.across ? 3 * cols + 8 : 0;
      groups.groups = 4 * cols;  // enough for either
    }
    const auto count = static_cast<size_t>((rows + shape.group_rows - 1) / shape.group_rows * groups.groups);
    scales.resize(4 * count);
    for (size_t i = 0; i < count; ++i) {
      const float x = (static_cast<float>(random() % 1000) + 1) * 1e-4f;
      const f16 half = f32_to_f16(x);
      const bf16 brain = f32_to_bf16(x);
      if (scale == ScaleType::f32) std::memcpy(&scales[4 * i], &x, 4);
      else if (scale == ScaleType::f16) std::memcpy(&scales[2 * i], &half, 2);
      else if (scale == ScaleType::bf16) std::memcpy(&scales[2 * i], &brain, 2);
      else scales[i] = static_cast<uint8_t>(scale == ScaleType::e4m3 ? 1 + random() % 0x7e : 118 + random() % 8);
    }
    groups.scales = scales.data();
    groups.scale_type = scale;
    groups.divisor = scale == ScaleType::e4m3 ? 448.0f : 1.0f;
    groups.zero = type == Dtype::I8_GROUPS ? -128.0f : 0.0f;
    if (shape.zeros) {
      zeros.resize(count);
      for (uint8_t& zero : zeros) zero = static_cast<uint8_t>(random() % (type == Dtype::U2_GROUPS ? 4 : 256));
      groups.zeros = zeros.data();
    }
    if (shape.broken && scale != ScaleType::e4m3 && scale != ScaleType::e8m0) {
      const size_t width = scale == ScaleType::f32 ? 4 : 2;
      broken_zeros.resize(width * count);
      for (size_t i = 0; i < count; ++i) std::memcpy(&broken_zeros[width * i], &scales[width * (count - 1 - i)], width);
      groups.broken_zeros = broken_zeros.data();
    }
    if (shape.chosen) {
      for (int64_t c = 0; c < cols; ++c) column_group.push_back(static_cast<int32_t>(random() % static_cast<uint32_t>(groups.groups)));
      groups.column_group = column_group.data();
    }
    state.codes = codes.data();
    state.cols = cols;
    state.groups = &groups;
    packed = Tensor(codes.data(), type, {rows, cols});
    packed.quant = &state;
    unpack(values.data(), packed);
    wide = matrix(values, rows, cols);
  }
};

TEST(GroupedRows, CodesByHand) {
  const uint8_t bytes[] = {0xe4, 0x1b, 0x53, 0x80};
  const auto value = [&](Dtype type, int64_t i) { return code_value(type, bytes, i); };
  const float bits[] = {0, 0, 1, 0, 0, 1, 1, 1, 1, 1, 0, 1};  // 0xe4, 0x1b
  for (int64_t i = 0; i < 12; ++i) EXPECT_EQ(value(Dtype::U1_GROUPS, i), bits[i]);
  for (int64_t i = 0; i < 4; ++i) EXPECT_EQ(value(Dtype::U2_GROUPS, i), static_cast<float>(i));
  EXPECT_EQ(value(Dtype::U3_GROUPS, 0), 4.0f);
  EXPECT_EQ(value(Dtype::U3_GROUPS, 2), 7.0f);  // 0x1be4: bits 6 to 8
  EXPECT_EQ(value(Dtype::U3_GROUPS, 7), 2.0f);  // 0x53 >> 5
  EXPECT_EQ(value(Dtype::U4_GROUPS, 3), 1.0f);
  EXPECT_EQ(value(Dtype::U8_GROUPS, 0), 228.0f);
  EXPECT_EQ(value(Dtype::I8_GROUPS, 0), -28.0f);
  EXPECT_EQ(value(Dtype::F4_GROUPS, 0), 2.0f);
  EXPECT_EQ(value(Dtype::F4_GROUPS, 1), -4.0f);
  EXPECT_EQ(e4m3_to_f32(0x38), 1.0f);
  EXPECT_EQ(e4m3_to_f32(0x7e), 448.0f);
  EXPECT_EQ(e4m3_to_f32(0x81), -0x1p-9f);
  EXPECT_EQ(e4m3_to_f32(0x08), 0x1p-6f);
  EXPECT_TRUE(std::isnan(e4m3_to_f32(0xff)));
}

TEST(GroupedRows, EveryInstructionSetGivesTheBitsOfTheReference) {
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (const Dtype type : kTypes)
      for (const Shape& shape : kShapes)
        for (const int64_t cols : {768, 576, 96, 56}) {
          const Coded w(type, kScales[static_cast<size_t>(cols / 16 + shape.group_cols) % 5], shape, 9, cols);
          const std::string text = std::string(name_of(type)) + " " + std::to_string(static_cast<int>(type)) + " groups of " +
                                   std::to_string(shape.group_cols) + ", " + std::to_string(cols) + " " + hwy::TargetName(left & -left);
          std::vector<float> out(w.values.size()), sums(9), want(9), tiles(27);
          unpack_row(out.data(), w.packed);
          ASSERT_EQ(out, w.values) << text;
          for (int64_t r = 0; r < 9; ++r) unpack_row(out.data() + r * cols, w.packed.row_range(r, 1));
          ASSERT_EQ(out, w.values) << text;
          const std::vector<float> x = random_floats(cols * 3, 3);
          row_dots(sums.data(), w.packed, x.data());
          row_dots(want.data(), w.wide, x.data());
          ASSERT_EQ(sums, want) << text;
          const int64_t from = cols / 2 / 8 * 8;  // part of each row
          row_dots(sums.data(), w.packed.col_range(from, cols - from), x.data());
          row_dots(want.data(), w.wide.col_range(from, cols - from), x.data());
          ASSERT_EQ(sums, want) << text;
          row_dots(want.data(), w.wide, x.data());
          dot_tiles(tiles.data(), 9, w.packed, x.data(), cols, 3);
          ASSERT_TRUE(std::equal(want.begin(), want.end(), tiles.begin())) << text;
        }
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(GroupedRows, EveryCodeOfEightBitsIsAFloat) {
  std::vector<uint8_t> codes(256);
  for (int i = 0; i < 256; ++i) codes[static_cast<size_t>(i)] = static_cast<uint8_t>(i);
  const float one = 1;
  GroupedCodes groups;
  groups.group_cols = 256;
  groups.scales = &one;
  QuantState state;
  state.codes = codes.data();
  state.cols = 256;
  state.groups = &groups;
  Tensor packed(codes.data(), Dtype::F8_GROUPS, {1, 256});
  packed.quant = &state;
  for (int64_t left = hwy::SupportedTargets(); left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    std::vector<float> out(256);
    unpack_row(out.data(), packed);
    for (int i = 0; i < 256; ++i) {
      const double size = (i & 0x78) == 0 ? std::ldexp(i & 7, -9) : std::ldexp(8 + (i & 7), (i >> 3 & 15) - 10);
      if ((i & 0x7f) == 0x7f) EXPECT_TRUE(std::isnan(out[static_cast<size_t>(i)])) << i;
      else EXPECT_EQ(static_cast<double>(out[static_cast<size_t>(i)]), i & 128 ? -size : size) << i;
    }
  }
  hwy::SetSupportedTargetsForTest(0);
}

TEST(GroupedRows, ProductsEqualThoseWithTheDequantisedMatrix) {
  Context ctx;
  for (const Dtype type : kTypes)
    for (const Shape& shape : {Shape{1, 32, true}, Shape{1, 64, true, true}, Shape{128, 128}})
      for (const int64_t M : {1, 7, 300}) {
        const int64_t N = 260, K = 576;
        const Coded w(type, ScaleType::f16, shape, N, K);
        std::vector<float> x = random_floats(M * K, 5), d_y = random_floats(M * N, 6), y(static_cast<size_t>(M * N)), want_y(y.size()),
                           d_x(static_cast<size_t>(M * K), 1), want_d_x(d_x.size(), 1);
        matmul_nt_parts(ctx, matrix(y, M, N), matrix(x, M, K), std::span(&w.packed, 1));
        matmul_nt_parts(ctx, matrix(want_y, M, N), matrix(x, M, K), std::span(&w.wide, 1));
        EXPECT_EQ(y, want_y) << name_of(type) << " " << M;
        matmul_nn_parts(ctx, matrix(d_x, M, K), matrix(d_y, M, N), std::span(&w.packed, 1), 1);
        matmul_nn_parts(ctx, matrix(want_d_x, M, K), matrix(d_y, M, N), std::span(&w.wide, 1), 1);
        expect_near(d_x, doubles(want_d_x), 1e-5, name_of(type));
      }
}

}  // namespace
}  // namespace loraine::grouped_rows_test
