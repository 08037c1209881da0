// Columns scaled and summed as on the CPU; norms of a sum of matrices against double.
#include "loraine/kernels/rows/columns_cuda.h"

#include <cmath>

#include "loraine/kernels/rows/columns.h"
#include "tests/support/gpu_check.h"

namespace loraine::columns_cuda_test {
namespace {

constexpr Dtype kTypes[] = {Dtype::F32, Dtype::BF16};
struct ColumnsCase {
  int64_t T, C, pad;
};
const ColumnsCase kCases[] = {{3, 64, 8}, {70, 37, 3}, {130, 300, 0}};

TEST(ColumnsCuda, Scaled) {
  for (const ColumnsCase& c : kCases)
    for (Dtype of_y : kTypes)
      for (Dtype of_x : kTypes)
        for (bool accumulate : {false, true}) {
          std::vector<float> x = as_stored(random_floats(c.T * c.C, 1), of_x), y = as_stored(random_floats(c.T * c.C, 2), of_y),
                             want(y.size());
          const std::vector<float> scale = random_floats(c.C, 3);
          for (size_t i = 0; i < want.size(); ++i) {
            const float product = scale[i % static_cast<size_t>(c.C)] * x[i];
            want[i] = accumulate ? product + y[i] : product;
          }
          DeviceMatrix gx(of_x, c.T, c.C, x, c.pad), gy(of_y, c.T, c.C, y, c.pad);
          const DeviceArray<float> factors(scale);
          EXPECT_EQ(in_all_orders([&](GpuStream& s) {
                      gy.reset(s);
                      scale_columns_cuda(s, gy.tensor(), gx.tensor(), factors.data(), accumulate);
                      return gy.get(s);
                    }),
                    as_stored(want, of_y));
        }
}

TEST(ColumnsCuda, Dots) {
  for (const ColumnsCase& c : kCases)
    for (Dtype of_a : kTypes)
      for (Dtype of_b : kTypes) {
        std::vector<float> a = as_stored(random_floats(c.T * c.C, 1), of_a), b = as_stored(random_floats(c.T * c.C, 2), of_b),
                           d = random_floats(c.C, 3), divisor = random_floats(c.C, 4);
        std::vector<double> want(d.begin(), d.end());
        for (size_t i = 0; i < a.size(); ++i) {
          const size_t column = i % static_cast<size_t>(c.C);
          want[column] += static_cast<double>(a[i]) * b[i] / divisor[column];
        }
        DeviceMatrix ga(of_a, c.T, c.C, a, c.pad), gb(of_b, c.T, c.C, b, c.pad), gd(Dtype::F32, 1, c.C, d);
        const DeviceArray<float> by(divisor);
        const DeviceArray<double> partial(static_cast<size_t>(column_dots_room(c.T, c.C)));
        const std::vector<float> got = in_all_orders([&](GpuStream& s) {
          gd.reset(s);
          column_dots_cuda(s, gd.tensor().f32(), ga.tensor(), gb.tensor(), by.data(), partial.data());
          return gd.get(s);
        });
        for (size_t i = 0; i < want.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-6 * (1 + std::abs(want[i])));
      }
}

TEST(ColumnsCuda, NormsOfSums) {
  const int64_t out = 300, in = 37, r = 3;
  const float scale = 1.5f;
  for (Dtype of_w : kTypes) {
    const std::vector<float> w = as_stored(random_floats(out * in, 1), of_w), a = random_floats(r * in, 2), b = random_floats(out * r, 3),
                             magnitude = random_floats(out, 4);
    std::vector<float> w_a(static_cast<size_t>(out * r)), b_a_a(w_a.size());
    std::vector<double> squares(static_cast<size_t>(out)), norms(squares.size());
    const auto at = [](const std::vector<float>& m, int64_t row, int64_t col, int64_t cols) {
      return static_cast<double>(m[static_cast<size_t>(row * cols + col)]);
    };
    for (int64_t o = 0; o < out; ++o) {
      double square = 0, norm = 0;
      for (int64_t i = 0; i < in; ++i) {
        double sum = at(w, o, i, in);
        square += sum * sum;
        for (int64_t k = 0; k < r; ++k) sum += scale * at(b, o, k, r) * at(a, k, i, in);
        norm += sum * sum;
      }
      squares[static_cast<size_t>(o)] = square, norms[static_cast<size_t>(o)] = std::sqrt(norm);
      for (int64_t k = 0; k < r; ++k) {
        double with_w = 0, with_b = 0;
        for (int64_t i = 0; i < in; ++i) {
          with_w += at(w, o, i, in) * at(a, k, i, in);
          for (int64_t j = 0; j < r; ++j) with_b += at(b, o, j, r) * at(a, j, i, in) * at(a, k, i, in);
        }
        w_a[static_cast<size_t>(o * r + k)] = static_cast<float>(with_w),
                                        b_a_a[static_cast<size_t>(o * r + k)] = static_cast<float>(with_b);
      }
    }
    const DeviceMatrix gw(of_w, out, in, w, 3);
    const DeviceArray<float> of_w_a(w_a), of_b(b), of_b_a_a(b_a_a), m(magnitude);
    const DeviceArray<double> of_rows(static_cast<size_t>(out));
    const DeviceArray<float> results(static_cast<size_t>(3 * out));
    const std::vector<float> got = in_all_orders([&](GpuStream& s) {
      row_squares_cuda(s, of_rows.data(), gw.tensor());
      sum_norms_cuda(s,
                     {results.data(), results.data() + out, results.data() + 2 * out, of_rows.data(), of_w_a.data(), of_b.data(),
                      of_b_a_a.data(), m.data(), scale},
                     out, r);
      return results.get(s);
    });
    GpuStream s;
    const std::vector<double> got_squares = of_rows.get(s);
    for (size_t o = 0; o < norms.size(); ++o) {
      ASSERT_NEAR(got_squares[o], squares[o], 1e-12 * squares[o]);
      ASSERT_NEAR(got[o], norms[o], 1e-5 * norms[o]);
      const size_t n = norms.size();
      ASSERT_NEAR(got[n + o], magnitude[o] / norms[o], 1e-5);
      ASSERT_EQ(got[2 * n + o], got[n + o] - 1);
    }
  }
}

}  // namespace
}  // namespace loraine::columns_cuda_test
