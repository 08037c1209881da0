// Checks of the Gaussian top-k, its rows on the CPU, and the quantile.
#include "loraine/kernels/activations/gaussian_topk.h"

#include <cmath>

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

struct Spread {
  float mean = 0, deviation = 0;
};

LORAINE_CLONES Spread spread_row(const float* x, int64_t C) {
  float sum = 0, squares = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) sum += x[c];
  const float mean = sum / static_cast<float>(C);
#pragma omp simd reduction(+ : squares)
  for (int64_t c = 0; c < C; ++c) squares += (x[c] - mean) * (x[c] - mean);
  return {mean, std::sqrt(squares / static_cast<float>(C))};
}

LORAINE_CLONES void above_row(float* y, const float* x, float cutoff, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = x[c] > cutoff ? x[c] - cutoff : 0.0f;
}

// d of what lies below becomes 0; returns the sum of the rest.
LORAINE_CLONES float mask_row(float* d, const float* x, float cutoff, int64_t C) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t c = 0; c < C; ++c) {
    d[c] = x[c] > cutoff ? d[c] : 0.0f;
    sum += d[c];
  }
  return sum;
}

// The cutoff's own gradient, −sum, through mean and deviation.
LORAINE_CLONES void cutoff_row(float* d, const float* x, float mean, float by_mean, float by_deviation, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) d[c] -= by_mean + by_deviation * (x[c] - mean);
}

}  // namespace

void gaussian_topk(Context& ctx, const Tensor& y, const Tensor& x, float deviations) {
  const int64_t C = x.cols();
  check_activation("gaussian_topk", "y", y, x.rows(), C);
  check_activation("gaussian_topk", "x", x, x.rows(), C);
  dispatch(ctx, "gaussian_topk", [&] {
    parallel_for(
        x.rows(),
        [&](int64_t t) {
          float* room = row_room(2 * C);
          float* out = begin_row(y, t, room);
          const float* in = read_row(x, t, room + C);
          const Spread spread = spread_row(in, C);
          above_row(out, in, spread.mean + spread.deviation * deviations, C);
          finish_row(y, t, out);
        },
        row_chunk(C));
  });
}

void gaussian_topk_backward(Context& ctx, const Tensor& d, const Tensor& x, float deviations) {
  const int64_t C = x.cols();
  check_activation("gaussian_topk_backward", "d", d, x.rows(), C);
  check_activation("gaussian_topk_backward", "x", x, x.rows(), C);
  dispatch(ctx, "gaussian_topk_backward", [&] {
    parallel_for(
        x.rows(),
        [&](int64_t t) {
          float* room = row_room(2 * C);
          float* out = begin_row(d, t, room);
          const float* in = read_row(x, t, room + C);
          if (out == room) read_row(d, t, room);
          const Spread spread = spread_row(in, C);
          const float share = mask_row(out, in, spread.mean + spread.deviation * deviations, C) / static_cast<float>(C);
          cutoff_row(out, in, spread.mean, share, spread.deviation > 0 ? share * deviations / spread.deviation : 0, C);
          finish_row(d, t, out);
        },
        row_chunk(C));
  });
}

float normal_quantile(double sparsity) {
  check_op(sparsity > 0 && sparsity < 1, "normal_quantile", "a share between 0 and 1 is expected");
  double below = -40, above = 40;
  for (int step = 0; step < 100; ++step) {
    const double middle = (below + above) / 2;
    (0.5 * std::erfc(-middle / std::sqrt(2.0)) < sparsity ? below : above) = middle;
  }
  return static_cast<float>((below + above) / 2);
}

}  // namespace loraine
