// Mamba-2's scan on the CPU. A work item is one sequence and some heads of a group, which share B and C; of few rows, one head. The parts
// of a group, fixed by the shape, give B and C sums of their own, which are added up in ascending order afterwards.
#include <cmath>

#include "loraine/kernels/recurrent/chunk_frame.h"
#include "loraine/kernels/recurrent/mamba2.h"
#include "loraine/kernels/recurrent/recurrent_gates.h"

namespace loraine {
namespace {

struct Inputs {
  const Tensor &x, &B, &C, &dt_raw;
  const Mamba2Weights& weights;
  const Mamba2Shape& shape;
};

// Heads of a part, and parts of a group: about 16 of all groups together.
int64_t part_heads(const Mamba2Shape& s) {
  const int64_t heads = s.heads / s.groups, parts = std::clamp<int64_t>(16 / s.groups, 1, heads);
  return (heads + parts - 1) / parts;
}
int64_t group_parts(const Mamba2Shape& s) { return (s.heads / s.groups + part_heads(s) - 1) / part_heads(s); }

std::vector<RecurrentItem> items_of(std::span<const Sequence> sequences, const RecurrentState& state, const Mamba2Shape& s,
                                    bool all_chunked) {
  std::vector<RecurrentItem> items;
  const int64_t group = s.heads / s.groups;
  for (const RecurrentRows& rows : recurrent_rows(sequences, state)) {
    const int64_t step = rows.stepped() && !all_chunked ? 1 : part_heads(s);
    int64_t part = 0;
    for (int64_t g = 0; g < s.groups; ++g)
      for (int64_t h = 0; h < group; h += step)
        items.push_back({rows, {std::min(step, group - h), s.state, s.head_dim}, g, g * group + h, part++});
  }
  return items;
}

// The columns that belong to an item.
Tensor of_keys(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.key_head * item.shape.key_dim, item.shape.key_dim); }
Tensor of_values(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.head * item.shape.value_dim, item.shape.width()); }
Tensor of_heads(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.head, item.shape.heads); }

// dt [rows, heads of the item]: softplus(dt + dt_bias), not yet held between its limits; room as large.
void softplus_of_biased(float* dt, const Inputs& in, const RecurrentItem& item, int64_t rows, float* room) {
  const int64_t heads = item.shape.heads;
  for (int64_t i = 0; i < rows; ++i) add_scaled_row(dt + i * heads, in.weights.dt_bias.f32() + item.head, 1, heads);
  softplus_row(dt, dt, rows * heads, room);
}

// B and C as keys and queries, dt x as values; dt stays in the place of beta.
void load(const Inputs& in, const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
  const int64_t heads = item.shape.heads, P = item.shape.value_dim;
  read_tile(t.q, of_keys(in.C, item), first, t.n);
  read_tile(t.k, of_keys(in.B, item), first, t.n);
  read_tile(t.v, of_values(in.x, item), first, t.n);
  read_tile(t.beta, of_heads(in.dt_raw, item), first, t.n);
  softplus_of_biased(t.beta, in, item, t.n, t.g);
  for (int64_t i = 0; i < t.n * heads; ++i) {
    t.beta[i] = std::clamp(t.beta[i], in.shape.dt_min, in.shape.dt_max);
    t.g[i] = -t.beta[i] * std::exp(in.weights.A_log.f32()[item.head + i % heads]);
    scaled_row(t.v + i * P, t.v + i * P, t.beta[i], P);
  }
}

struct Gradients {
  const Tensor &d_x, &d_dt_raw, &d_y, &partial;
  // Columns of `partial`: B and C of each part, then A_log, D and dt_bias of each head.
  float* of_part(int64_t row, int64_t part, const Mamba2Shape& s) const {
    return partial.f32() + row * partial.row_stride + part * 2 * s.state;
  }
  float* of_weights(int64_t row, const Mamba2Shape& s) const { return of_part(row, s.groups * group_parts(s), s); }
};

void store_gradients(const Inputs& in, const Gradients& out, const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
  const Mamba2Shape& s = in.shape;
  const int64_t heads = item.shape.heads, P = s.head_dim, W = item.shape.width();
  // Tiles of the core whose content is no longer needed.
  float *x = t.v, *d_y = t.d_o, *free = t.d_beta;
  read_tile(x, of_values(in.x, item), first, t.n);
  read_tile(d_y, of_values(out.d_y, item), first, t.n);
  read_tile(free, of_heads(in.dt_raw, item), first, t.n);
  softplus_of_biased(free, in, item, t.n, t.answers);
  for (int64_t i = 0; i < t.n; ++i) {
    float* of_weights = out.of_weights(first + i, s) + item.head;
    for (int64_t h = 0; h < heads; ++h) {
      const int64_t head = item.head + h, at = i * W + h * P, of_head = i * heads + h;
      const float dt = t.beta[of_head], d_g = t.d_g[of_head], A = -std::exp(in.weights.A_log.f32()[head]);
      const bool held = free[of_head] < s.dt_min || free[of_head] > s.dt_max;
      const float d_dt = d_g * A + dot_row(t.d_v + at, x + at, P), d_raw = held ? 0 : -d_dt * std::expm1(-free[of_head]);
      of_weights[0 * s.heads + h] = d_g * dt * A;
      of_weights[1 * s.heads + h] = dot_row(d_y + at, x + at, P);
      of_weights[2 * s.heads + h] = free[of_head] = d_raw;
      scaled_row(t.d_v + at, t.d_v + at, dt, P);
      add_scaled_row(t.d_v + at, d_y + at, in.weights.D.f32()[head], P);
    }
    float* of_part = out.of_part(first + i, item.part, s);
    std::copy_n(t.d_k + i * s.state, s.state, of_part);
    std::copy_n(t.d_q + i * s.state, s.state, of_part + s.state);
  }
  write_tile(of_values(out.d_x, item), first, t.n, t.d_v);
  write_tile(of_heads(out.d_dt_raw, item), first, t.n, free);
}

// d (B or C, the `second` of a part) of one row and group: the sum of its parts.
void add_up_parts(const Tensor& d, const Gradients& g, const Mamba2Shape& s, int64_t row, int64_t group, int64_t second) {
  const int64_t parts = group_parts(s);
  float* sum = row_room(s.state);
  std::fill_n(sum, s.state, 0.0f);
  for (int64_t p = 0; p < parts; ++p) add_scaled_row(sum, g.of_part(row, group * parts + p, s) + second * s.state, 1, s.state);
  write_row(d.col_range(group * s.state, s.state), row, sum);
}

// The gradient of one of the weights (0: A_log …): its rows in `partial`, added up one after the other.
void add_up_rows(const Tensor& d, const Gradients& g, std::span<const Sequence> sequences, const Mamba2Shape& s, int64_t which) {
  parallel_for(
      s.heads,
      [&](int64_t h) {
        double sum = 0;
        for (const Sequence& q : sequences)
          for (int64_t row = q.start; row < q.start + q.length; ++row)
            sum += static_cast<double>(g.of_weights(row, s)[which * s.heads + h]);
        d.f32()[h] = static_cast<float>(sum);
      },
      16);
}

}  // namespace

int64_t mamba2_partial_columns(const Mamba2Shape& shape) { return shape.groups * group_parts(shape) * 2 * shape.state + 3 * shape.heads; }

size_t mamba2_bytes(const Mamba2Shape& shape) {
  return static_cast<size_t>(chunk_floats({part_heads(shape), shape.state, shape.head_dim}, true)) * sizeof(float);
}

void mamba2_cpu(const Tensor& y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
                const Mamba2Weights& weights, std::span<const Sequence> sequences, const Mamba2Shape& shape, const RecurrentState& state) {
  const Inputs in{x, B, C, dt_raw, weights, shape};
  recurrence_forward(
      items_of(sequences, state, shape, false), borders,
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) { load(in, item, t, first); },
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
        const int64_t P = shape.head_dim, heads = item.shape.heads;
        read_tile(t.v, of_values(x, item), first, t.n);
        for (int64_t i = 0; i < t.n * heads; ++i) add_scaled_row(t.o + i * P, t.v + i * P, weights.D.f32()[item.head + i % heads], P);
        write_tile(of_values(y, item), first, t.n, t.o);
      });
}

void mamba2_backward_cpu(const Tensor& d_x, const Tensor& d_B, const Tensor& d_C, const Tensor& d_dt_raw, const Mamba2Weights& d_weights,
                         const Tensor& d_y, const Tensor& borders, const Tensor& x, const Tensor& B, const Tensor& C, const Tensor& dt_raw,
                         const Mamba2Weights& weights, std::span<const Sequence> sequences, const Mamba2Shape& shape,
                         const Tensor& partial) {
  const Inputs in{x, B, C, dt_raw, weights, shape};
  const Gradients out{d_x, d_dt_raw, d_y, partial};
  recurrence_backward(
      items_of(sequences, {}, shape, true), borders,
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
        load(in, item, t, first);
        read_tile(t.d_o, of_values(d_y, item), first, t.n);
      },
      [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) { store_gradients(in, out, item, t, first); });
  for (const Sequence& s : sequences)
    parallel_for(
        s.length,
        [&](int64_t i) {
          for (int64_t g = 0; g < shape.groups; ++g) {
            add_up_parts(d_B, out, shape, s.start + i, g, 0);
            add_up_parts(d_C, out, shape, s.start + i, g, 1);
          }
        },
        row_chunk(partial.cols()));
  if (d_weights.A_log.data) add_up_rows(d_weights.A_log, out, sequences, shape, 0);
  if (d_weights.D.data) add_up_rows(d_weights.D, out, sequences, shape, 1);
  if (d_weights.dt_bias.data) add_up_rows(d_weights.dt_bias, out, sequences, shape, 2);
}

}  // namespace loraine
