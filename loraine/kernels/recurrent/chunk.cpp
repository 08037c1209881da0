// Tiles of a chunk and the forward.
#include "loraine/kernels/recurrent/chunk.h"

#include <algorithm>
#include <cmath>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/products/sgemm.h"
#include "loraine/kernels/recurrent/state_rows.h"

namespace loraine {

LORAINE_CLONES void scaled_row(float* y, const float* x, float factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = x[i] * factor;
}
LORAINE_CLONES void add_scaled_row(float* y, const float* x, float factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i] * factor;
}
LORAINE_CLONES float dot_row(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

namespace {

LORAINE_CLONES void multiply_to(float* y, const float* a, const float* b, float factor, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i] * factor;
}

class Places {
 public:
  explicit Places(float* memory) : memory_(memory) {}
  float* take(int64_t floats) {
    float* at = memory_ + used_;
    used_ += (floats + 15) / 16 * 16;
    return at;
  }
  int64_t used() const { return used_; }

 private:
  float* memory_;
  int64_t used_ = 0;
};

ChunkTiles lay_out(const ChunkShape& s, bool backward, int64_t n, Places& places) {
  const int64_t C = kRecurrentChunk, K = s.key_dim, W = s.width();
  ChunkTiles t;
  t.n = n;
  t.state = places.take(s.state_size());
  t.d_state = places.take(backward ? s.state_size() : 0);
  t.q = places.take(2 * C * K), t.k = t.q + n * K;
  t.v = places.take(C * W);
  t.g = places.take(C * s.decays()), t.beta = places.take(C * s.heads);
  t.o = places.take(backward ? 0 : C * W);
  t.answers = places.take(s.stacked() * C * W);
  t.products = places.take(2 * C * C);
  t.asking = t.q, t.k_end = t.k, t.decay = nullptr, t.total = places.take(std::max(K, s.heads));
  if (s.channel_decay) t.asking = places.take(2 * C * K), t.k_end = places.take(C * K), t.decay = places.take(C * K);
  t.from_start = places.take(C), t.to_end = places.take(C), t.between = places.take(C * C);
  t.p = places.take(C * C), t.a = places.take(C * C);
  if (!backward) return t;
  t.d_o = places.take(2 * C * W), t.d_u = t.d_o + n * W;
  t.d_q = places.take(C * K), t.d_k = places.take(C * K), t.d_v = places.take(C * W);
  t.d_g = places.take(C * s.decays()), t.d_beta = places.take(C * s.heads);
  t.residual = places.take(C * s.value_dim), t.of_end = places.take(C * W);
  t.d_products = places.take(2 * C * C), t.sums = places.take(2 * C * C);
  t.d_asking = places.take(2 * C * K), t.d_k_end = places.take(C * K), t.d_total = places.take(K);
  return t;
}

// Running decays of channels: products, asking, k_end and total.
void channel_products(const ChunkShape& s, const ChunkTiles& t) {
  const int64_t n = t.n, K = s.key_dim;
  std::copy(t.g, t.g + n * K, t.decay);
  exp_row(t.decay, n * K, 1, 0);
  std::fill(t.total, t.total + K, 1.0f);
  for (int64_t i = 0; i < n; ++i) {
    const float *decay = t.decay + i * K, *q = t.q + i * K, *k = t.k + i * K;
    float *of_q = t.products + i * n, *of_k = t.products + (n + i) * n;
    decay_and_dot(t.k_end, i, K, decay, q, k, of_q, of_k);
    std::copy(k, k + K, t.k_end + i * K);
    of_q[i] = dot_row(q, k, K);
    multiply_to(t.total, t.total, decay, 1, K);
    multiply_to(t.asking + i * K, t.total, q, 1, K);
    multiply_to(t.asking + (n + i) * K, t.total, k, 1, K);
  }
}

}  // namespace

int64_t chunk_floats(const ChunkShape& shape, bool backward) {
  float nowhere = 0;
  Places places(&nowhere);
  lay_out(shape, backward, kRecurrentChunk, places);
  return places.used();
}

ChunkTiles chunk_tiles(const ChunkShape& shape, bool backward, int64_t n, float* memory) {
  Places places(memory);
  return lay_out(shape, backward, n, places);
}

void chunk_products(const ChunkShape& s, const ChunkTiles& t) {
  const int64_t n = t.n, K = s.key_dim;
  if (s.channel_decay) return channel_products(s, t);
  sgemm_tile(false, true, s.stacked() * n, n, K, 1, t.q, K, t.k, K, 0, t.products, n);
}

void chunk_answers(const ChunkShape& s, const ChunkTiles& t) {
  const int64_t K = s.key_dim, W = s.width();
  sgemm_tile(false, false, s.stacked() * t.n, W, K, 1, t.asking, K, t.state, W, 0, t.answers, W);
}

float chunk_head(const ChunkShape& s, const ChunkTiles& t, int64_t head) {
  const int64_t n = t.n;
  auto beta = [&](int64_t i) { return t.beta[i * s.heads + head]; };
  if (s.channel_decay) {
    std::fill(t.from_start, t.from_start + n, 1.0f);
    std::fill(t.to_end, t.to_end + n, 1.0f);
    for (int64_t i = 0; i < n; ++i) {
      std::copy(t.products + i * n, t.products + i * n + i + 1, t.p + i * n);
      if (s.delta) scaled_row(t.a + i * n, t.products + (n + i) * n, -beta(i), i);
    }
    return 1;
  }
  double sums[kRecurrentChunk], sum = 0;  // in double: decays are differences of long sums
  for (int64_t i = 0; i < n; ++i) sums[i] = sum += static_cast<double>(t.g[i * s.heads + head]);
  for (int64_t i = 0; i < n; ++i) {
    t.from_start[i] = static_cast<float>(sums[i]), t.to_end[i] = static_cast<float>(sum - sums[i]);
    float* row = t.between + i * n;
    for (int64_t j = 0; j <= i; ++j) row[j] = static_cast<float>(sums[i] - sums[j]);
    exp_row(row, i + 1, 1, 0);
    multiply_to(t.p + i * n, row, t.products + i * n, 1, i + 1);
    if (s.delta) multiply_to(t.a + i * n, row, t.products + (n + i) * n, -beta(i), i);
  }
  exp_row(t.from_start, n, 1, 0);
  exp_row(t.to_end, n, 1, 0);
  return t.from_start[n - 1];
}

void chunk_values(const ChunkShape& s, const ChunkTiles& t, int64_t head, bool fresh, float* residual) {
  const int64_t n = t.n, V = s.value_dim, W = s.width(), at = head * V;
  if (!s.delta) return;
  for (int64_t i = 0; i < n; ++i) {
    float* u = t.v + i * W + at;
    if (!fresh) add_scaled_row(u, t.answers + (n + i) * W + at, -t.from_start[i], V);
    if (residual) std::copy(u, u + V, residual + i * V);
    scaled_row(u, u, t.beta[i * s.heads + head], V);
    add_weighted_rows(u, t.a + i * n, 1, t.v + at, W, i, V);
  }
}

void chunk_forward(const ChunkShape& s, const ChunkTiles& t, bool fresh, bool last) {
  const int64_t n = t.n, K = s.key_dim, V = s.value_dim, W = s.width();
  chunk_products(s, t);
  if (!fresh) chunk_answers(s, t);
  for (int64_t h = 0; h < s.heads; ++h) {
    const float total = chunk_head(s, t, h);
    chunk_values(s, t, h, fresh, nullptr);
    for (int64_t i = 0; i < n; ++i) {
      float* o = t.o + i * W + h * V;
      if (fresh) std::fill(o, o + V, 0.0f);
      else scaled_row(o, t.answers + i * W + h * V, t.from_start[i], V);
      add_weighted_rows(o, t.p + i * n, 1, t.v + h * V, W, i + 1, V);
    }
    if (last) continue;
    if (!s.channel_decay) {
      for (int64_t i = 0; i < n; ++i) scale_row(t.v + i * W + h * V, V, t.to_end[i]);
      if (!fresh)
        for (int64_t c = 0; c < K; ++c) scale_row(t.state + c * W + h * V, V, total);
    }
  }
  if (last) return;
  if (s.channel_decay && !fresh)
    for (int64_t c = 0; c < K; ++c) scale_row(t.state + c * W, W, t.total[c]);
  sgemm_tile(true, false, K, W, n, 1, t.k_end, K, t.v, W, fresh ? 0.0f : 1.0f, t.state, W);
}

void chunk_steps(const ChunkShape& s, const ChunkTiles& t) {
  const int64_t K = s.key_dim, V = s.value_dim, D = s.decays(), stride = s.channel_decay ? 1 : 0;
  for (int64_t i = 0; i < t.n; ++i) {
    float *decay = t.g + i * D, *u = t.v + i * V, *asking = t.total;
    const float *q = t.q + i * K, *k = t.k + i * K;
    exp_row(decay, D, 1, 0);
    if (s.delta) {
      if (s.channel_decay) multiply_to(asking, k, decay, -1, K);
      else scaled_row(asking, k, -decay[0], K);
      add_weighted_rows(u, asking, 1, t.state, V, K, V);
      scaled_row(u, u, t.beta[i], V);
    }
    step_state(t.state, K, V, decay, stride, k, u, t.o + i * V, q);
  }
}

}  // namespace loraine
