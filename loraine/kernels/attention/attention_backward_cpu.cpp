// The backward of tiled attention on the CPU (FlashAttention, Dao et al. 2022): scores are computed once more from q, k and lse. A work
// item is a piece of the query rows of one sequence and one group of heads; the pieces, fixed by the sequence, take about the same time
// each. Where there are several, each has its own sums of d_k and d_v, which are added up in ascending order afterwards. Of a sink, lse
// holds all that d_q, d_k and d_v need.
#include <cmath>
#include <span>
#include <vector>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/attention/attention_tiles.h"
#include "loraine/kernels/attention/softcap.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

LORAINE_CLONES void add_row(float* sum, const float* x, int64_t n) {
#pragma omp simd
  for (int64_t i = 0; i < n; ++i) sum[i] += x[i];
}

int64_t most_pieces(const AttentionShape& shape) { return std::clamp<int64_t>(16 / shape.kv_heads, 1, 4); }

struct Gradients {
  const Tensor &d_q, &d_k, &d_v, &d_o, &o, &lse, &q, &k, &v;
  const AttentionShape& shape;
  const Tensor& partial;
  int64_t group() const { return shape.heads / shape.kv_heads; }
  // Sums of piece `index` [T, Hkv·D] and [T, Hkv·Dv]: one after the other in the memory of `partial`, so that their rows lie close
  // together.
  Tensor partial_k(int64_t index) const { return sums(index * (k.cols() + v.cols()), k.cols()); }
  Tensor partial_v(int64_t index) const { return sums(index * (k.cols() + v.cols()) + k.cols(), v.cols()); }

 private:
  Tensor sums(int64_t before, int64_t cols) const { return Tensor(partial.f32() + before * k.rows(), Dtype::F32, {k.rows(), cols}); }
};

struct Piece {
  int64_t row, rows;  // query rows of the sequence
  Keys keys;          // all that they see
};

// Whole query tiles, cut where the tiles before take about index / pieces of the time of all.
std::vector<Piece> pieces_of(const Sequence& s, const AttentionShape& shape) {
  const int64_t step = query_tile(shape), tiles = (s.length + step - 1) / step, pieces = std::min(most_pieces(shape), tiles);
  auto seen = [&](int64_t tile) {
    const Keys keys = tiles_of(s, tile * step, std::min(step, s.length - tile * step), shape);
    return keys.last - keys.first;
  };
  int64_t all = 0, done = 0, first = 0;
  for (int64_t tile = 0; tile < tiles; ++tile) all += seen(tile);
  std::vector<Piece> out;
  for (int64_t tile = 0; tile < tiles; ++tile) {
    done += seen(tile);
    const int64_t index = static_cast<int64_t>(out.size());
    if (tile + 1 < tiles && done * pieces < all * (index + 1)) continue;
    const int64_t row = first * step, rows = std::min((tile + 1) * step, s.length) - row;
    out.push_back({row, rows, tiles_of(s, row, rows, shape)});
    first = tile + 1;
  }
  return out;
}

struct Item {
  const Sequence* sequence;
  Piece piece;
  int64_t index, pieces;  // of the sequence
  int64_t kv_head;
};

// Everything one item works on, laid close together: a tile then lies in few pages of memory, whatever the row stride of the activations
// is. Query rows are stacked tile by tile.
struct Room {
  Tensor scores, d_p;    // [stack, kKeyTile] F32
  Tensor p, d_s;         // as operands; the same in F32
  Tensor q, d_o;         // [rows · group, D] and [rows · group, Dv] operands
  Tensor k, v;           // [keys, D] and [keys, Dv] operands
  Tensor d_q, d_k, d_v;  // F32
  float *delta, *first, *second;
  Room(int64_t stack, int64_t rows, int64_t keys, const AttentionShape& shape, Dtype type)
      : Room(TileMemory(floats(stack, rows, keys, shape, type)), stack, rows, keys, shape, type) {}
  static int64_t floats(int64_t stack, int64_t rows, int64_t keys, const AttentionShape& shape, Dtype type) {
    const int64_t D = shape.head_dim, V = shape.value_width(), operands = (rows + keys) * (D + V) / (type == Dtype::F32 ? 1 : 2);
    return 4 * stack * kKeyTile + operands + rows * D + keys * (D + V) + rows + 2 * V + 16 * 14;
  }

 private:
  Room(TileMemory memory, int64_t stack, int64_t rows, int64_t keys, const AttentionShape& shape, Dtype type) {
    const int64_t D = shape.head_dim, V = shape.value_width();
    scores = p = memory.take(Dtype::F32, stack, kKeyTile);
    d_p = d_s = memory.take(Dtype::F32, stack, kKeyTile);
    if (type != Dtype::F32) p = memory.take(type, stack, kKeyTile), d_s = memory.take(type, stack, kKeyTile);
    q = memory.take(type, rows, D), d_o = memory.take(type, rows, V);
    k = memory.take(type, keys, D), v = memory.take(type, keys, V);
    d_q = memory.take(Dtype::F32, rows, D);
    d_k = memory.take(Dtype::F32, keys, D), d_v = memory.take(Dtype::F32, keys, V);
    delta = memory.floats(rows), first = memory.floats(V), second = memory.floats(V);
  }
};

// Calls body(stacked row, row of the sequence, head) for query rows [row, row + rows) of the group, whose stack begins at `at`.
template <class Body>
void for_stack(const Item& t, int64_t group, int64_t row, int64_t rows, int64_t at, Body&& body) {
  for (int64_t h = 0; h < group; ++h)
    for (int64_t i = 0; i < rows; ++i) body(at + h * rows + i, row + i, t.kv_head * group + h);
}

// Adds what query rows [row, row + rows), stacked from `at`, and keys [key, key + n) give each other.
void backward_tile(const Gradients& g, const Item& t, const Room& room, int64_t row, int64_t rows, int64_t at, int64_t key, int64_t n) {
  const Sequence& s = *t.sequence;
  const int64_t stack = rows * g.group(), first = key - t.piece.keys.first;
  auto part = [&](const Tensor& tile) { return tile.row_range(0, stack).col_range(0, n); };
  const Tensor scores = part(room.scores), d_p = part(room.d_p), p = part(room.p), d_s = part(room.d_s), q = room.q.row_range(at, stack),
               d_o = room.d_o.row_range(at, stack), k = room.k.row_range(first, n);
  tile_product(scores, q, k, false, true, false);
  tile_product(d_p, d_o, room.v.row_range(first, n), false, true, false);
  for_stack(t, g.group(), row, rows, 0, [&](int64_t j, int64_t i, int64_t head) {
    const Keys keys = keys_of(s, i, g.shape);
    const int64_t lo = std::clamp<int64_t>(keys.first - key, 0, n), hi = std::clamp<int64_t>(keys.last - key, lo, n);
    zero_outside(p, j, lo, hi);
    zero_outside(d_s, j, lo, hi);
    float *seen = scores.f32() + j * kKeyTile + lo, *d_seen = d_p.f32() + j * kKeyTile + lo;
    float scale = g.shape.scale, delta = room.delta[at + j];
    if (g.shape.softcap > 0) {
      cap_scores_backward(seen, d_seen, hi - lo, g.shape, delta);
      scale = 1, delta = 0;
    }
    softmax_backward_row(p.row_range(j, 1).col_range(lo, 0).data, d_s.row_range(j, 1).col_range(lo, 0).data, p.dtype, seen, d_seen, hi - lo,
                         scale, g.lse.f32()[(s.start + i) * g.lse.row_stride + head], delta);
  });
  tile_product(room.d_v.row_range(first, n), p, d_o, true, false, true);
  tile_product(room.d_k.row_range(first, n), d_s, q, true, false, true);
  tile_product(room.d_q.row_range(at, stack), d_s, k, false, false, true);
}

// Σ d_o · o of row `row` of the batch; first and second have room for Dv floats each.
float delta_of(const Gradients& g, int64_t row, int64_t head, float* first, float* second) {
  const int64_t V = g.shape.value_width();
  return dot(read_row(head_rows(g.d_o, row, 1, head, V), 0, first), read_row(head_rows(g.o, row, 1, head, V), 0, second), V);
}

void write_rows(const Tensor& to, const Tensor& from) {
  for (int64_t i = 0; i < from.rows(); ++i) write_row(to, i, from.f32() + i * from.row_stride);
}

void backward_piece(const Gradients& g, const Item& t) {
  const Sequence& s = *t.sequence;
  const int64_t D = g.shape.head_dim, V = g.shape.value_width(), group = g.group(), step = query_tile(g.shape),
                keys = t.piece.keys.last - t.piece.keys.first;
  const Room room(step * group, t.piece.rows * group, keys, g.shape, operand_type(g.q));
  const int64_t end = t.piece.row + t.piece.rows;
  auto stack_of = [&](int64_t row) { return (row - t.piece.row) * group; };  // of the tile that begins there
  for (int64_t row = t.piece.row; row < end; row += step)
    for_stack(t, group, row, std::min(step, end - row), stack_of(row), [&](int64_t j, int64_t i, int64_t head) {
      take_rows(room.q.row_range(j, 1), head_rows(g.q, s.start + i, 1, head, D));
      take_rows(room.d_o.row_range(j, 1), head_rows(g.d_o, s.start + i, 1, head, V));
      room.delta[j] = delta_of(g, s.start + i, head, room.first, room.second);
    });
  take_rows(room.k, head_rows(g.k, s.start + t.piece.keys.first, keys, t.kv_head, D));
  take_rows(room.v, head_rows(g.v, s.start + t.piece.keys.first, keys, t.kv_head, V));
  for (const Tensor* sum : {&room.d_q, &room.d_k, &room.d_v}) std::fill(sum->f32(), sum->f32() + sum->numel(), 0.0f);
  for (int64_t row = t.piece.row; row < end; row += step) {
    const int64_t rows = std::min(step, end - row);
    const Keys seen = tiles_of(s, row, rows, g.shape);
    for (int64_t key = seen.first; key < seen.last; key += kKeyTile)
      backward_tile(g, t, room, row, rows, stack_of(row), key, std::min(kKeyTile, seen.last - key));
  }
  for (int64_t row = t.piece.row; row < end; row += step)
    for_stack(t, group, row, std::min(step, end - row), stack_of(row),
              [&](int64_t j, int64_t i, int64_t head) { write_rows(head_rows(g.d_q, s.start + i, 1, head, D), room.d_q.row_range(j, 1)); });
  const bool alone = t.pieces == 1;
  write_rows(head_rows(alone ? g.d_k : g.partial_k(t.index), s.start + t.piece.keys.first, keys, t.kv_head, D), room.d_k);
  write_rows(head_rows(alone ? g.d_v : g.partial_v(t.index), s.start + t.piece.keys.first, keys, t.kv_head, V), room.d_v);
}

// Row i of d_k and d_v of a sequence: the sums of all pieces that see it.
void add_up(const Gradients& g, const Sequence& s, const std::vector<Piece>& pieces, int64_t i) {
  for (const bool of_k : {true, false}) {
    const Tensor& to = of_k ? g.d_k : g.d_v;
    float* sum = begin_row(to, s.start + i, row_room(to.cols()));
    std::fill(sum, sum + to.cols(), 0.0f);
    for (size_t p = 0; p < pieces.size(); ++p) {
      if (i < pieces[p].keys.first || i >= pieces[p].keys.last) continue;
      const Tensor from = of_k ? g.partial_k(static_cast<int64_t>(p)) : g.partial_v(static_cast<int64_t>(p));
      add_row(sum, from.f32() + (s.start + i) * from.row_stride, to.cols());
    }
    finish_row(to, s.start + i, sum);
  }
}

// The gradient of a head's sink, −Σ p · delta, over the rows of all sequences in ascending order.
float sink_gradient(const Gradients& g, std::span<const Sequence> sequences, int64_t head) {
  const int64_t V = g.shape.value_width();
  float *first = row_room(2 * V), *second = first + V;
  double sum = 0;
  for (const Sequence& s : sequences)
    for (int64_t row = s.start; row < s.start + s.length; ++row)
      sum -= std::exp(double{g.shape.sinks[head]} - g.lse.f32()[row * g.lse.row_stride + head]) * delta_of(g, row, head, first, second);
  return static_cast<float>(sum);
}

}  // namespace

int64_t attention_partial_columns(const AttentionShape& shape) {
  const int64_t pieces = most_pieces(shape);
  return pieces == 1 ? 0 : pieces * shape.kv_heads * (shape.head_dim + shape.value_width());
}

size_t attention_backward_bytes(const AttentionShape& shape, Dtype activations, int64_t length) {
  const Sequence s{0, length, 0, length};
  const int64_t group = shape.heads / shape.kv_heads;
  int64_t most = 0;
  for (const Piece& piece : pieces_of(s, shape))
    most = std::max(most, Room::floats(query_tile(shape) * group, piece.rows * group, piece.keys.last - piece.keys.first, shape,
                                       has_bf16_products() ? activations : Dtype::F32));
  return static_cast<size_t>(most) * sizeof(float);
}

void attention_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o, const Tensor& lse,
                            const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                            const AttentionShape& shape, const Tensor& partial, float* d_sinks) {
  const Gradients g{d_q, d_k, d_v, d_o, o, lse, q, k, v, shape, partial};
  std::vector<Item> items;
  std::vector<std::vector<Piece>> all;
  for (const Sequence& s : sequences) {
    all.push_back(pieces_of(s, shape));
    const int64_t pieces = static_cast<int64_t>(all.back().size());
    for (int64_t index = 0; index < pieces; ++index)
      for (int64_t head = 0; head < shape.kv_heads; ++head)
        items.push_back({&s, all.back()[static_cast<size_t>(index)], index, pieces, head});
  }
  parallel_for(static_cast<int64_t>(items.size()), [&](int64_t i) { backward_piece(g, items[static_cast<size_t>(i)]); });
  for (size_t n = 0; n < sequences.size(); ++n)
    if (all[n].size() > 1)
      parallel_for(
          sequences[n].length, [&](int64_t i) { add_up(g, sequences[n], all[n], i); }, row_chunk(k.cols() + v.cols()));
  if (d_sinks) parallel_for(shape.heads, [&](int64_t head) { d_sinks[head] += sink_gradient(g, sequences, head); });
}

}  // namespace loraine
