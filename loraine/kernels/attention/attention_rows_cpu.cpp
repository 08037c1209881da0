// A work item is a piece of the keys of one row, with all heads (the split of Flash-Decoding, Dao et al. 2023): keys and values are then
// read as they lie, once. The pieces of a row, fixed by the keys it sees, are brought to one maximum and added up in ascending order
// afterwards.
#include <cmath>
#include <vector>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/attention/attention_rows.h"
#include "loraine/kernels/attention/attention_tiles.h"
#include "loraine/kernels/attention/head_rows.h"
#include "loraine/kernels/attention/softcap.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"

namespace loraine {
namespace {

constexpr int64_t kPieceKeys = 64;  // at most
constexpr int64_t kBlockKeys = 16;  // are asked for while the second block before them is worked on
constexpr int64_t kBlocksAhead = 2;

struct QueryRow {
  const Sequence* sequence;
  int64_t row;  // of the sequence
  Keys keys;
  int64_t first_piece, pieces, piece_keys;
};

// An even number of pieces, so that two threads have as much to do.
int64_t piece_keys_of(int64_t keys) {
  const int64_t pieces = 2 * ((keys + 2 * kPieceKeys - 1) / (2 * kPieceKeys));
  return ((keys + pieces - 1) / pieces + 3) / 4 * 4;
}

// What a piece gives each head.
struct Partial {
  float *sums, *maximum, *sum;  // [heads, Dv] Σ e^(score − maximum) · v; [heads]; [heads] Σ e^(score − maximum)
};

// Keys [keys.first, keys.last) of the sequence, at most kPieceKeys.
void attend(const AttentionTensors& in, const QueryRow& r, Keys keys, const Partial& out) {
  const Sequence& s = *r.sequence;
  const int64_t D = in.shape.head_dim, V = in.shape.value_width(), heads = in.shape.heads, group = in.group(), n = keys.last - keys.first,
                blocks = (n + kBlockKeys - 1) / kBlockKeys;
  TileMemory memory(heads * (kPieceKeys + D) + 16 * 2);
  float *scores = memory.floats(heads * kPieceKeys), *room = memory.floats(heads * D);
  const float* q = read_row(in.q, s.start + r.row, room);
  auto rows_of = [&](const Tensor& kv, int64_t width, int64_t first, int64_t end, int64_t g) {
    if (first >= end) return Tensor();
    return head_rows(kv, s.kv_row(first), s.kv_run(first, std::min(kBlockKeys, end - first)), g, width);
  };
  auto block_of_k = [&](int64_t b, int64_t g) { return rows_of(in.k, D, keys.first + b * kBlockKeys, keys.last, g); };
  auto block_of_v = [&](int64_t b, int64_t g) { return rows_of(in.v, V, keys.first + b * kBlockKeys, keys.last, g); };
  // A block that goes on in another page: use(its rows there, how many come before).
  auto rest_of = [&](const Tensor& kv, int64_t width, int64_t b, int64_t g, int64_t before, auto&& use) {
    const int64_t first = keys.first + b * kBlockKeys, end = std::min(first + kBlockKeys, keys.last);
    if (first + before < end) use(rows_of(kv, width, first + before, end, g), before);
  };
  auto ahead = [&](int64_t b, int64_t g) {  // the blocks of v follow those of k, and then those of the next piece
    b += kBlocksAhead;
    if (b >= 2 * blocks) return rows_of(in.k, D, keys.last + (b - 2 * blocks) * kBlockKeys, r.keys.last, g);
    return b < blocks ? block_of_k(b, g) : block_of_v(b - blocks, g);
  };
  for (int64_t b = 0; b < blocks; ++b)
    for (int64_t g = 0; g < in.shape.kv_heads; ++g) {
      const Tensor block = block_of_k(b, g);
      float* at = scores + g * group * kPieceKeys + b * kBlockKeys;
      head_scores(at, kPieceKeys, block, q + g * group * D, group, ahead(b, g));
      rest_of(in.k, D, b, g, block.rows(),
              [&](const Tensor& rest, int64_t before) { head_scores(at + before, kPieceKeys, rest, q + g * group * D, group, Tensor()); });
    }
  for (int64_t h = 0; h < heads; ++h) {
    float* row = scores + h * kPieceKeys;
    const float scale = cap_scores(row, n, in.shape);
    out.maximum[h] = max_row(row, n) * scale;
    out.sum[h] = exp_row(row, n, scale, out.maximum[h]);
  }
  std::fill_n(out.sums, heads * V, 0.0f);
  for (int64_t b = 0; b < blocks; ++b)
    for (int64_t g = 0; g < in.shape.kv_heads; ++g) {
      const Tensor block = block_of_v(b, g);
      const float* weights = scores + g * group * kPieceKeys + b * kBlockKeys;
      add_weighted_values(out.sums + g * group * V, block, weights, kPieceKeys, group, ahead(blocks + b, g));
      rest_of(in.v, V, b, g, block.rows(), [&](const Tensor& rest, int64_t before) {
        add_weighted_values(out.sums + g * group * V, rest, weights + before, kPieceKeys, group, Tensor());
      });
    }
}

// One head of a row: partial(p) for its pieces p.
template <class PartialOf>
void add_up(const AttentionTensors& in, const QueryRow& r, int64_t head, PartialOf&& partial) {
  const int64_t V = in.shape.value_width();
  const Tensor o = head_rows(in.o, r.sequence->start + r.row, 1, head, V);
  float* out = begin_row(o, 0, row_room(V));
  float maximum = partial(0).maximum[head], sum = 0;
  for (int64_t p = 1; p < r.pieces; ++p) maximum = std::max(maximum, partial(p).maximum[head]);
  if (in.shape.sinks) {
    maximum = std::max(maximum, in.shape.sinks[head]);
    sum = std::exp(in.shape.sinks[head] - maximum);
  }
  std::fill_n(out, V, 0.0f);
  for (int64_t p = 0; p < r.pieces; ++p) {
    const Partial from = partial(p);
    const float weight = std::exp(from.maximum[head] - maximum);
    sum += weight * from.sum[head];
    for (int64_t d = 0; d < V; ++d) out[d] += weight * from.sums[head * V + d];
  }
  scale_row(out, V, 1.0f / sum);
  finish_row(o, 0, out);
  if (in.lse.data) in.lse.f32()[(r.sequence->start + r.row) * in.lse.row_stride + head] = maximum + std::log(sum);
}

}  // namespace

void attention_rows_cpu(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                        std::span<const Sequence> sequences, const AttentionShape& shape) {
  const AttentionTensors in{o, lse, q, k, v, shape};
  const int64_t D = shape.head_dim, V = shape.value_width(), heads = shape.heads, floats = heads * (V + 2);
  std::vector<QueryRow> rows;
  std::vector<size_t> row_of;  // of each piece
  int64_t longest = 1;
  for (const Sequence& s : sequences)
    for (int64_t row = 0; row < s.length; ++row) {
      const Keys keys = keys_of(s, row, shape);
      const int64_t size = piece_keys_of(keys.last - keys.first), pieces = (keys.last - keys.first + size - 1) / size;
      rows.push_back({&s, row, keys, static_cast<int64_t>(row_of.size()), pieces, size});
      row_of.insert(row_of.end(), static_cast<size_t>(pieces), rows.size() - 1);
      longest = std::max(longest, size);
    }
  thread_local Buffer room;
  const int64_t items = static_cast<int64_t>(row_of.size());
  const size_t bytes = static_cast<size_t>(items * floats) * sizeof(float);
  if (room.bytes() < bytes) room = Buffer(bytes);
  float* all = static_cast<float*>(room.data());
  auto partial_of = [&](int64_t piece) {
    float* at = all + piece * floats;
    return Partial{at, at + heads * V, at + heads * (V + 1)};
  };
  // Over a short past it is done sooner than a second thread wakes up.
  const int64_t chunk = std::max<int64_t>(1, 32768 / (longest * D * heads));
  parallel_for<Take::shares>(
      items,
      [&](int64_t piece) {
        const QueryRow& row = rows[row_of[static_cast<size_t>(piece)]];
        const int64_t first = row.keys.first + (piece - row.first_piece) * row.piece_keys;
        attend(in, row, {first, std::min(first + row.piece_keys, row.keys.last)}, partial_of(piece));
      },
      chunk);
  const int64_t mean_pieces = items / static_cast<int64_t>(rows.size()) + 1;
  parallel_for(
      static_cast<int64_t>(rows.size()) * heads,
      [&](int64_t i) {
        const QueryRow& row = rows[static_cast<size_t>(i / heads)];
        add_up(in, row, i % heads, [&](int64_t p) { return partial_of(row.first_piece + p); });
      },
      row_chunk(mean_pieces * V));
}

}  // namespace loraine
