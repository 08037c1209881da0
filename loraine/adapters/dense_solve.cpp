// Row by row, the rows in parallel where each is by itself.
#include "loraine/adapters/dense_solve.h"

#include <cmath>

#include "loraine/kernels/base/parallel.h"

namespace loraine {
namespace {

double dot_of(const double* a, const double* b, int64_t n) {
  double sums[4] = {};
  int64_t i = 0;
  for (; i + 4 <= n; i += 4)
    for (int64_t k = 0; k < 4; ++k) sums[k] += a[i + k] * b[i + k];
  for (; i < n; ++i) sums[0] += a[i] * b[i];
  return (sums[0] + sums[1]) + (sums[2] + sums[3]);
}

}  // namespace

void product_nt(std::vector<double>& out, const std::vector<double>& a, const std::vector<double>& b, int64_t m, int64_t n, int64_t k) {
  parallel_for(m, [&](int64_t i) {
    for (int64_t j = 0; j < n; ++j) out[static_cast<size_t>(i * n + j)] = dot_of(a.data() + i * k, b.data() + j * k, k);
  });
}

bool factor_cholesky(std::vector<double>& m, int64_t n) {
  for (int64_t j = 0; j < n; ++j) {
    double* const row = m.data() + j * n;
    const double square = row[j] - dot_of(row, row, j);
    if (!(square > 0)) return false;
    const double root = row[j] = std::sqrt(square);
    const auto divide = [&](int64_t i) {
      double* const below = m.data() + (j + 1 + i) * n;
      below[j] = (below[j] - dot_of(below, row, j)) / root;
    };
    parallel_for(n - j - 1, divide, 16384 / (j + 1) + 1);
  }
  return true;
}

void solve_cholesky(const std::vector<double>& l, std::vector<double>& x, int64_t n) {
  for (int64_t i = 0; i < n; ++i)
    x[static_cast<size_t>(i)] = (x[static_cast<size_t>(i)] - dot_of(l.data() + i * n, x.data(), i)) / l[static_cast<size_t>(i * n + i)];
  for (int64_t i = n; i-- > 0;) {
    const double value = x[static_cast<size_t>(i)] /= l[static_cast<size_t>(i * n + i)];
    for (int64_t k = 0; k < i; ++k) x[static_cast<size_t>(k)] -= l[static_cast<size_t>(i * n + k)] * value;
  }
}

std::vector<double> pseudo_inverse(const std::vector<double>& m, int64_t rows, int64_t cols) {
  std::vector<double> turned(m.size()), inverse(m.size());
  for (int64_t i = 0; i < rows; ++i)
    for (int64_t j = 0; j < cols; ++j) turned[static_cast<size_t>(j * rows + i)] = m[static_cast<size_t>(i * cols + j)];
  const bool wide = rows <= cols;
  const int64_t n = wide ? rows : cols;
  std::vector<double> square(static_cast<size_t>(n * n));
  if (wide) product_nt(square, m, m, n, n, cols);
  else product_nt(square, turned, turned, n, n, rows);
  if (!factor_cholesky(square, n)) return {};
  // wide: row j of the result solves (m mᵀ) x = column j of m; else column i solves (mᵀ m) x = row i of m.
  parallel_for(wide ? cols : rows, [&](int64_t i) {
    const std::vector<double>& from = wide ? turned : m;
    std::vector<double> x(from.begin() + i * n, from.begin() + (i + 1) * n);
    solve_cholesky(square, x, n);
    for (int64_t k = 0; k < n; ++k) inverse[static_cast<size_t>(wide ? i * rows + k : k * rows + i)] = x[static_cast<size_t>(k)];
  });
  return inverse;
}

}  // namespace loraine
