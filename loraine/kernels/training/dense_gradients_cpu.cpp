// Gradients of dense tensors on the CPU: a tile of columns belongs to one thread, which goes through the rows in order.
#include <algorithm>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"

namespace loraine {
namespace {

constexpr int64_t kTile = 64;

// out[c] += Σ_t f(t, row of d_y, row of x)[c] in double; x may be d_y.
template <class Term>
void sum_rows(float* out, const Tensor& d_y, const Tensor& x, const Term& term) {
  const int64_t C = d_y.cols(), T = d_y.rows();
  parallel_for((C + kTile - 1) / kTile, [&](int64_t tile) {
    const int64_t first = tile * kTile, count = std::min(kTile, C - first);
    const Tensor dy = d_y.col_range(first, count), in = x.col_range(first, count);
    double sum[kTile] = {};
    float room[2 * kTile];
    for (int64_t t = 0; t < T; ++t) {
      const float *g = read_row(dy, t, room), *v = read_row(in, t, room + kTile);
      for (int64_t c = 0; c < count; ++c) sum[c] += term(t, g[c], v[c]);
    }
    for (int64_t c = 0; c < count; ++c) out[first + c] += static_cast<float>(sum[c]);
  });
}

}  // namespace

void norm_weight_gradient_cpu(const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& rstd) {
  const float* r = rstd.f32();
  sum_rows(d_weight.f32(), d_y, x,
           [&](int64_t t, float g, float v) { return static_cast<double>(g) * v * static_cast<double>(r[t * rstd.row_stride]); });
}

void layer_norm_weight_gradient_cpu(const Tensor& d_weight, const Tensor& d_y, const Tensor& x, const Tensor& mean, const Tensor& rstd) {
  const float *m = mean.f32(), *r = rstd.f32();
  sum_rows(d_weight.f32(), d_y, x, [&](int64_t t, float g, float v) {
    return static_cast<double>(g) * (static_cast<double>(v) - m[t * mean.row_stride]) * static_cast<double>(r[t * rstd.row_stride]);
  });
}

void bias_gradient_cpu(const Tensor& d_bias, const Tensor& d_y) {
  sum_rows(d_bias.f32(), d_y, d_y, [](int64_t, float g, float) { return static_cast<double>(g); });
}

void embedding_gradient_cpu(const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens) {
  const int64_t C = d_table.cols();
  parallel_for((C + kTile - 1) / kTile, [&](int64_t tile) {
    const int64_t first = tile * kTile, count = std::min(kTile, C - first);
    for (size_t t = 0; t < tokens.size(); ++t) {
      float* to = d_table.f32() + tokens[t] * d_table.row_stride + first;
      const float* from = d_y.f32() + static_cast<int64_t>(t) * d_y.row_stride + first;
      for (int64_t c = 0; c < count; ++c) to[c] += from[c];
    }
  });
}

void column_lookup_cpu(const Tensor& y, const Tensor& table, std::span<const int32_t> tokens) {
  for (size_t t = 0; t < tokens.size(); ++t)
    for (int64_t i = 0; i < table.rows(); ++i)
      y.f32()[static_cast<int64_t>(t) * y.row_stride + i] = table.f32()[i * table.row_stride + tokens[t]];
}

void column_lookup_backward_cpu(const Tensor& d_table, const Tensor& d_y, std::span<const int32_t> tokens) {
  for (size_t t = 0; t < tokens.size(); ++t)
    for (int64_t i = 0; i < d_table.rows(); ++i)
      d_table.f32()[i * d_table.row_stride + tokens[t]] += d_y.f32()[static_cast<int64_t>(t) * d_y.row_stride + i];
}

}  // namespace loraine
