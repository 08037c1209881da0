// The gated delta rule on the CPU. A work item is one sequence and one key head with the value heads it serves; of few rows, one sequence
// and one value head.
#include <cmath>

#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/recurrent/chunk_frame.h"
#include "loraine/kernels/recurrent/gated_delta.h"
#include "loraine/kernels/rows/exp_rows.h"

namespace loraine {
namespace {

struct Inputs {
  const Tensor &q, &k, &v, &g, &beta;
  const GatedDeltaShape& shape;
  int64_t group() const { return shape.value_heads / shape.key_heads; }
};

ChunkShape chunk_shape(const GatedDeltaShape& s, int64_t heads) { return {heads, s.key_dim, s.value_dim, true, s.channel_decay}; }

Tensor of_heads(const Tensor& t, int64_t head, int64_t heads, int64_t dim) { return t.col_range(head * dim, heads * dim); }
Tensor of_decays(const GatedDeltaShape& s, const Tensor& g, const ChunkShape& c, const RecurrentItem& item) {
  return s.channel_decay ? of_heads(g, item.part, 1, s.key_dim) : of_heads(g, item.head, c.heads, 1);
}

// x = x · scale / sqrt(Σ x² + eps), or x · scale without eps
void normalise_row(float* x, int64_t n, float eps, float scale) {
  const float factor = eps > 0 ? scale / std::sqrt(dot_of(x, x, n) + eps) : scale;
  if (factor != 1) scale_row(x, n, factor);
}

LORAINE_CLONES void subtract_scaled(float* d, const float* y, float by, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) d[i] -= y[i] * by;
}

void load(const Inputs& in, const ChunkShape& c, const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
  const GatedDeltaShape& s = in.shape;
  read_tile(t.q, of_heads(in.q, item.part, 1, s.key_dim), first, t.n);
  read_tile(t.k, of_heads(in.k, item.part, 1, s.key_dim), first, t.n);
  for (int64_t i = 0; i < t.n; ++i) {
    normalise_row(t.q + i * s.key_dim, s.key_dim, s.normalise_eps, s.scale);
    normalise_row(t.k + i * s.key_dim, s.key_dim, s.normalise_eps, 1);
  }
  read_tile(t.v, of_heads(in.v, item.head, c.heads, s.value_dim), first, t.n);
  read_tile(t.g, of_decays(s, in.g, c, item), first, t.n);
  read_tile(t.beta, of_heads(in.beta, item.head, c.heads, 1), first, t.n);
}

// Rows of d become those of the gradient of x, whose rows were normalised; room [dim].
void normalise_backward(float* d, const Tensor& x, int64_t first, int64_t rows, float eps, float scale, float* room) {
  const int64_t n = x.cols();
  for (int64_t i = 0; i < rows; ++i) {
    float* row = d + i * n;
    if (eps > 0) {
      const float* in = read_row(x.row_range(first + i, 1), 0, room);
      const float rstd = 1 / std::sqrt(dot_of(in, in, n) + eps);
      subtract_scaled(row, in, dot_of(row, in, n) * rstd * rstd, n);
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
  std::vector<RecurrentItem> chunked, stepped;
  for (const RecurrentRows& rows : recurrent_rows(sequences, state)) {
    if (rows.sequence->length > kFewRows)
      for (int64_t j = 0; j < shape.key_heads; ++j) chunked.push_back({rows, j, j * in.group()});
    else
      for (int64_t h = 0; h < shape.value_heads; ++h) stepped.push_back({rows, h / in.group(), h});
  }
  auto parts = [&](const ChunkShape& c, const RecurrentItem& item, auto&& run) {
    run([&](const ChunkTiles& t, int64_t first) { load(in, c, item, t, first); },
        [&](const ChunkTiles& t, int64_t first) { write_tile(of_heads(o, item.head, c.heads, shape.value_dim), first, t.n, t.o); });
  };
  const ChunkShape group = chunk_shape(shape, in.group()), one = chunk_shape(shape, 1);
  parallel_for(static_cast<int64_t>(chunked.size()), [&](int64_t i) {
    const RecurrentItem& item = chunked[static_cast<size_t>(i)];
    parts(group, item, [&](auto&& load, auto&& store) { chunked_forward(group, item, borders, load, store); });
  });
  parallel_for(
      static_cast<int64_t>(stepped.size()),
      [&](int64_t i) {
        const RecurrentItem& item = stepped[static_cast<size_t>(i)];
        parts(one, item, [&](auto&& load, auto&& store) { stepped_forward(one, item, load, store); });
      },
      steps_together(one));
}

void gated_delta_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_g, const Tensor& d_beta,
                              const Tensor& d_o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& g,
                              const Tensor& beta, std::span<const Sequence> sequences, const GatedDeltaShape& shape) {
  const Inputs in{q, k, v, g, beta, shape};
  std::vector<RecurrentItem> items;
  for (const RecurrentRows& rows : recurrent_rows(sequences, {}))
    for (int64_t j = 0; j < shape.key_heads; ++j) items.push_back({rows, j, j * in.group()});
  const ChunkShape c = chunk_shape(shape, in.group());
  parallel_for(static_cast<int64_t>(items.size()), [&](int64_t i) {
    const RecurrentItem& item = items[static_cast<size_t>(i)];
    auto key_columns = [&](const Tensor& x) { return of_heads(x, item.part, 1, shape.key_dim); };
    auto value_columns = [&](const Tensor& x) { return of_heads(x, item.head, c.heads, shape.value_dim); };
    chunked_backward(
        c, item, borders,
        [&](const ChunkTiles& t, int64_t first) {
          load(in, c, item, t, first);
          read_tile(t.d_o, value_columns(d_o), first, t.n);
        },
        [&](const ChunkTiles& t, int64_t first) {
          normalise_backward(t.d_q, key_columns(q), first, t.n, shape.normalise_eps, shape.scale, t.total);
          normalise_backward(t.d_k, key_columns(k), first, t.n, shape.normalise_eps, 1, t.total);
          write_tile(key_columns(d_q), first, t.n, t.d_q);
          write_tile(key_columns(d_k), first, t.n, t.d_k);
          write_tile(value_columns(d_v), first, t.n, t.d_v);
          write_tile(of_decays(shape, d_g, c, item), first, t.n, t.d_g);
          write_tile(of_heads(d_beta, item.head, c.heads, 1), first, t.n, t.d_beta);
        });
  });
}

size_t gated_delta_bytes(const GatedDeltaShape& shape) {
  return static_cast<size_t>(chunk_floats(chunk_shape(shape, shape.value_heads / shape.key_heads), true)) * sizeof(float);
}

}  // namespace loraine
