// Every row of a tile has the bits of the row alone, on every instruction set that this machine runs.
#include "loraine/kernels/products/dot_tiles.h"

#include <hwy/targets.h>

#include "loraine/kernels/products/row_dots.h"
#include "tests/support/op_check.h"

namespace loraine::dot_tiles_test {
namespace {

TEST(DotTiles, HaveTheBitsOfRowDots) {
  for (int64_t target = hwy::SupportedTargets(), left = target; left; left &= left - 1) {
    hwy::SetSupportedTargetsForTest(left & -left);
    for (int64_t K : {1, 7, 40, 531, 4133})
      for (int64_t rows : {1, 2, 3, 32})
        for (int64_t x_rows : {1, 2, 3, 4, 7, 32}) {
          std::vector<float> x = random_floats(x_rows * (K + 3), 1), w = random_floats(rows * (K + 5), 2);
          for (Dtype dtype : {Dtype::F32, Dtype::F16, Dtype::BF16}) {
            std::vector<uint16_t> narrow(w.size());
            if (dtype != Dtype::F32) convert(narrow.data(), dtype, w.data(), Dtype::F32, static_cast<int64_t>(w.size()));
            void* data = dtype == Dtype::F32 ? static_cast<void*>(w.data()) : narrow.data();
            const Tensor weight = Tensor(data, dtype, {rows, K + 5}).col_range(0, K);
            std::vector<float> sums(static_cast<size_t>(x_rows * 33), 5.0f), want = sums;
            dot_tiles(sums.data(), 33, weight, x.data(), K + 3, x_rows);
            for (int64_t m = 0; m < x_rows; ++m) row_dots(want.data() + m * 33, weight, x.data() + m * (K + 3));
            ASSERT_EQ(sums, want) << name_of(dtype) << " " << rows << " x " << x_rows << " x " << K << " on "
                                  << hwy::TargetName(left & -left);
          }
        }
  }
  hwy::SetSupportedTargetsForTest(0);
}

}  // namespace
}  // namespace loraine::dot_tiles_test
