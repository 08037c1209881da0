// Softmax cross entropy on the CPU, row by row; sums of exp are kept in double between blocks of fixed size.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/rows/exp_rows.h"

namespace loraine {

namespace {

// to [V] BF16 = from [V] F32 · factor; `to` may begin where `from` does.
void scale_and_narrow(bf16* to, const float* from, int64_t V, float factor) {
  constexpr int64_t kPiece = 512;
  float piece[kPiece];
  for (int64_t v = 0; v < V; v += kPiece) {
    const int64_t n = std::min(kPiece, V - v);
    std::copy(from + v, from + v + n, piece);
    scale_row(piece, n, factor);
    narrow_row(to + v, piece, n);
  }
}

}  // namespace

void cross_entropy_cpu(const Tensor& logits, const Tensor& d_logits, std::span<const int32_t> labels, std::span<double> losses,
                       std::span<uint8_t> correct, float grad_scale, float smoothing) {
  int64_t V = logits.cols();
  constexpr int64_t kBlock = 1024;
  parallel_for(logits.rows(), [&](int64_t t) {
    float* x = logits.f32() + t * logits.row_stride;
    size_t i = static_cast<size_t>(t);
    int64_t label = labels[i];
    float largest = max_row(x, V);
    float at_label = x[label];
    if (!correct.empty()) correct[i] = at_label == largest && std::find(x, x + label, largest) == x + label;
    double mean = 0;  // of the logits, for smoothing
    if (smoothing > 0) mean = std::accumulate(x, x + V, 0.0) / static_cast<double>(V);
    double sum = 0;  // with a gradient e^(x − max) stays in place and is scaled below
    for (int64_t v = 0; v < V; v += kBlock) {
      int64_t n = std::min(kBlock, V - v);
      sum += grad_scale == 0 ? sum_exp_row(x + v, n, largest) : exp_row(x + v, n, 1, largest);
    }
    losses[i] = std::log(sum) + largest - at_label;
    if (smoothing > 0) losses[i] += smoothing * (static_cast<double>(at_label) - mean);
    if (grad_scale == 0) return;
    const float factor = static_cast<float>(grad_scale / sum);
    const float shared = smoothing * grad_scale / static_cast<float>(V);
    const float d_label = x[label] * factor - (1 - smoothing) * grad_scale - shared;
    if (shared > 0)  // e^x · factor − shared, scaled below
      for (int64_t v = 0; v < V; ++v) x[v] -= shared / factor;
    if (d_logits.dtype == Dtype::F32) {
      scale_row(x, V, factor);
      x[label] = d_label;
    } else {
      bf16* d = static_cast<bf16*>(d_logits.data) + t * d_logits.row_stride;
      scale_and_narrow(d, x, V, factor);
      d[label] = f32_to_bf16(d_label);
    }
  });
}

}  // namespace loraine
