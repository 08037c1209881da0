// Tiles through oneDNN's matmul: plain and added, both orders of w, strided; in f32 everywhere, in bf16 where the machine multiplies it.
#include "loraine/kernels/library_product.h"

#include "loraine/kernels/machine.h"
#include "loraine/kernels/row_dots.h"
#include "tests/support/op_check.h"

namespace loraine {
namespace {

bool check(Dtype type, int64_t m, int64_t n, int64_t k, bool transposed, bool add, double tolerance) {
  std::vector<float> x = random_floats(m * (k + 3), 1), w = random_floats(n * k, 2), y = random_floats(m * (n + 5), 3);
  std::vector<bf16> narrow(w.size());
  narrow_row(narrow.data(), w.data(), static_cast<int64_t>(w.size()));
  if (type == Dtype::BF16) widen_row(w.data(), narrow.data(), type, static_cast<int64_t>(w.size()));
  std::vector<double> want = doubles(y);
  for (int64_t i = 0; i < m; ++i) {
    for (int64_t j = 0; j < n; ++j) {
      double sum = 0;
      for (int64_t l = 0; l < k; ++l)
        sum += static_cast<double>(x[static_cast<size_t>(i * (k + 3) + l)]) * w[static_cast<size_t>(transposed ? j * k + l : l * n + j)];
      double& out = want[static_cast<size_t>(i * (n + 5) + j)];
      out = sum + (add ? out : 0);
    }
  }
  Tensor tw(type == Dtype::BF16 ? static_cast<void*>(narrow.data()) : w.data(), type, {transposed ? n : k, transposed ? k : n});
  std::vector<float> before = y;
  if (!library_tile(type, matrix(y, m, n + 5).col_range(0, n), matrix(x, m, k + 3).col_range(0, k), tw, transposed, add)) {
    EXPECT_EQ(y, before);
    return false;
  }
  expect_near(y, want, tolerance, "y");
  return true;
}

TEST(LibraryProduct, EqualsTheSumInDouble) {
  for (bool transposed : {false, true}) {
    for (bool add : {false, true}) {
      EXPECT_TRUE(check(Dtype::F32, 37, 50, 70, transposed, add, 2e-6));
      EXPECT_TRUE(check(Dtype::F32, 37, 50, 70, transposed, add, 2e-6));  // the primitive made before
      EXPECT_TRUE(check(Dtype::F32, 256, 192, 100, transposed, add, 2e-6));
      bool ran = check(Dtype::BF16, 37, 50, 70, transposed, add, 8e-3);
      ran = check(Dtype::BF16, 256, 192, 576, transposed, add, 8e-3) && ran;
      EXPECT_TRUE(ran || !has_bf16_products());
    }
  }
}

TEST(RowDots, NarrowingRoundsToNearestEven) {
  std::vector<float> in = random_floats(1001, 5);
  for (float special : {0.0f, -0.0f, INFINITY, -INFINITY, NAN, 1e-40f, 3.3895314e38f, 1.00390625f, 1.01171875f})
    in.insert(in.begin() + 3, special);
  std::vector<bf16> out(in.size());
  narrow_row(out.data(), in.data(), static_cast<int64_t>(in.size()));
  for (size_t i = 0; i < in.size(); ++i) EXPECT_EQ(out[i], f32_to_bf16(in[i])) << in[i];
}

}  // namespace
}  // namespace loraine
