// Lightning attention: checks, and the CPU's frame around chunks. A work item is one head of one sequence.
#include "loraine/kernels/recurrent/lightning.h"

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/recurrent/chunk_frame.h"

namespace loraine {
namespace {

void check(const char* op, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& decay, const LightningShape& s) {
  check_op(s.heads > 0 && s.key_dim > 0 && s.value_dim > 0, op, "heads and their dimensions must be positive");
  check_activation(op, "q", q, q.rows(), s.keys());
  check_activation(op, "k", k, q.rows(), s.keys());
  check_activation(op, "v", v, q.rows(), s.values());
  check_op(decay.dtype == Dtype::F32 && decay.numel() == s.heads && decay.contiguous(), op, "decay must be F32 [heads]");
}

OpWork work_of(const Context& ctx, int64_t T, const LightningShape& s, double states, double rows) {
  if (!ctx.profile) return {};
  const double chunk = static_cast<double>(kRecurrentChunk), K = static_cast<double>(s.key_dim), V = static_cast<double>(s.value_dim);
  return {2.0 * static_cast<double>(T * s.heads) * (states * K * V + rows * chunk / 2 * (K + V))};
}

std::vector<RecurrentItem> items_of(std::span<const Sequence> sequences, const RecurrentState& state, const LightningShape& s) {
  std::vector<RecurrentItem> items;
  for (const RecurrentRows& rows : recurrent_rows(sequences, state))
    for (int64_t h = 0; h < s.heads; ++h) items.push_back({rows, {1, s.key_dim, s.value_dim}, h, h});
  return items;
}

Tensor of_keys(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.head * item.shape.key_dim, item.shape.key_dim); }
Tensor of_values(const Tensor& t, const RecurrentItem& item) { return t.col_range(item.head * item.shape.value_dim, item.shape.value_dim); }

auto loader(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& decay) {
  return [q, k, v, decay](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
    read_tile(t.q, of_keys(q, item), first, t.n);
    read_tile(t.k, of_keys(k, item), first, t.n);
    read_tile(t.v, of_values(v, item), first, t.n);
    std::fill_n(t.g, t.n, decay.f32()[item.head]);
  };
}

}  // namespace

void lightning_attention(Context& ctx, const Tensor& o, const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v,
                         const Tensor& decay, std::span<const Sequence> sequences, const LightningShape& shape,
                         const RecurrentState& state) {
  const char* op = "lightning_attention";
  check(op, q, k, v, decay, shape);
  check_activation(op, "o", o, q.rows(), shape.values());
  check_recurrence(op, q.rows(), sequences, borders, state, shape.state_columns());
  auto cpu = [&] {
    recurrence_forward(
        items_of(sequences, state, shape), borders, loader(q, k, v, decay),
        [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) { write_tile(of_values(o, item), first, t.n, t.o); });
  };
  dispatch(ctx, op, cpu, work_of(ctx, q.rows(), shape, 2, 1));
}

void lightning_attention_backward(Context& ctx, const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o,
                                  const Tensor& borders, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& decay,
                                  std::span<const Sequence> sequences, const LightningShape& shape) {
  const char* op = "lightning_attention_backward";
  check(op, q, k, v, decay, shape);
  check_activation(op, "d_o", d_o, q.rows(), shape.values());
  check_activation(op, "d_q", d_q, q.rows(), shape.keys());
  check_activation(op, "d_k", d_k, q.rows(), shape.keys());
  check_activation(op, "d_v", d_v, q.rows(), shape.values());
  check_op(borders.data != nullptr, op, "borders are those of the forward");
  check_recurrence(op, q.rows(), sequences, borders, {}, shape.state_columns());
  auto cpu = [&] {
    auto load = loader(q, k, v, decay);
    recurrence_backward(
        items_of(sequences, {}, shape), borders,
        [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
          load(item, t, first);
          read_tile(t.d_o, of_values(d_o, item), first, t.n);
        },
        [&](const RecurrentItem& item, const ChunkTiles& t, int64_t first) {
          write_tile(of_keys(d_q, item), first, t.n, t.d_q);
          write_tile(of_keys(d_k, item), first, t.n, t.d_k);
          write_tile(of_values(d_v, item), first, t.n, t.d_v);
        });
  };
  dispatch(ctx, op, cpu, work_of(ctx, q.rows(), shape, 5, 2));
}

size_t lightning_bytes(const LightningShape& shape) {
  return static_cast<size_t>(chunk_floats({1, shape.key_dim, shape.value_dim}, true)) * sizeof(float);
}

}  // namespace loraine
