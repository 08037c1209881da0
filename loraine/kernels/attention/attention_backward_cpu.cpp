// The backward of tiled attention on the CPU (FlashAttention, Dao et al. 2022): scores are computed once more from q, k and lse. A work
// item is a piece of the query rows of one tree (a sequence, or all that share rows) and one group of heads; the pieces, fixed by the
// tree, take about the same time each. Where there are several, each has its own sums of d_k and d_v, which are added up in ascending order
// afterwards. Of a sink, lse holds all that d_q, d_k and d_v need.
#include <algorithm>
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
};

// Query rows [row, row + rows) of a sequence, and the place of its runs of keys among those of its tree.
struct QueryTile {
  const Sequence* sequence;
  int64_t row, rows;
  size_t first_run, runs;
};

// Rows [row, row + rows) of the batch, all of sequence `owner`, are keys from `at` on of a piece.
struct KeyStretch {
  size_t owner;
  int64_t row, rows, at;
};

struct Piece {
  size_t first, last;                 // query tiles of the tree
  int64_t rows, keys;                 // of them, and all that they see
  std::vector<KeyStretch> stretches;  // where these keys are
  int64_t sums = 0;                   // rows of sums of other pieces that lie before its own in `partial`
};

// Sequences that share rows, or one that shares none.
struct SequenceTree {
  std::vector<size_t> sequences;
  int64_t rows = 0;
  std::vector<QueryTile> tiles;  // of all of them in their order
  std::vector<KeyRun> runs;
  std::vector<Piece> pieces;
  std::span<const KeyRun> runs_of(const QueryTile& tile) const { return std::span(runs).subspan(tile.first_run, tile.runs); }
};

std::vector<SequenceTree> trees_of(std::span<const Sequence> sequences, const AttentionShape& shape) {
  std::vector<SequenceTree> trees;
  std::vector<size_t> tree_of(sequences.size());
  const int64_t step = query_tile(shape);
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    tree_of[i] = s.parent < 0 ? trees.size() : tree_of[static_cast<size_t>(s.parent)];
    if (s.parent < 0) trees.emplace_back();
    SequenceTree& tree = trees[tree_of[i]];
    tree.sequences.push_back(i);
    tree.rows += s.length;
    const size_t first = tree.runs.size();
    add_key_runs(tree.runs, sequences, i, s.kv_length);
    for (int64_t row = 0; row < s.length; row += step)
      tree.tiles.push_back({&s, row, std::min(step, s.length - row), first, tree.runs.size() - first});
  }
  return trees;
}

void see_keys(std::vector<KeyStretch>& stretches, const KeyRun& run, const Keys& keys) {
  const int64_t first = run.row_of(keys.first), last = run.row_of(keys.last);
  const auto found = std::ranges::find(stretches, run.owner, &KeyStretch::owner);
  if (found == stretches.end()) {
    stretches.push_back({run.owner, first, last - first, 0});
    return;
  }
  const int64_t end = std::max(found->row + found->rows, last);
  found->row = std::min(found->row, first);
  found->rows = end - found->row;
}

Piece piece_of(const SequenceTree& tree, size_t first, size_t last, const AttentionShape& shape) {
  Piece piece{first, last, 0, 0, {}};
  for (size_t i = first; i < last; ++i) {
    const QueryTile& tile = tree.tiles[i];
    piece.rows += tile.rows;
    for (const KeyRun& run : tree.runs_of(tile))
      if (const Keys keys = tiles_of(run, keys_of_rows(*tile.sequence, tile.row, tile.rows, shape)); keys.last > keys.first)
        see_keys(piece.stretches, run, keys);
  }
  for (KeyStretch& one : piece.stretches) {
    one.at = piece.keys;
    piece.keys += one.rows;
  }
  return piece;
}

// Whole query tiles, cut where the tiles before take about index / pieces of the time of all.
std::vector<Piece> cut_tree(const SequenceTree& tree, const AttentionShape& shape, int64_t pieces) {
  const auto seen = [&](const QueryTile& tile) {
    int64_t sum = 0;
    for (const KeyRun& run : tree.runs_of(tile)) {
      const Keys keys = tiles_of(run, keys_of_rows(*tile.sequence, tile.row, tile.rows, shape));
      sum += keys.last - keys.first;
    }
    return sum;
  };
  int64_t all = 0, done = 0;
  for (const QueryTile& tile : tree.tiles) all += seen(tile);
  std::vector<Piece> out;
  size_t first = 0;
  for (size_t i = 0; i < tree.tiles.size(); ++i) {
    done += seen(tree.tiles[i]);
    if (i + 1 < tree.tiles.size() && done * pieces < all * (static_cast<int64_t>(out.size()) + 1)) continue;
    out.push_back(piece_of(tree, first, i + 1, shape));
    first = i + 1;
  }
  return out;
}

// As many pieces as the sequences would have by themselves; fewer where the sums that these need have no room in `partial`.
void cut_into_pieces(SequenceTree& tree, const AttentionShape& shape) {
  const int64_t step = query_tile(shape), most = most_pieces(shape);
  int64_t pieces = 0;
  for (size_t begin = 0; begin < tree.tiles.size();) {
    const int64_t tiles = (tree.tiles[begin].sequence->length + step - 1) / step;
    pieces += std::min(most, tiles);
    begin += static_cast<size_t>(tiles);
  }
  if (most == 1) pieces = 1;
  for (;; pieces -= std::max<int64_t>(1, pieces / 4)) {
    tree.pieces = cut_tree(tree, shape, pieces);
    int64_t sums = 0;
    for (Piece& piece : tree.pieces) {
      piece.sums = sums;
      sums += piece.keys;
    }
    if (tree.pieces.size() <= 1 || sums <= most * tree.rows) return;
  }
}

struct Item {
  const SequenceTree* tree;
  const Piece* piece;
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

// Calls body(stacked row, row of the sequence, head) for the query rows of a tile and the group, whose stack begins at `at`.
template <class Body>
void for_stack(const QueryTile& tile, int64_t kv_head, int64_t group, int64_t at, Body&& body) {
  for (int64_t h = 0; h < group; ++h)
    for (int64_t i = 0; i < tile.rows; ++i) body(at + h * tile.rows + i, tile.row + i, kv_head * group + h);
}

// Adds what the query rows of a tile, stacked from `at`, and keys [key, key + n), which lie in the room from `first` on, give each other.
void backward_tile(const Gradients& g, const Item& t, const Room& room, const QueryTile& tile, int64_t at, int64_t key, int64_t first,
                   int64_t n) {
  const Sequence& s = *tile.sequence;
  const int64_t stack = tile.rows * g.group();
  auto part = [&](const Tensor& of) { return of.row_range(0, stack).col_range(0, n); };
  const Tensor scores = part(room.scores), d_p = part(room.d_p), p = part(room.p), d_s = part(room.d_s), q = room.q.row_range(at, stack),
               d_o = room.d_o.row_range(at, stack), k = room.k.row_range(first, n);
  tile_product(scores, q, k, false, true, false);
  tile_product(d_p, d_o, room.v.row_range(first, n), false, true, false);
  for_stack(tile, t.kv_head, g.group(), 0, [&](int64_t j, int64_t i, int64_t head) {
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

// The sums of a piece: [keys, Hkv·D] and, behind them, [keys, Hkv·Dv].
Tensor partial_k(const Gradients& g, const Piece& piece) {
  return Tensor(g.partial.f32() + piece.sums * (g.k.cols() + g.v.cols()), Dtype::F32, {piece.keys, g.k.cols()});
}
Tensor partial_v(const Gradients& g, const Piece& piece) {
  return Tensor(partial_k(g, piece).f32() + piece.keys * g.k.cols(), Dtype::F32, {piece.keys, g.v.cols()});
}

void backward_piece(const Gradients& g, const Item& t) {
  const Piece& piece = *t.piece;
  const int64_t D = g.shape.head_dim, V = g.shape.value_width(), group = g.group();
  const Room room(query_tile(g.shape) * group, piece.rows * group, piece.keys, g.shape, operand_type(g.q));
  const auto for_tiles = [&](const auto& body) {  // body(tile, where its stack begins)
    int64_t at = 0;
    for (size_t i = piece.first; i < piece.last; ++i) {
      body(t.tree->tiles[i], at);
      at += t.tree->tiles[i].rows * group;
    }
  };
  for_tiles([&](const QueryTile& tile, int64_t at) {
    for_stack(tile, t.kv_head, group, at, [&](int64_t j, int64_t i, int64_t head) {
      const int64_t row = tile.sequence->start + i;
      take_rows(room.q.row_range(j, 1), head_rows(g.q, row, 1, head, D));
      take_rows(room.d_o.row_range(j, 1), head_rows(g.d_o, row, 1, head, V));
      room.delta[j] = delta_of(g, row, head, room.first, room.second);
    });
  });
  for (const KeyStretch& one : piece.stretches) {
    take_rows(room.k.row_range(one.at, one.rows), head_rows(g.k, one.row, one.rows, t.kv_head, D));
    take_rows(room.v.row_range(one.at, one.rows), head_rows(g.v, one.row, one.rows, t.kv_head, V));
  }
  for (const Tensor* sum : {&room.d_q, &room.d_k, &room.d_v}) std::fill(sum->f32(), sum->f32() + sum->numel(), 0.0f);
  for_tiles([&](const QueryTile& tile, int64_t at) {
    for (const KeyRun& run : t.tree->runs_of(tile)) {
      const Keys seen = tiles_of(run, keys_of_rows(*tile.sequence, tile.row, tile.rows, g.shape));
      if (seen.first == seen.last) continue;
      const KeyStretch& keys = *std::ranges::find(piece.stretches, run.owner, &KeyStretch::owner);
      for (int64_t key = seen.first; key < seen.last; key += kKeyTile)
        backward_tile(g, t, room, tile, at, key, keys.at + run.row_of(key) - keys.row, std::min(kKeyTile, seen.last - key));
    }
  });
  for_tiles([&](const QueryTile& tile, int64_t at) {
    for_stack(tile, t.kv_head, group, at, [&](int64_t j, int64_t i, int64_t head) {
      write_rows(head_rows(g.d_q, tile.sequence->start + i, 1, head, D), room.d_q.row_range(j, 1));
    });
  });
  if (t.tree->pieces.size() > 1) {
    write_rows(head_rows(partial_k(g, piece), 0, piece.keys, t.kv_head, D), room.d_k);
    write_rows(head_rows(partial_v(g, piece), 0, piece.keys, t.kv_head, V), room.d_v);
    return;
  }
  for (const KeyStretch& one : piece.stretches) {
    write_rows(head_rows(g.d_k, one.row, one.rows, t.kv_head, D), room.d_k.row_range(one.at, one.rows));
    write_rows(head_rows(g.d_v, one.row, one.rows, t.kv_head, V), room.d_v.row_range(one.at, one.rows));
  }
}

// Row `row` of d_k and d_v: the sums of all pieces of its tree that see it.
void add_up(const Gradients& g, const SequenceTree& tree, int64_t row) {
  for (const bool of_k : {true, false}) {
    const Tensor& to = of_k ? g.d_k : g.d_v;
    float* sum = begin_row(to, row, row_room(to.cols()));
    std::fill(sum, sum + to.cols(), 0.0f);
    for (const Piece& piece : tree.pieces)
      for (const KeyStretch& one : piece.stretches) {
        if (row < one.row || row >= one.row + one.rows) continue;
        const Tensor from = of_k ? partial_k(g, piece) : partial_v(g, piece);
        add_row(sum, from.f32() + (one.at + row - one.row) * from.row_stride, to.cols());
      }
    finish_row(to, row, sum);
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

size_t attention_backward_bytes(const AttentionShape& shape, Dtype activations, int64_t length, int64_t shared) {
  const Sequence s{0, length, 0, length};
  const int64_t group = shape.heads / shape.kv_heads;
  const auto floats = [&](int64_t rows, int64_t keys) {
    return Room::floats(query_tile(shape) * group, rows * group, keys, shape, has_bf16_products() ? activations : Dtype::F32);
  };
  int64_t most = shared > 0 ? floats(shared, shared) : 0;  // a piece has at most all rows of a tree
  SequenceTree tree = trees_of({&s, 1}, shape)[0];
  cut_into_pieces(tree, shape);
  for (const Piece& piece : tree.pieces) most = std::max(most, floats(piece.rows, piece.keys));
  return static_cast<size_t>(most) * sizeof(float);
}

void attention_backward_cpu(const Tensor& d_q, const Tensor& d_k, const Tensor& d_v, const Tensor& d_o, const Tensor& o, const Tensor& lse,
                            const Tensor& q, const Tensor& k, const Tensor& v, std::span<const Sequence> sequences,
                            const AttentionShape& shape, const Tensor& partial, float* d_sinks) {
  const Gradients g{d_q, d_k, d_v, d_o, o, lse, q, k, v, shape, partial};
  std::vector<SequenceTree> trees = trees_of(sequences, shape);
  std::vector<Item> items;
  int64_t sums = 0;
  for (SequenceTree& tree : trees) {
    cut_into_pieces(tree, shape);
    for (Piece& piece : tree.pieces) {
      piece.sums += sums;
      for (int64_t head = 0; head < shape.kv_heads; ++head) items.push_back({&tree, &piece, head});
    }
    sums += most_pieces(shape) * tree.rows;
  }
  parallel_for(static_cast<int64_t>(items.size()), [&](int64_t i) { backward_piece(g, items[static_cast<size_t>(i)]); });
  for (const SequenceTree& tree : trees) {
    if (tree.pieces.size() <= 1) continue;
    for (const size_t i : tree.sequences)
      parallel_for(
          sequences[i].length, [&](int64_t row) { add_up(g, tree, sequences[i].start + row); }, row_chunk(k.cols() + v.cols()));
  }
  if (d_sinks) parallel_for(shape.heads, [&](int64_t head) { d_sinks[head] += sink_gradient(g, sequences, head); });
}

}  // namespace loraine
