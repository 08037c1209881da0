// Scalar conversions against the definition, views, and the two passes of an arena.
#include <gtest/gtest.h>

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/core/tensor.h"

namespace loraine::core_test {
namespace {

TEST(Dtype, HalfRoundTripsEveryValue) {
  for (uint32_t h = 0; h < 65536; ++h) {
    float x = f16_to_f32(static_cast<f16>(h));
    if (std::isnan(x)) {
      EXPECT_TRUE(std::isnan(f16_to_f32(f32_to_f16(x))));
      continue;
    }
    EXPECT_EQ(f32_to_f16(x), h) << x;
  }
  EXPECT_EQ(f32_to_f16(65520.0f), 0x7c00);
  EXPECT_EQ(f32_to_f16(65519.0f), 0x7bff);
}

TEST(Dtype, BfloatRoundsToNearestEven) {
  EXPECT_EQ(f32_to_bf16(1.0f), 0x3f80);
  EXPECT_EQ(f32_to_bf16(1.00390625f), 0x3f80);  // halfway, down to even
  EXPECT_EQ(f32_to_bf16(1.01171875f), 0x3f82);  // halfway, up to even
  EXPECT_TRUE(std::isnan(bf16_to_f32(f32_to_bf16(NAN))));
}

TEST(Tensor, ViewsKeepTheRowStride) {
  float data[12];
  Tensor t(data, Dtype::F32, {3, 4});
  Tensor c = t.col_range(1, 2).row_range(1, 2);
  EXPECT_EQ(c.f32(), data + 5);
  EXPECT_EQ(c.row_stride, 4);
  EXPECT_FALSE(c.contiguous());
  EXPECT_EQ(c.shape_text(), "[2, 2]");
}

TEST(Arena, DryPassMeasuresWhatTheRealPassUses) {
  auto use = [](Arena& a) {
    a.take(Dtype::F32, {3, 5});
    size_t m = a.mark();
    a.take(Dtype::BF16, {100});
    a.release(m);
    a.take(Dtype::U8, {1});
  };
  Arena dry;
  use(dry);
  Arena real(dry.peak());
  use(real);
  EXPECT_EQ(real.peak(), dry.peak());
  EXPECT_THROW(real.take(Dtype::F32, {1000}), Error);
}

}  // namespace
}  // namespace loraine::core_test
