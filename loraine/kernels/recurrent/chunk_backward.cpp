// The backward of a chunk: what the forward made of its rows is computed once more from the state before it.
#include <algorithm>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/products/sgemm.h"
#include "loraine/kernels/recurrent/chunk.h"
#include "loraine/kernels/recurrent/state_rows.h"

namespace loraine {
namespace {

// A row of weights = between · products · factor and its gradient: sums += between · d · factor; what the logarithms get, d · weights, is
// taken from the columns and returned for the row.
LORAINE_CLONES double weights_backward_row(float* sums, double* columns, const float* between, const float* d, const float* weights,
                                           float factor, int64_t n) {
  double row = 0;
#pragma omp simd reduction(+ : row)
  for (int64_t j = 0; j < n; ++j) {
    sums[j] += between[j] * d[j] * factor;
    const double x = static_cast<double>(d[j] * weights[j]);
    columns[j] -= x;
    row += x;
  }
  return row;
}

LORAINE_CLONES void add_row(float* y, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += x[i];
}

LORAINE_CLONES float dot_of_three(const float* a, const float* b, const float* c, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i] * c[i];
  return sum;
}

LORAINE_CLONES void multiply(float* y, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] = a[i] * b[i];
}

LORAINE_CLONES void add_product(float* y, const float* a, const float* b, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) y[i] += a[i] * b[i];
}

// sum += q · d_q + k · (as_later − as_earlier), d_g = sum, and d_k = as_later + as_earlier, which lies in the place of as_later.
LORAINE_CLONES void channel_row(float* sum, float* d_g, float* d_k, const float* q, const float* d_q, const float* k,
                                const float* as_earlier, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) {
    sum[i] += q[i] * d_q[i] + k[i] * (d_k[i] - as_earlier[i]);
    d_g[i] = sum[i];
    d_k[i] += as_earlier[i];
  }
}

// What the logarithms of a head's decays get, by rows: of each row as the later of two, of the columns as the earlier. In double: most of
// it cancels once the logarithms' own sums are undone.
struct Logarithms {
  double rows[kRecurrentChunk] = {}, columns[kRecurrentChunk] = {};
};

// u of a head, and d_u; by the delta rule that of b after it: (I + A)ᵀ d_b = d_u. Then d_products.
void values_backward(const ChunkShape& s, const ChunkTiles& t, int64_t h, bool fresh, bool last) {
  const int64_t n = t.n, V = s.value_dim, W = s.width(), at = h * V;
  chunk_values(s, t, h, fresh, s.delta ? t.residual : nullptr);
  for (int64_t j = 0; j < n; ++j) {
    float* d_u = t.d_u + j * W + at;
    if (last) std::fill(d_u, d_u + V, 0.0f);
    else scaled_row(d_u, t.of_end + j * W + at, t.to_end[j], V);
    add_weighted_rows(d_u, t.p + j * n + j, n, t.d_o + j * W + at, W, n - j, V);
  }
  for (int64_t j = n - 2; j >= 0 && s.delta; --j)
    add_weighted_rows(t.d_u + j * W + at, t.a + (j + 1) * n + j, n, t.d_u + (j + 1) * W + at, W, n - 1 - j, V);
  sgemm_tile(false, true, s.stacked() * n, n, V, 1, t.d_o + at, W, t.v + at, W, 0, t.d_products, n);
}

// Row i of d_products: its share of the sums, of the logarithms and of d_beta.
void weights_backward(const ChunkShape& s, const ChunkTiles& t, int64_t h, int64_t i, Logarithms& logs) {
  const int64_t n = t.n, V = s.value_dim;
  const float *d_p = t.d_products + i * n, *d_a = t.d_products + (n + i) * n, *between = t.between + i * n;
  float *of_q = t.sums + i * n, *of_k = t.sums + (n + i) * n;
  if (s.channel_decay) add_row(of_q, d_p, i + 1);
  else logs.rows[i] += weights_backward_row(of_q, logs.columns, between, d_p, t.p + i * n, 1, i + 1);
  if (!s.delta) return;
  // a = −β · decayed products of keys; d_beta from these, as β may be 0.
  const float beta = t.beta[i * s.heads + h], *k_k = t.products + (n + i) * n;
  const float of_a = s.channel_decay ? dot_row(d_a, k_k, i) : dot_of_three(d_a, k_k, between, i);
  t.d_beta[i * s.heads + h] = dot_row(t.d_u + i * s.width() + h * V, t.residual + i * V, V) - of_a;
  if (s.channel_decay) add_scaled_row(of_k, d_a, -beta, i);
  else logs.rows[i] += weights_backward_row(of_k, logs.columns, between, d_a, t.a + i * n, -beta, i);
}

// d_v of row i of a head; its d_o, d_u and u become what the products with states take.
void answers_backward(const ChunkShape& s, const ChunkTiles& t, int64_t h, int64_t i, bool fresh, bool last, Logarithms& logs) {
  const int64_t n = t.n, V = s.value_dim, at = i * s.width() + h * V;
  float *d_o = t.d_o + at, *d_u = t.d_u + at, *u = t.v + at;
  scaled_row(t.d_v + at, d_u, s.delta ? t.beta[i * s.heads + h] : 1.0f, V);
  if (s.delta) scaled_row(d_u, t.d_v + at, -t.from_start[i], V);
  if (s.channel_decay) return;
  scale_row(d_o, V, t.from_start[i]);
  scale_row(u, V, t.to_end[i]);
  if (!fresh) {
    logs.rows[i] += static_cast<double>(dot_row(d_o, t.answers + at, V));
    if (s.delta) logs.rows[i] += static_cast<double>(dot_row(d_u, t.answers + n * s.width() + at, V));
  }
  if (!last) {
    const double x = static_cast<double>(dot_row(u, t.of_end + at, V));
    logs.rows[i] -= x, logs.rows[n - 1] += x;
  }
}

// d_v, d_beta and d_g of a head, and its share of the sums.
void head_backward(const ChunkShape& s, const ChunkTiles& t, int64_t h, bool fresh, bool last) {
  const int64_t n = t.n, V = s.value_dim, W = s.width();
  const float total = chunk_head(s, t, h);
  values_backward(s, t, h, fresh, last);
  Logarithms logs;
  for (int64_t i = 0; i < n; ++i) {
    weights_backward(s, t, h, i, logs);
    answers_backward(s, t, h, i, fresh, last, logs);
  }
  if (s.channel_decay) return;
  if (!fresh && !last) {
    t.total[h] = total;
    double sum = 0;
    for (int64_t c = 0; c < s.key_dim; ++c) sum += static_cast<double>(dot_row(t.state + c * W + h * V, t.d_state + c * W + h * V, V));
    logs.rows[n - 1] += static_cast<double>(total) * sum;
  }
  double sum = 0;  // each decay is in the logarithms of its row and of all later ones
  for (int64_t i = n - 1; i >= 0; --i) {
    sum += logs.rows[i] + logs.columns[i];
    t.d_g[i * s.heads + h] = static_cast<float>(sum);
  }
}

// Gradients in q and k where decays belong to heads: of the products with states, and of q kᵀ and k kᵀ.
void keys_backward(const ChunkShape& s, const ChunkTiles& t, bool fresh, bool last) {
  const int64_t n = t.n, K = s.key_dim;
  float *of_q = t.sums, *of_k = t.sums + n * n;
  std::fill(t.d_k, t.d_k + n * K, 0.0f);
  if (!fresh) std::copy(t.d_asking, t.d_asking + n * K, t.d_q);
  if (!fresh && s.delta) add_row(t.d_k, t.d_asking + n * K, n * K);
  if (!last) add_row(t.d_k, t.d_k_end, n * K);
  sgemm_tile(false, false, n, K, n, 1, of_q, n, t.k, K, fresh ? 0.0f : 1.0f, t.d_q, K);
  sgemm_tile(true, false, n, K, n, 1, of_q, n, t.q, K, 1, t.d_k, K);
  if (!s.delta) return;
  for (int64_t i = 0; i < n; ++i)  // k kᵀ has every key twice
    for (int64_t j = 0; j < i; ++j) of_k[j * n + i] = of_k[i * n + j];
  sgemm_tile(false, false, n, K, n, 1, of_k, n, t.k, K, 1, t.d_k, K);
}

// Gradients in q, k and g where decays belong to channels. What a key gets as the later and as the earlier of two rows is kept apart: the
// decays of a row stand between it and all rows before it, so their logarithms get q · d_q + k · (d_k as later − d_k as earlier), and those
// of all rows after it. d_total is what the decays of all rows together get.
void channel_backward(const ChunkShape& s, const ChunkTiles& t, bool fresh, bool last) {
  const int64_t n = t.n, K = s.key_dim;
  const float *of_q = t.sums, *of_k = t.sums + n * n;
  auto at = [&](float* tile, int64_t i) { return tile + i * K; };
  float *running = t.total, *keys = t.k_end, *as_earlier = t.d_k_end;  // total has done its service
  if (last) std::fill(as_earlier, as_earlier + n * K, 0.0f);
  for (int64_t j = 0; j < n && !last; ++j) add_product(t.d_total, at(keys, j), at(as_earlier, j), K);
  std::fill(running, running + K, 1.0f);
  if (fresh) std::fill(t.d_asking, t.d_asking + 2 * n * K, 0.0f);
  for (int64_t i = 0; i < n; ++i) {
    float *d_q = at(t.d_q, i), *as_later = at(t.d_k, i);
    multiply(running, running, at(t.decay, i), K);
    multiply(d_q, at(t.d_asking, i), running, K);
    multiply(as_later, at(t.d_asking, n + i), running, K);
    decay_and_add(keys, i, K, at(t.decay, i), of_q + i * n, of_k + i * n, d_q, as_later);
    std::copy(at(t.k, i), at(t.k, i) + K, at(keys, i));
    add_scaled_row(d_q, at(t.k, i), of_q[i * n + i], K);
  }
  for (int64_t i = n - 1; i >= 0; --i) {
    add_scaled_row(at(as_earlier, i), at(t.q, i), of_q[i * n + i], K);
    add_and_decay(as_earlier, i, K, at(t.decay, i), of_q + i * n, of_k + i * n, at(t.q, i), at(t.k, i));
  }
  for (int64_t i = n - 1; i >= 0; --i)
    channel_row(t.d_total, at(t.d_g, i), at(t.d_k, i), at(t.q, i), at(t.d_q, i), at(t.k, i), at(as_earlier, i), K);
}

// The decay of all rows together on d_state, and what it gets where it belongs to channels.
void decay_backward(const ChunkShape& s, const ChunkTiles& t) {
  const int64_t W = s.width(), V = s.value_dim;
  for (int64_t c = 0; c < s.key_dim; ++c) {
    float* row = t.d_state + c * W;
    if (!s.channel_decay) {
      for (int64_t h = 0; h < s.heads; ++h) scale_row(row + h * V, V, t.total[h]);
      continue;
    }
    t.d_total[c] = t.total[c] * dot_row(t.state + c * W, row, W);
    scale_row(row, W, t.total[c]);
  }
}

}  // namespace

void chunk_backward(const ChunkShape& s, const ChunkTiles& t, bool fresh, bool last) {
  const int64_t n = t.n, K = s.key_dim, W = s.width(), rows = s.stacked() * n;
  chunk_products(s, t);
  if (!fresh) chunk_answers(s, t);
  if (!last) sgemm_tile(false, false, n, W, K, 1, t.k_end, K, t.d_state, W, 0, t.of_end, W);
  std::fill(t.sums, t.sums + 2 * n * n, 0.0f);
  for (int64_t h = 0; h < s.heads; ++h) head_backward(s, t, h, fresh, last);
  // d_o and d_u are now the gradients of the answers, u is what went into the state after.
  if (!fresh) sgemm_tile(false, true, rows, K, W, 1, t.d_o, W, t.state, W, 0, t.d_asking, K);
  if (!last) sgemm_tile(false, true, n, K, W, 1, t.v, W, t.d_state, W, 0, t.d_k_end, K);
  if (s.channel_decay) std::fill(t.d_total, t.d_total + K, 0.0f);
  if (!fresh && !last) decay_backward(s, t);
  if (!fresh) sgemm_tile(true, false, K, W, rows, 1, t.asking, K, t.d_o, W, last ? 0.0f : 1.0f, t.d_state, W);
  if (s.channel_decay) channel_backward(s, t, fresh, last);
  else keys_backward(s, t, fresh, last);
}

}  // namespace loraine
