// The causal convolution on the CPU: a thread takes a stripe of columns of one sequence and walks down its rows, the last K of which it
// keeps.
#include <algorithm>
#include <cstdint>

#include "loraine/kernels/activations/activation_rows.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/sequence/causal_conv.h"

namespace loraine {
namespace {

constexpr int64_t kStripe = 256;  // columns that one item takes
constexpr ActivationShape kSilu{Activation::silu};

// out = bias + Σ_k weights[k] · rows[k], in the order of k
LORAINE_CLONES void weighted_sum(float* out, const float* const* weights, const float* const* rows, const float* bias, int64_t taps,
                                 int64_t n) {
  const float *w = weights[0], *x = rows[0];
  if (bias) {
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) out[c] = bias[c] + w[c] * x[c];
  } else {
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) out[c] = w[c] * x[c];
  }
  for (int64_t k = 1; k < taps; ++k) {
    w = weights[k], x = rows[k];
#pragma omp simd
    for (int64_t c = 0; c < n; ++c) out[c] += w[c] * x[c];
  }
}

LORAINE_CLONES void add_products(double* sum, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) sum[c] += static_cast<double>(a[c]) * static_cast<double>(b[c]);
}

LORAINE_CLONES void add_row(double* sum, const float* a, int64_t n) {
#pragma omp simd
  for (int64_t c = 0; c < n; ++c) sum[c] += static_cast<double>(a[c]);
}

// [C, K] to [K, C]. Four taps are the usual number, and then the compiler can vectorise it.
LORAINE_CLONES void turn_weight(float* out, const float* in, int64_t C, int64_t K) {
  if (K == 4) {
    float *first = out, *second = out + C, *third = out + 2 * C, *fourth = out + 3 * C;
#pragma omp simd
    for (int64_t c = 0; c < C; ++c) {
      first[c] = in[4 * c], second[c] = in[4 * c + 1], third[c] = in[4 * c + 2], fourth[c] = in[4 * c + 3];
    }
    return;
  }
  for (int64_t k = 0; k < K; ++k)
    for (int64_t c = 0; c < C; ++c) out[k * C + c] = in[c * K + k];
}

// weight [C, K] as [K, C], in memory of this thread until its next call
const float* weight_by_taps(const Tensor& weight) {
  thread_local Buffer room;
  const int64_t C = weight.rows(), K = weight.cols();
  const size_t bytes = static_cast<size_t>(C * K) * sizeof(float);
  if (room.bytes() < bytes) room = Buffer(bytes);
  float* out = static_cast<float*>(room.data());
  turn_weight(out, weight.f32(), C, K);
  return out;
}

// The last K rows of a stripe of a sequence: row i of the sequence lies in place i mod K. Before its first row come K − 1 of zeros.
class LastRows {
 public:
  LastRows(int64_t taps, int64_t n) : taps_(taps), n_(n) {
    for (int64_t k = 0; k < taps; ++k) std::fill(rows_[k], rows_[k] + n, 0.0f);
  }
  float* row(int64_t i) { return rows_[(i + taps_) % taps_]; }  // i ≥ −taps
  void take(const Tensor& x, int64_t t, int64_t i) {
    const float* in = read_row(x, t, row(i));
    if (in != row(i)) std::copy(in, in + n_, row(i));
  }

 private:
  int64_t taps_, n_;
  float rows_[kMaxConvTaps][kStripe];
};

// What belongs to a stripe of columns: its part of the weight and bias.
struct Stripe {
  int64_t first, n, taps;
  const float* weights[kMaxConvTaps];
  const float* bias;
  Stripe(int64_t index, int64_t C, const float* by_taps, int64_t taps_, const float* bias_)
      : first(index * kStripe), n(std::min(kStripe, C - first)), taps(taps_), bias(bias_ ? bias_ + first : nullptr) {
    for (int64_t k = 0; k < taps; ++k) weights[k] = by_taps + k * C + first;
  }
  Tensor of(const Tensor& x) const { return x.col_range(first, n); }
  // The sum at row i of the sequence, whose inputs x has.
  void convolve(float* out, LastRows& x, int64_t i) const {
    const float* rows[kMaxConvTaps];
    for (int64_t k = 0; k < taps; ++k) rows[k] = x.row(i - taps + 1 + k);
    weighted_sum(out, weights, rows, bias, taps, n);
  }
  // The gradient of that sum from d_y's row t.
  void sum_gradient(float* d_sum, LastRows& x, int64_t i, const Tensor& d_y, int64_t t, bool silu) const {
    const float* dy = read_row(d_y, t, d_sum);
    if (silu) {
      float sum[kStripe];
      convolve(sum, x, i);
      activate_backward_row(d_sum, dy, sum, Dtype::F32, n, kSilu);
    } else if (dy != d_sum) {
      std::copy(dy, dy + n, d_sum);
    }
  }
  // The gradient of input i from those of the sums i … i + K − 1.
  void convolve_back(float* out, LastRows& d_sum, int64_t i) const {
    const float *rows[kMaxConvTaps], *turned[kMaxConvTaps];
    for (int64_t k = 0; k < taps; ++k) rows[k] = d_sum.row(i + k), turned[k] = weights[taps - 1 - k];
    weighted_sum(out, turned, rows, nullptr, taps, n);
  }
};

int64_t stripes_of(const Tensor& x) { return (x.cols() + kStripe - 1) / kStripe; }

}  // namespace

void causal_conv_cpu(const Tensor& y, const Tensor& x, const Tensor& weight, const float* bias, std::span<const Sequence> sequences,
                     const Tensor& state, std::span<const int64_t> slots, bool silu) {
  const int64_t C = x.cols(), K = weight.cols(), stripes = stripes_of(x);
  const float* by_taps = weight_by_taps(weight);
  parallel_for(static_cast<int64_t>(sequences.size()) * stripes, [&](int64_t item) {
    const size_t index = static_cast<size_t>(item / stripes);
    const Sequence& s = sequences[index];
    const Stripe stripe(item % stripes, C, by_taps, K, bias);
    const Tensor in = stripe.of(x), out = stripe.of(y);
    float* kept = state.data ? state.f32() + slots[index] * state.row_stride + stripe.first : nullptr;
    LastRows last(K, stripe.n);
    if (s.length < s.kv_length) {
      for (int64_t j = 0; j < K - 1; ++j) std::copy(kept + j * C, kept + j * C + stripe.n, last.row(j - K + 1));
    }
    float sum[kStripe];
    for (int64_t i = 0; i < s.length; ++i) {
      last.take(in, s.start + i, i);
      stripe.convolve(sum, last, i);
      if (silu) activate_row(sum, sum, Dtype::F32, stripe.n, kSilu);
      write_row(out, s.start + i, sum);
    }
    if (!kept) return;
    for (int64_t j = 0; j < K - 1; ++j) {
      const float* row = last.row(s.length - K + 1 + j);
      std::copy(row, row + stripe.n, kept + j * C);
    }
  });
}

void causal_conv_backward_cpu(const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& weight, const float* bias,
                              std::span<const Sequence> sequences, bool silu) {
  const int64_t C = x.cols(), K = weight.cols(), stripes = stripes_of(x);
  const float* by_taps = weight_by_taps(weight);
  parallel_for(static_cast<int64_t>(sequences.size()) * stripes, [&](int64_t item) {
    const Sequence& s = sequences[static_cast<size_t>(item / stripes)];
    const Stripe stripe(item % stripes, C, by_taps, K, bias);
    const Tensor in = stripe.of(x), given = stripe.of(d_y), out = stripe.of(d_x);
    LastRows last(K, stripe.n), d_sum(K, stripe.n);
    float d_in[kStripe];
    for (int64_t i = 0; i < s.length + K - 1; ++i) {
      if (i < s.length) {
        last.take(in, s.start + i, i);
        stripe.sum_gradient(d_sum.row(i), last, i, given, s.start + i, silu);
      } else {
        std::fill(d_sum.row(i), d_sum.row(i) + stripe.n, 0.0f);
      }
      const int64_t done = i - K + 1;  // its last sum was row i's
      if (done < 0) continue;
      stripe.convolve_back(d_in, d_sum, done);
      write_row(out, s.start + done, d_in);
    }
  });
}

void causal_conv_weight_gradient_cpu(const Tensor& d_weight, float* d_bias, const Tensor& d_y, const Tensor& x, const Tensor& weight,
                                     const float* bias, std::span<const Sequence> sequences, bool silu) {
  const int64_t C = x.cols(), K = weight.cols();
  const float* by_taps = weight_by_taps(weight);
  parallel_for(stripes_of(x), [&](int64_t item) {
    const Stripe stripe(item, C, by_taps, K, bias);
    const Tensor in = stripe.of(x), given = stripe.of(d_y);
    double sums[kMaxConvTaps][kStripe] = {}, bias_sum[kStripe] = {};
    float d_sum[kStripe];
    for (const Sequence& s : sequences) {
      LastRows last(K, stripe.n);
      for (int64_t i = 0; i < s.length; ++i) {
        last.take(in, s.start + i, i);
        stripe.sum_gradient(d_sum, last, i, given, s.start + i, silu);
        for (int64_t k = 0; k < K; ++k) add_products(sums[k], d_sum, last.row(i - K + 1 + k), stripe.n);
        if (d_bias) add_row(bias_sum, d_sum, stripe.n);
      }
    }
    for (int64_t c = 0; c < stripe.n; ++c) {
      for (int64_t k = 0; k < K; ++k) d_weight.f32()[(stripe.first + c) * K + k] += static_cast<float>(sums[k][c]);
      if (d_bias) d_bias[stripe.first + c] += static_cast<float>(bias_sum[c]);
    }
  });
}

}  // namespace loraine
