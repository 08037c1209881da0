// Softmax cross entropy on the CPU, row by row; sums of exp are kept in double between blocks of fixed size.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <span>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/training/cross_entropy.h"

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

constexpr int64_t kBlock = 1024;

// Σ e^(x − largest); with `in_place` x becomes those.
double sum_exp(float* x, int64_t V, float largest, bool in_place) {
  double sum = 0;
  for (int64_t v = 0; v < V; v += kBlock) {
    const int64_t n = std::min(kBlock, V - v);
    sum += in_place ? exp_row(x + v, n, 1, largest) : sum_exp_row(x + v, n, largest);
  }
  return sum;
}

// Entropy in nats of the softmax over the 20 largest of x [V], or over all of fewer.
double entropy_of_largest(const float* x, int64_t V) {
  std::array<float, 20> top;  // falling; a NaN finds no place among them
  const size_t k = std::min(top.size(), static_cast<size_t>(V));
  top.fill(-std::numeric_limits<float>::infinity());
  for (int64_t v = 0; v < V; ++v) {
    if (!(x[v] > top[k - 1])) continue;
    size_t place = k - 1;
    for (; place > 0 && top[place - 1] < x[v]; --place) top[place] = top[place - 1];
    top[place] = x[v];
  }
  double sum = 0, weighted = 0;  // of e^(x − largest), and of that times x − largest
  for (size_t i = 0; i < k; ++i) {
    const double below = static_cast<double>(top[i]) - static_cast<double>(top[0]);
    sum += std::exp(below);
    weighted += std::exp(below) * below;
  }
  return std::log(sum) - weighted / sum;
}

// KL(q ‖ p), p the softmax of x with its logarithm of the sum; q, the softmax of `reference`, takes its place.
double divergence_row(const float* x, double log_sum, float* reference, int64_t V) {
  const float largest = max_row(reference, V);
  double cross = 0, sum = 0;  // Σ e^r (r − x), Σ e^r, with r below the largest
  for (int64_t v = 0; v < V; ++v) {
    const double r = static_cast<double>(reference[v] - largest), e = std::exp(r);
    cross += e * (r - static_cast<double>(x[v]));
    sum += e;
    reference[v] = static_cast<float>(e);
  }
  scale_row(reference, V, static_cast<float>(1 / sum));
  return cross / sum - std::log(sum) + log_sum;
}

}  // namespace

void cross_entropy_cpu(const Tensor& logits, const Tensor& d_logits, std::span<const int32_t> labels, std::span<double> losses,
                       std::span<uint8_t> correct, float grad_scale, const TokenLoss& loss, const Tensor& reference) {
  int64_t V = logits.cols();
  const float smoothing = loss.smoothing;
  parallel_for(logits.rows(), [&](int64_t t) {
    float* x = logits.f32() + t * logits.row_stride;
    float* q = loss.divergence != 0 ? reference.f32() + t * reference.row_stride : nullptr;
    size_t i = static_cast<size_t>(t);
    int64_t label = labels[i];
    float largest = max_row(x, V);
    float at_label = x[label];
    if (!correct.empty()) correct[i] = at_label == largest && std::find(x, x + label, largest) == x + label;
    double mean = 0;  // of the logits, for smoothing
    if (smoothing > 0) mean = std::accumulate(x, x + V, 0.0) / static_cast<double>(V);
    double entropy_weight = 1, divergence = 0;  // of what the logits are before they become e^(x − largest)
    if (loss.weight == TokenWeight::entropy)
      entropy_weight = std::pow(entropy_of_largest(x, V) / 3, static_cast<double>(loss.entropy_power));
    if (q) divergence = divergence_row(x, std::log(sum_exp(x, V, largest, false)) + largest, q, V);
    const double sum = sum_exp(x, V, largest, grad_scale != 0);  // with a gradient e^(x − largest) stays in place and is scaled below
    const double surprise = std::log(sum) + largest - at_label;
    const double weight = loss.weight == TokenWeight::probability ? std::exp(-surprise) : entropy_weight;
    losses[i] = weight * surprise + loss.divergence * divergence;
    if (smoothing > 0) losses[i] += smoothing * (static_cast<double>(at_label) - mean);
    if (grad_scale == 0) return;
    // The gradient: w (p − onehot) + d (p − q), smoothed: p − (1 − ε) onehot − ε / V.
    const float of_label = static_cast<float>(weight) * grad_scale, of_divergence = loss.divergence * grad_scale;
    const float factor = static_cast<float>((of_label + of_divergence) / sum);
    const float shared = smoothing * grad_scale / static_cast<float>(V);
    float d_label = x[label] * factor - (1 - smoothing) * of_label - shared;
    if (q) d_label -= of_divergence * q[label];
    if (shared > 0)  // e^x · factor − shared, scaled below
      for (int64_t v = 0; v < V; ++v) x[v] -= shared / factor;
    if (q && factor > 0)
      for (int64_t v = 0; v < V; ++v) x[v] -= of_divergence * q[v] / factor;
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
