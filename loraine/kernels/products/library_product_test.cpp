// bf16 tiles through oneDNN's matmul: plain, scaled and added, all orders, strided, fixed and changing sizes, both types of y.
#include "loraine/kernels/products/library_product.h"

#include <cmath>

#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/products/row_dots.h"
#include "tests/support/op_check.h"

namespace loraine::library_product_test {
namespace {

void check(int64_t m, int64_t n, int64_t k, bool x_t, bool w_t, float alpha, bool add, Dtype y_type) {
  const int64_t x_rows = x_t ? k : m, x_cols = x_t ? m : k, w_rows = w_t ? n : k, w_cols = w_t ? k : n;
  std::vector<bf16> x = to_bf16(random_floats(x_rows * (x_cols + 3), 1)), w = to_bf16(random_floats(w_rows * (w_cols + 2), 2)),
                    y16 = to_bf16(random_floats(m * (n + 5), 3));
  std::vector<float> y = to_floats(y16);
  std::vector<double> want = doubles(y);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l) {
        const int64_t at_x = x_t ? l * (x_cols + 3) + i : i * (x_cols + 3) + l, at_w = w_t ? j * (w_cols + 2) + l : l * (w_cols + 2) + j;
        sum += static_cast<double>(bf16_to_f32(x[static_cast<size_t>(at_x)])) * bf16_to_f32(w[static_cast<size_t>(at_w)]);
      }
      double& out = want[static_cast<size_t>(i * (n + 5) + j)];
      out = alpha * sum + (add ? out : 0);
    }
  }
  const Tensor all = y_type == Dtype::F32 ? matrix(y, m, n + 5) : matrix(y16, m, n + 5);
  bf16_tile(all.col_range(0, n), matrix(x, x_rows, x_cols + 3).col_range(0, x_cols), matrix(w, w_rows, w_cols + 2).col_range(0, w_cols),
            x_t, w_t, alpha, add);
  if (y_type == Dtype::BF16) y = to_floats(y16);
  expect_near(y, want, y_type == Dtype::F32 ? 3e-6 : 4e-3, "y");
}

TEST(LibraryProduct, EqualsTheSumInDouble) {
  if (!has_bf16_instructions()) GTEST_SKIP() << "this machine does not multiply bf16";
  for (bool x_t : {false, true}) {
    for (bool w_t : {false, true}) {
      for (bool add : {false, true}) {
        SCOPED_TRACE(::testing::Message() << x_t << w_t << add);
        for (Dtype y_type : {Dtype::F32, Dtype::BF16}) {
          check(37, 50, 70, x_t, w_t, 1, add, y_type);
          check(13, 8, 71, x_t, w_t, 2, add, y_type);  // the same primitive at another size
          check(64, 192, 576, x_t, w_t, 1, add, y_type);
          check(64, 24, 64, x_t, w_t, 0.7f, add, y_type);
          check(1, 1, 1, x_t, w_t, 1, add, y_type);
        }
      }
    }
  }
}

TEST(RowDots, NarrowingRoundsToNearestEven) {
  std::vector<float> in = random_floats(1001, 5);
  for (float special : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 3.3895314e38f, 1.00390625f, 1.01171875f})
    in.insert(in.begin() + 3, special);
  std::vector<bf16> out(in.size());
  narrow_row(out.data(), in.data(), static_cast<int64_t>(in.size()));
  for (size_t i = 0; i < in.size(); ++i) {
    const bool zero = has_bf16_rounding && std::fpclassify(in[i]) == FP_SUBNORMAL;
    EXPECT_EQ(out[i], f32_to_bf16(zero ? std::copysign(0.0f, in[i]) : in[i])) << in[i];
  }
}

}  // namespace
}  // namespace loraine::library_product_test
