// Factors have the bits of a product; caps and their gradients are those of their formulas.
#include "loraine/kernels/rows/scaled_cuda.h"

#include <cmath>

#include "tests/support/gpu_check.h"

namespace loraine::scaled_cuda_test {
namespace {

constexpr Dtype kTypes[] = {Dtype::F32, Dtype::BF16};
struct ScaledCase {
  int64_t T, C, pad;
};
const ScaledCase kCases[] = {{3, 64, 8}, {4, 37, 3}};

TEST(ScaledCuda, Factors) {
  for (const ScaledCase& c : kCases)
    for (Dtype of_y : kTypes)
      for (Dtype of_x : kTypes) {
        std::vector<float> x = as_stored(random_floats(c.T * c.C, 1), of_x), want = x;
        for (float& value : want) value *= 1.7f;
        DeviceMatrix gx(of_x, c.T, c.C, x, c.pad), gy(of_y, c.T, c.C, {}, c.pad);
        EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                    scale_cuda(s, gy.tensor(), gx.tensor(), 1.7f);
                    return gy.get(s);
                  }),
                  as_stored(want, of_y));
      }
}

TEST(ScaledCuda, FactorsOfRows) {
  for (const ScaledCase& c : kCases)
    for (Dtype type : kTypes) {
      const std::vector<float> factors = random_floats(c.T, 3);
      std::vector<float> x = as_stored(random_floats(c.T * c.C, 1), type), want = x;
      for (size_t i = 0; i < want.size(); ++i) want[i] *= factors[i / static_cast<size_t>(c.C)];
      DeviceMatrix gx(type, c.T, c.C, x, c.pad);
      const DeviceArray<float> of_rows(factors);
      EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                  gx.reset(s);
                  scale_rows_cuda(s, gx.tensor(), of_rows.data());
                  return gx.get(s);
                }),
                as_stored(want, type));
    }
}

TEST(ScaledCuda, CapsAndTheirGradients) {
  constexpr double kCap = 1.5;
  for (const ScaledCase& c : kCases)
    for (Dtype of_d : kTypes) {
      std::vector<float> x = random_floats(c.T * c.C, 1), d = as_stored(random_floats(c.T * c.C, 2), of_d);
      for (float& value : x) value *= 3;
      DeviceMatrix gx(Dtype::F32, c.T, c.C, x, c.pad), gd(of_d, c.T, c.C, d, c.pad);
      const std::vector<float> capped = in_all_orders([&](GpuStream& s) {
        gx.reset(s);
        soft_cap_cuda(s, gx.tensor(), gx.tensor(), static_cast<float>(kCap));
        return gx.get(s);
      });
      const std::vector<float> gradient = in_all_orders([&](GpuStream& s) {
        gd.reset(s), gx.reset(s);
        soft_cap_cuda(s, gx.tensor(), gx.tensor(), static_cast<float>(kCap));
        soft_cap_backward_cuda(s, gd.tensor(), gx.tensor(), static_cast<float>(kCap));
        return gd.get(s);
      });
      for (size_t i = 0; i < x.size(); ++i) {
        const double t = std::tanh(x[i] / kCap);
        ASSERT_NEAR(capped[i], kCap * t, 1e-6);
        ASSERT_NEAR(gradient[i], d[i] * (1 - t * t), of_d == Dtype::F32 ? 1e-6 : 0.01);
      }
    }
}

}  // namespace
}  // namespace loraine::scaled_cuda_test
