// Tiled attention on the CPU (the online softmax of FlashAttention, Dao et al. 2022). Work items are fixed by the sequences alone: a query
// tile of one head in the forward, a query head of one sequence in the backward; each adds up its tiles in ascending order.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <span>
#include <vector>

#include "loraine/kernels/attention.h"
#include "loraine/kernels/exp_rows.h"
#include "loraine/kernels/parallel.h"
#include "loraine/kernels/sgemm.h"
#include "loraine/kernels/simd.h"

namespace loraine {
namespace {

constexpr int64_t kQueryTile = 64, kKeyTile = 128, kFewRows = 4;

float* scratch(size_t floats) {
  thread_local Buffer memory;
  if (memory.bytes() < floats * sizeof(float)) memory = Buffer(floats * sizeof(float));
  return static_cast<float*>(memory.data());
}

// Keys [first, last) of the sequence that query row `row` sees.
struct Keys {
  int64_t first, last;
};
Keys keys_of(const Sequence& s, int64_t row, int64_t window) {
  int64_t last = s.kv_length - s.length + row + 1;
  return {window > 0 ? std::max<int64_t>(0, last - window) : 0, last};
}

LORAINE_CLONES float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

// d_s = p · (d_p − delta) · scale
LORAINE_CLONES void score_gradient(float* d_s, const float* p, int64_t n, float delta, float scale) {
#pragma omp simd
  for (int64_t j = 0; j < n; ++j) d_s[j] = p[j] * (d_s[j] - delta) * scale;
}

void zero_outside(float* row, int64_t n, int64_t lo, int64_t hi) {
  std::fill(row, row + lo, 0.0f);
  std::fill(row + hi, row + n, 0.0f);
}

struct QueryTile {
  const Sequence* sequence;
  int64_t head, row, rows;  // rows of the sequence
};

void forward_tile(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionShape& shape,
                  const QueryTile& t) {
  const Sequence& s = *t.sequence;
  int64_t D = shape.head_dim, kv_head = t.head / (shape.heads / shape.kv_heads);
  const float* qt = q.f32() + (s.start + t.row) * q.row_stride + t.head * D;
  float* ot = o.f32() + (s.start + t.row) * o.row_stride + t.head * D;
  float* scores = scratch(static_cast<size_t>(t.rows * kKeyTile));
  float maximum[kQueryTile], sum[kQueryTile];
  std::fill(maximum, maximum + t.rows, -std::numeric_limits<float>::infinity());
  std::fill(sum, sum + t.rows, 0.0f);
  int64_t first = keys_of(s, t.row, shape.window).first / kKeyTile * kKeyTile, last = keys_of(s, t.row + t.rows - 1, shape.window).last;
  for (int64_t i = 0; i < t.rows; ++i) std::fill(ot + i * o.row_stride, ot + i * o.row_stride + D, 0.0f);
  for (int64_t j = first; j < last; j += kKeyTile) {
    int64_t n = std::min(kKeyTile, last - j);
    const float* kt = k.f32() + (s.kv_start + j) * k.row_stride + kv_head * D;
    const float* vt = v.f32() + (s.kv_start + j) * v.row_stride + kv_head * D;
    sgemm_tile(false, true, t.rows, n, D, 1, qt, q.row_stride, kt, k.row_stride, 0, scores, kKeyTile);
    for (int64_t i = 0; i < t.rows; ++i) {
      Keys keys = keys_of(s, t.row + i, shape.window);
      int64_t lo = std::clamp<int64_t>(keys.first - j, 0, n), hi = std::clamp<int64_t>(keys.last - j, lo, n);
      float* row = scores + i * kKeyTile;
      zero_outside(row, n, lo, hi);
      if (lo == hi) continue;
      float m = std::max(maximum[i], max_row(row + lo, hi - lo) * shape.scale);
      float old = std::exp(maximum[i] - m);
      sum[i] = sum[i] * old + exp_row(row + lo, hi - lo, shape.scale, m);
      if (old != 1.0f) scale_row(ot + i * o.row_stride, D, old);
      maximum[i] = m;
    }
    sgemm_tile(false, false, t.rows, D, n, 1, scores, kKeyTile, vt, v.row_stride, 1, ot, o.row_stride);
  }
  for (int64_t i = 0; i < t.rows; ++i) {
    scale_row(ot + i * o.row_stride, D, 1.0f / sum[i]);
    if (lse.data) lse.f32()[(s.start + t.row + i) * lse.row_stride + t.head] = maximum[i] + std::log(sum[i]);
  }
}

// sum[d] += p · v[d]
LORAINE_CLONES void add_scaled(float* sum, const float* v, float p, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) sum[i] += p * v[i];
}

// Decode: one query row over all its keys, without packing. Two passes over the scores, which stay in cache.
void forward_row(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v, const AttentionShape& shape,
                 const QueryTile& t) {
  const Sequence& s = *t.sequence;
  int64_t D = shape.head_dim, kv_head = t.head / (shape.heads / shape.kv_heads);
  Keys keys = keys_of(s, t.row, shape.window);
  int64_t n = keys.last - keys.first;
  const float* qt = q.f32() + (s.start + t.row) * q.row_stride + t.head * D;
  const float* kt = k.f32() + (s.kv_start + keys.first) * k.row_stride + kv_head * D;
  const float* vt = v.f32() + (s.kv_start + keys.first) * v.row_stride + kv_head * D;
  float* ot = o.f32() + (s.start + t.row) * o.row_stride + t.head * D;
  float* scores = scratch(static_cast<size_t>(n));
  for (int64_t j = 0; j < n; ++j) scores[j] = dot(qt, kt + j * k.row_stride, D);
  float maximum = max_row(scores, n) * shape.scale, sum = 0;
  for (int64_t j = 0; j < n; j += kKeyTile) sum += exp_row(scores + j, std::min(kKeyTile, n - j), shape.scale, maximum);
  std::fill(ot, ot + D, 0.0f);
  for (int64_t j = 0; j < n; ++j) add_scaled(ot, vt + j * v.row_stride, scores[j], D);
  scale_row(ot, D, 1.0f / sum);
  if (lse.data) lse.f32()[(s.start + t.row) * lse.row_stride + t.head] = maximum + std::log(sum);
}

struct Gradients {
  const Tensor &d_q, &d_o, &o, &lse, &q, &k, &v;
  Tensor d_k, d_v;  // [T, H·D]: of each query head
};

// Adds what query rows [row, row + rows) of one head and keys [key, key + n) give each other.
void backward_tile(const Gradients& g, const AttentionShape& shape, const Sequence& s, int64_t head, int64_t row, int64_t rows, int64_t key,
                   int64_t n, const float* delta, float* p, float* d_p) {
  int64_t D = shape.head_dim, kv_head = head / (shape.heads / shape.kv_heads);
  auto block = [&](const Tensor& t, int64_t r, int64_t h) { return t.f32() + (s.start + r) * t.row_stride + h * D; };
  const float *qt = block(g.q, row, head), *kt = block(g.k, key, kv_head), *vt = block(g.v, key, kv_head), *d_ot = block(g.d_o, row, head);
  sgemm_tile(false, true, rows, n, D, 1, qt, g.q.row_stride, kt, g.k.row_stride, 0, p, kKeyTile);
  sgemm_tile(false, true, rows, n, D, 1, d_ot, g.d_o.row_stride, vt, g.v.row_stride, 0, d_p, kKeyTile);
  for (int64_t i = 0; i < rows; ++i) {
    Keys keys = keys_of(s, row + i, shape.window);
    int64_t lo = std::clamp<int64_t>(keys.first - key, 0, n), hi = std::clamp<int64_t>(keys.last - key, lo, n);
    float *pi = p + i * kKeyTile, *d_pi = d_p + i * kKeyTile;
    zero_outside(pi, n, lo, hi);
    zero_outside(d_pi, n, lo, hi);
    exp_row(pi + lo, hi - lo, shape.scale, g.lse.f32()[(s.start + row + i) * g.lse.row_stride + head]);
    score_gradient(d_pi + lo, pi + lo, hi - lo, delta[row + i], shape.scale);
  }
  sgemm_tile(true, false, n, D, rows, 1, p, kKeyTile, d_ot, g.d_o.row_stride, 1, block(g.d_v, key, head), g.d_v.row_stride);
  sgemm_tile(true, false, n, D, rows, 1, d_p, kKeyTile, qt, g.q.row_stride, 1, block(g.d_k, key, head), g.d_k.row_stride);
  sgemm_tile(false, false, rows, D, n, 1, d_p, kKeyTile, kt, g.k.row_stride, 1, block(g.d_q, row, head), g.d_q.row_stride);
}

void backward_head(const Gradients& g, const AttentionShape& shape, const Sequence& s, int64_t head) {
  int64_t D = shape.head_dim;
  auto block = [&](const Tensor& t, int64_t r) { return t.f32() + (s.start + r) * t.row_stride + head * D; };
  float* p = scratch(static_cast<size_t>(2 * kQueryTile * kKeyTile + s.length));
  float *d_p = p + kQueryTile * kKeyTile, *delta = d_p + kQueryTile * kKeyTile;
  for (int64_t i = 0; i < s.length; ++i) {
    for (const Tensor* t : {&g.d_k, &g.d_v, &g.d_q}) std::fill(block(*t, i), block(*t, i) + D, 0.0f);
    delta[i] = dot(block(g.d_o, i), block(g.o, i), D);
  }
  for (int64_t row = 0; row < s.length; row += kQueryTile) {
    int64_t rows = std::min(kQueryTile, s.length - row);
    int64_t first = keys_of(s, row, shape.window).first / kKeyTile * kKeyTile, last = keys_of(s, row + rows - 1, shape.window).last;
    for (int64_t key = first; key < last; key += kKeyTile)
      backward_tile(g, shape, s, head, row, rows, key, std::min(kKeyTile, last - key), delta, p, d_p);
  }
}

// sum [*, Hkv·D] = by_head [*, H·D] added up over the query heads of each group, for rows [first, first + count).
void add_up_groups(const Tensor& sum, const Tensor& by_head, const AttentionShape& shape, int64_t first, int64_t count) {
  int64_t D = shape.head_dim, group = shape.heads / shape.kv_heads;
  for (int64_t i = first; i < first + count; ++i) {
    float* to = sum.f32() + i * sum.row_stride;
    const float* from = by_head.f32() + i * by_head.row_stride;
    for (int64_t kv_head = 0; kv_head < shape.kv_heads; ++kv_head, to += D) {
      std::copy(from, from + D, to);
      from += D;
      for (int64_t h = 1; h < group; ++h, from += D) add_scaled(to, from, 1, D);
    }
  }
}

}  // namespace

void attention_cpu(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                   std::span<const Sequence> sequences, const AttentionShape& shape) {
  std::vector<QueryTile> tiles;
  int64_t keys = 1;  // seen by one item at most
  bool rows_only = true;
  for (const Sequence& s : sequences) {
    keys = std::max(keys, s.kv_length);
    rows_only = rows_only && s.length <= kFewRows;
    for (int64_t head = 0; head < shape.heads; ++head) {
      int64_t step = s.length <= kFewRows ? 1 : kQueryTile;
      for (int64_t row = 0; row < s.length; row += step) tiles.push_back({&s, head, row, std::min(step, s.length - row)});
    }
  }
  // Decoding over a short past is done sooner than a second thread wakes up.
  int64_t chunk = rows_only ? std::max<int64_t>(1, 65536 / (keys * shape.head_dim)) : 1;
  parallel_for(
      static_cast<int64_t>(tiles.size()),
      [&](int64_t i) {
        const QueryTile& t = tiles[static_cast<size_t>(i)];
        if (t.rows == 1) forward_row(o, lse, q, k, v, shape, t);
        else forward_tile(o, lse, q, k, v, shape, t);
      },
      chunk);
}

void attention_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o, const Tensor& lse,
                            const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                            const AttentionShape& shape, const Tensor& by_head) {
  const bool grouped = shape.heads != shape.kv_heads;
  Gradients g{
      d_q, d_o, o, lse, q, k, v, grouped ? by_head.col_range(0, q.cols()) : d_k, grouped ? by_head.col_range(q.cols(), q.cols()) : d_v};
  parallel_for(static_cast<int64_t>(sequences.size()) * shape.heads,
               [&](int64_t i) { backward_head(g, shape, sequences[static_cast<size_t>(i / shape.heads)], i % shape.heads); });
  if (!grouped) return;
  std::vector<std::pair<int64_t, int64_t>> pieces;  // first row, rows
  for (const Sequence& s : sequences)
    for (int64_t row = 0; row < s.length; row += kQueryTile) pieces.emplace_back(s.start + row, std::min(kQueryTile, s.length - row));
  parallel_for(static_cast<int64_t>(pieces.size()), [&](int64_t i) {
    auto [first, count] = pieces[static_cast<size_t>(i)];
    add_up_groups(d_k, g.d_k, shape, first, count);
    add_up_groups(d_v, g.d_v, shape, first, count);
  });
}

}  // namespace loraine
