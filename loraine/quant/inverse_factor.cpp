// One Cholesky and one triangular inverse, in blocks whose products oneDNN computes. With R the reversal of rows and columns, R H R = L Lᵀ
// gives H = (R L R)(R L R)ᵀ with R L R upper triangular, so U = R L^-1 R has Uᵀ U = H^-1.
#include "loraine/quant/inverse_factor.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

constexpr int64_t kFactorBlock = 128;

Tensor block_of(const Tensor& m, int64_t row, int64_t rows, int64_t col, int64_t cols) {
  return m.row_range(row, rows).col_range(col, cols);
}

float* row_of(const Tensor& m, int64_t row) { return static_cast<float*>(m.data) + row * m.row_stride; }

// The lower triangle of a small block to its Cholesky factor, sums in double; false where it has none.
bool factor_block(const Tensor& block) {
  for (int64_t j = 0; j < block.rows(); ++j) {
    float* at_j = row_of(block, j);
    double pivot = static_cast<double>(at_j[j]);
    for (int64_t k = 0; k < j; ++k) pivot -= static_cast<double>(at_j[k]) * static_cast<double>(at_j[k]);
    if (!(pivot > 0) || !std::isfinite(pivot)) return false;
    const double root = std::sqrt(pivot);
    at_j[j] = static_cast<float>(root);
    for (int64_t i = j + 1; i < block.rows(); ++i) {
      float* at_i = row_of(block, i);
      double sum = static_cast<double>(at_i[j]);
      for (int64_t k = 0; k < j; ++k) sum -= static_cast<double>(at_i[k]) * static_cast<double>(at_j[k]);
      at_i[j] = static_cast<float>(sum / root);
    }
  }
  return true;
}

// out [b, b] = the inverse of the lower triangle of `block`, zeros above.
void invert_block(const Tensor& out, const Tensor& block) {
  const int64_t b = block.rows();
  std::vector<double> inverse(static_cast<size_t>(b * b), 0);
  for (int64_t i = 0; i < b; ++i) {
    const float* at_i = row_of(block, i);
    double* to = inverse.data() + i * b;
    for (int64_t k = 0; k < i; ++k)
      for (int64_t j = 0; j <= k; ++j) to[j] -= static_cast<double>(at_i[k]) * inverse[static_cast<size_t>(k * b + j)];
    to[i] += 1;
    for (int64_t j = 0; j <= i; ++j) to[j] /= static_cast<double>(at_i[i]);
  }
  for (int64_t i = 0; i < b; ++i)
    for (int64_t j = 0; j < b; ++j) row_of(out, i)[j] = static_cast<float>(inverse[static_cast<size_t>(i * b + j)]);
}

// a [n, n], its lower triangle: to L with L Lᵀ = a; false where there is none. inverses [n, b]: of the blocks on the diagonal.
bool factor(Context& ctx, const Tensor& a, const Tensor& inverses) {
  const int64_t n = a.rows();
  Buffer panel_memory(static_cast<size_t>(n * kFactorBlock) * sizeof(float));
  for (int64_t k = 0; k < n; k += kFactorBlock) {
    const int64_t b = std::min(kFactorBlock, n - k), below = n - k - b;
    const Tensor diagonal = block_of(a, k, b, k, b), inverse = block_of(inverses, k, b, 0, b);
    if (!factor_block(diagonal)) return false;
    invert_block(inverse, diagonal);
    if (below == 0) break;
    const Tensor panel(panel_memory.data(), Dtype::F32, {below, b}), place = block_of(a, k + b, below, k, b);
    matmul_nt(ctx, panel, place, inverse);
    for (int64_t i = 0; i < below; ++i) std::copy_n(row_of(panel, i), b, row_of(place, i));
    for (int64_t i = 0; i < below; i += kFactorBlock) {
      const int64_t rows = std::min(kFactorBlock, below - i);
      matmul_nt(ctx, block_of(a, k + b + i, rows, k + b, i + rows), panel.row_range(i, rows), panel.row_range(0, i + rows), -1, 1);
    }
  }
  return true;
}

// m [n, n], zeros at first: L^-1.
void invert(Context& ctx, const Tensor& m, const Tensor& lower, const Tensor& inverses) {
  const int64_t n = lower.rows();
  Buffer memory(static_cast<size_t>(n * kFactorBlock) * sizeof(float));
  for (int64_t k = 0; k < n; k += kFactorBlock) {
    const int64_t b = std::min(kFactorBlock, n - k);
    const Tensor inverse = block_of(inverses, k, b, 0, b);
    for (int64_t i = 0; i < b; ++i) std::copy_n(row_of(inverse, i), b, row_of(m, k + i) + k);
    if (k == 0) continue;
    const Tensor product(memory.data(), Dtype::F32, {b, k});
    matmul_nn(ctx, product, block_of(lower, k, b, 0, k), block_of(m, 0, k, 0, k));
    matmul_nn(ctx, block_of(m, k, b, 0, k), inverse, product, -1);
  }
}

}  // namespace

InverseFactor inverse_factor(Context& ctx, const Tensor& hessian, double damp, std::vector<int64_t> order) {
  const int64_t n = hessian.rows();
  InverseFactor result{std::move(order), std::vector<bool>(static_cast<size_t>(n)), Buffer(hessian.bytes(), true)};
  result.upper = Tensor(result.memory.data(), Dtype::F32, {n, n});
  double mean = 0;
  for (int64_t i = 0; i < n; ++i) {
    result.dead[static_cast<size_t>(i)] = row_of(hessian, i)[i] == 0;
    mean += result.dead[static_cast<size_t>(i)] ? 1 : static_cast<double>(row_of(hessian, i)[i]);
  }
  mean /= static_cast<double>(n);
  const Buffer lower_memory(hessian.bytes()), inverse_memory(static_cast<size_t>(n * kFactorBlock) * sizeof(float));
  const Tensor lower(lower_memory.data(), Dtype::F32, {n, n}), inverses(inverse_memory.data(), Dtype::F32, {n, kFactorBlock});
  for (result.damp = damp;; result.damp += kDampStep) {
    if (!(result.damp < 1))
      throw Error(ErrorKind::numeric, fmt::format("the sums of squares of a layer's {} inputs have no Cholesky factor", n),
                  "are there texts enough in export_quantization_dataset, and is the model finite?");
    const auto reversed = [&](int64_t i) {
      const int64_t from = result.order[static_cast<size_t>(n - 1 - i)];
      for (int64_t j = 0; j <= i; ++j) row_of(lower, i)[j] = row_of(hessian, from)[result.order[static_cast<size_t>(n - 1 - j)]];
      if (result.dead[static_cast<size_t>(from)]) row_of(lower, i)[i] = 1;
      row_of(lower, i)[i] += static_cast<float>(result.damp * mean);
    };
    parallel_for(n, reversed, 64);
    if (factor(ctx, lower, inverses)) break;
  }
  Buffer inverted_memory(hessian.bytes(), true);
  const Tensor inverted(inverted_memory.data(), Dtype::F32, {n, n});
  invert(ctx, inverted, lower, inverses);
  parallel_for(
      n, [&](int64_t i) { std::reverse_copy(row_of(inverted, n - 1 - i), row_of(inverted, n - 1 - i) + n, row_of(result.upper, i)); }, 64);
  return result;
}

std::vector<int64_t> order_within_groups(const Tensor& hessian, int64_t group_size) {
  const int64_t n = hessian.rows(), groups = n / group_size;
  const auto at = [&](int64_t i) { return row_of(hessian, i)[i]; };
  std::vector<std::vector<int64_t>> columns(static_cast<size_t>(groups));
  for (int64_t g = 0; g < groups; ++g) {
    std::vector<int64_t>& own = columns[static_cast<size_t>(g)];
    own.resize(static_cast<size_t>(group_size));
    std::iota(own.begin(), own.end(), g * group_size);
    std::ranges::stable_sort(own, [&](int64_t a, int64_t b) { return at(a) > at(b); });
  }
  std::ranges::stable_sort(columns, [&](const auto& a, const auto& b) { return at(a.front()) > at(b.front()); });
  std::vector<int64_t> order;
  for (const std::vector<int64_t>& own : columns) order.insert(order.end(), own.begin(), own.end());
  for (int64_t i = groups * group_size; i < n; ++i) order.push_back(i);
  return order;
}

}  // namespace loraine
