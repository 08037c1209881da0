// The gated delta rule on the CPU. A work item is one sequence and one key head with the value heads it serves; of few rows, one sequence
// and one value head.
#include <cmath>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/recurrent/chunk_frame.h"
#include "loraine/kernels/recurrent/gated_delta.h"

namespace loraine {
namespace {

struct Inputs {
  const Tensor &q, &k, &v, &g, &beta;
  const GatedDeltaShape& shape;
};

ChunkShape chunk_shape(const GatedDeltaShape& s, int64_t heads) { return {heads, s.key_dim, s.value_dim, true, s.channel_decay}; }

// Rows that are chunked take a key head with all that it serves, others one value head.
std::vector<RecurrentItem> items_of(std::span<const Sequence> sequences, const RecurrentState& state, const GatedDeltaShape& s,
                                    bool all_chunked) {
  std::vector<RecurrentItem> items;
  const int64_t group = s.value_heads / s.key_heads;
  for (const RecurrentRows& rows : recurrent_rows(sequences, state)) {
    const int64_t heads = rows.stepped() && !all_chunked ? 1 : group;
    for (int64_t h = 0; h < s.value_heads; h += heads) items.push_back({rows, chunk_shape(s, heads), h / group, h});
  }
  return items;
}

// The columns that belong to an item.
Tensor of_keys(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.key_head * item.shape.key_dim, item.shape.key_dim); }
Tensor of_values(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.head * item.shape.value_dim, item.shape.width()); }
Tensor of_heads(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.head, item.shape.heads); }
Tensor of_decays(const Tensor& t, const RecurrentItem& item) { return item.shape.channel_decay ? of_keys(t, item) : of_heads(t, item); }

// x = x · scale / sqrt(Σ x² + eps), or x · scale without eps
void normalise_row(float* x, int64_t n, float eps, float scale) {
  const float factor = eps > 0 ? scale / std::sqrt(dot_row(x, x, n) + eps) : scale;
  if (factor != 1) scale_row(x, n, factor);
}

LORAINE_CLONES void subtract_scaled(float* d, const float* y, float by, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) d[i] -= y[i] * by;
}

void load(const Inputs& in, const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
  const int64_t K = item.shape.key_dim;
  read_tile(t.q, of_keys(in.q, item), first, t.n);
  read_tile(t.k, of_keys(in.k, item), first, t.n);
  for (int64_t i = 0; i < t.n; ++i) {
    normalise_row(t.q + i * K, K, in.shape.normalise_eps, in.shape.scale);
    normalise_row(t.k + i * K, K, in.shape.normalise_eps, 1);
  }
  read_tile(t.v, of_values(in.v, item), first, t.n);
  read_tile(t.g, of_decays(in.g, item), first, t.n);
  read_tile(t.beta, of_heads(in.beta, item), first, t.n);
}

// Rows of d become those of the gradient of x, whose rows were normalised; room [dim].
void normalise_backward(float* d, const Tensor& x, int64_t first, int64_t rows, float eps, float scale, float* room) {
  const int64_t n = x.cols();
  for (int64_t i = 0; i < rows; ++i) {
    float* row = d + i * n;
    if (eps > 0) {
      const float* in = read_row(x.row_range(first + i, 1), 0, room);
      const float rstd = 1 / std::sqrt(dot_row(in, in, n) + eps);
      subtract_scaled(row, in, dot_row(row, in, n) * rstd * rstd, n);
      scale_row(row, n, rstd * scale);
    } else if (scale != 1) {
      scale_row(row, n, scale);
    }
  }
}

}  // namespace

void gated_delta_cpu(const Tensor& o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                     const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape, const RecurrentState& state) {
  const Inputs in{q, k, v, g, beta, shape};
  recurrence_forward(
      items_of(sequences, state, shape, false), borders,
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) { load(in, item, t, first); },
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) { write_tile(of_values(o, item), first, t.n, t.o); });
}

void gated_delta_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_g, const Tensor& d_beta,
                              const Tensor& d_o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                              const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape) {
  const Inputs in{q, k, v, g, beta, shape};
  recurrence_backward(
      items_of(sequences, {}, shape, true), borders,
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
        load(in, item, t, first);
        read_tile(t.d_o, of_values(d_o, item), first, t.n);
      },
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
        normalise_backward(t.d_q, of_keys(q, item), first, t.n, shape.normalise_eps, shape.scale, t.total);
        normalise_backward(t.d_k, of_keys(k, item), first, t.n, shape.normalise_eps, 1, t.total);
        write_tile(of_keys(d_q, item), first, t.n, t.d_q);
        write_tile(of_keys(d_k, item), first, t.n, t.d_k);
        write_tile(of_values(d_v, item), first, t.n, t.d_v);
        write_tile(of_decays(d_g, item), first, t.n, t.d_g);
        write_tile(of_heads(d_beta, item), first, t.n, t.d_beta);
      });
}

size_t gated_delta_bytes(const GatedDeltaShape& shape) {
  return static_cast<size_t>(chunk_floats(chunk_shape(shape, shape.value_heads / shape.key_heads), true)) * sizeof(float);
}

}  // namespace loraine
