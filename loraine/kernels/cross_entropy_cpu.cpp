// Softmax cross entropy on the CPU, row by row; sums of exp are kept in double between blocks of fixed size.
#include <algorithm>
#include <cmath>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES float max_row(const float* x, int64_t n) {
  float best = x[0];
#pragma omp simd reduction(max : best)
  for (int64_t i = 0; i < n; ++i) best = x[i] > best ? x[i] : best;
  return best;
}

LORAINE_CLONES float sum_exp(const float* x, int64_t n, float shift) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += exp_f32(x[i] - shift);
  return sum;
}

LORAINE_CLONES void softmax_in_place(float* x, int64_t n, float shift, float scale) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) x[i] = exp_f32(x[i] - shift) * scale;
}

}  // namespace

void cross_entropy_cpu(const Tensor& logits, std::span<const int32_t> labels, std::span<double> losses, std::span<uint8_t> correct,
                       float grad_scale) {
  int64_t V = logits.cols();
  constexpr int64_t kBlock = 1024;
  parallel_for(logits.rows(), [&](int64_t t) {
    float* x = logits.f32() + t * logits.row_stride;
    size_t i = static_cast<size_t>(t);
    int64_t label = labels[i];
    float largest = max_row(x, V);
    double sum = 0;
    for (int64_t v = 0; v < V; v += kBlock) sum += sum_exp(x + v, std::min(kBlock, V - v), largest);
    losses[i] = std::log(sum) + largest - x[label];
    if (!correct.empty()) correct[i] = x[label] == largest && std::find(x, x + label, largest) == x + label;
    if (grad_scale == 0) return;
    softmax_in_place(x, V, largest, static_cast<float>(grad_scale / sum));
    x[label] -= grad_scale;
  });
}

}  // namespace loraine
