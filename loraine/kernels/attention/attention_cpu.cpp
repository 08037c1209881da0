// Tiled attention on the CPU (the online softmax of FlashAttention, Dao et al. 2022). Work items are fixed by the sequences alone: a query
// tile of one group of heads, which adds up its key tiles in ascending order.
#include <cmath>
#include <limits>
#include <span>
#include <vector>

#include "loraine/kernels/activations/exp_rows.h"
#include "loraine/kernels/attention/attention_rows.h"
#include "loraine/kernels/attention/attention_tiles.h"
#include "loraine/kernels/attention/softcap.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {

LORAINE_CLONES float dot(const float* a, const float* b, int64_t n) {
  float sum = 0;
#pragma omp simd reduction(+ : sum)
  for (int64_t i = 0; i < n; ++i) sum += a[i] * b[i];
  return sum;
}

namespace {

constexpr int64_t kFewRows = 4;

struct Item {
  const Sequence* sequence;
  std::span<const KeyRun> runs;
  int64_t head, row, rows;  // rows of the sequence; head: of the keys
};

// The running softmax of the stacked rows of a tile: row j is query row j % rows of head j / rows of the group.
struct RunningSoftmax {
  Tensor sums;             // [stack, Dv] F32: Σ e^(score − maximum) · v
  float *maximum, *sum;    // [stack]
  Tensor scores, weights;  // [stack, kKeyTile] F32, and the same as an operand (in F32 in the same place)
};

// Scores of keys [key, key + n) become their weights; what was added up before is scaled to the new maximum.
void soften(const RunningSoftmax& r, const Item& t, const AttentionShape& shape, int64_t key, const Tensor& scores, const Tensor& weights) {
  const int64_t n = scores.cols();
  for (int64_t j = 0; j < scores.rows(); ++j) {
    const Keys keys = keys_of(*t.sequence, t.row + j % t.rows, shape);
    const int64_t lo = std::clamp<int64_t>(keys.first - key, 0, n), hi = std::clamp<int64_t>(keys.last - key, lo, n);
    zero_outside(weights, j, lo, hi);
    if (lo == hi) continue;
    float* seen = scores.f32() + j * scores.row_stride + lo;
    const float scale = cap_scores(seen, hi - lo, shape);
    const float maximum = std::max(r.maximum[j], max_row(seen, hi - lo) * scale), old = std::exp(r.maximum[j] - maximum);
    r.sum[j] = r.sum[j] * old + exp_row(weights.row_range(j, 1).col_range(lo, 0).data, weights.dtype, seen, hi - lo, scale, maximum);
    if (old != 1.0f) scale_row(r.sums.f32() + j * r.sums.row_stride, r.sums.cols(), old);
    r.maximum[j] = maximum;
  }
}

void forward_tile(const AttentionTensors& in, const Item& t) {
  const Sequence& s = *t.sequence;
  const int64_t D = in.shape.head_dim, V = in.shape.value_width(), group = in.group(), stack = group * t.rows;
  const Dtype type = operand_type(in.q);
  TileMemory memory(stack * (2 * kKeyTile + D + V + 2) + kKeyTile * (D + V) + 16 * 8);
  RunningSoftmax r;
  r.sums = memory.take(Dtype::F32, stack, V);
  r.maximum = memory.floats(stack), r.sum = memory.floats(stack);
  r.scores = r.weights = memory.take(Dtype::F32, stack, kKeyTile);
  if (type != Dtype::F32) r.weights = memory.take(type, stack, kKeyTile);
  const Tensor q = memory.take(type, stack, D), k_room = memory.take(type, kKeyTile, D), v_room = memory.take(type, kKeyTile, V);
  const float* sinks = in.shape.sinks;  // a row with one begins as if it had seen it
  for (int64_t h = 0; h < group; ++h) {
    const int64_t head = t.head * group + h;
    take_rows(q.row_range(h * t.rows, t.rows), head_rows(in.q, s.start + t.row, t.rows, head, D));
    std::fill_n(r.maximum + h * t.rows, t.rows, sinks ? sinks[head] : -std::numeric_limits<float>::infinity());
  }
  std::fill(r.sum, r.sum + stack, sinks ? 1.0f : 0.0f);
  std::fill(r.sums.f32(), r.sums.f32() + stack * V, 0.0f);
  auto tile_of = [&](const Tensor& kv, const KeyRun& run, int64_t key, int64_t n, const Tensor& room) {
    if (!s.pages && kv.dtype == type) return head_rows(kv, run.row_of(key), n, t.head, room.cols());
    for (int64_t done = 0, count = 0; done < n; done += count) {  // pages always, so that the bits are those of any pages
      count = s.kv_run(key + done, n - done);
      const int64_t row = s.pages ? s.kv_row(key + done) : run.row_of(key + done);
      take_rows(room.row_range(done, count), head_rows(kv, row, count, t.head, room.cols()));
    }
    return room.row_range(0, n);
  };
  for (const KeyRun& run : t.runs) {
    const Keys keys = tiles_of(run, keys_of_rows(s, t.row, t.rows, in.shape));
    for (int64_t key = keys.first; key < keys.last; key += kKeyTile) {
      const int64_t n = std::min(kKeyTile, keys.last - key);
      const Tensor scores = r.scores.col_range(0, n), weights = r.weights.col_range(0, n);
      tile_product(scores, q, tile_of(in.k, run, key, n, k_room), false, true, false);
      soften(r, t, in.shape, key, scores, weights);
      tile_product(r.sums, weights, tile_of(in.v, run, key, n, v_room), false, false, true);
    }
  }
  for (int64_t j = 0; j < stack; ++j) {
    const int64_t row = s.start + t.row + j % t.rows, head = t.head * group + j / t.rows;
    float* sums = r.sums.f32() + j * V;
    scale_row(sums, V, 1.0f / r.sum[j]);
    write_row(head_rows(in.o, row, 1, head, V), 0, sums);
    if (in.lse.data) in.lse.f32()[row * in.lse.row_stride + head] = r.maximum[j] + std::log(r.sum[j]);
  }
}

}  // namespace

void attention_cpu(const Tensor& o, const Tensor& lse, const Tensor& q, const Tensor& k, const Tensor& v,
                   std::span<const Sequence> sequences, const AttentionShape& shape) {
  const AttentionTensors in{o, lse, q, k, v, shape};
  std::vector<Item> tiles;
  std::vector<Sequence> rows;
  std::vector<KeyRun> runs;
  std::vector<size_t> ends;  // of each sequence's runs
  const auto alone = [](const Sequence& s) { return s.length <= kFewRows && s.parent < 0; };
  for (size_t i = 0; i < sequences.size(); ++i) {
    if (alone(sequences[i])) rows.push_back(sequences[i]);
    else add_key_runs(runs, sequences, i, sequences[i].kv_length);
    ends.push_back(runs.size());
  }
  for (size_t i = 0; i < sequences.size(); ++i) {
    const Sequence& s = sequences[i];
    const size_t first = i == 0 ? 0 : ends[i - 1];
    const std::span own = std::span<const KeyRun>(runs).subspan(first, ends[i] - first);
    if (own.empty()) continue;
    const int64_t step = query_tile(shape);
    for (int64_t row = (s.length - 1) / step * step; row >= 0; row -= step)  // those that see most first
      for (int64_t head = 0; head < shape.kv_heads; ++head) tiles.push_back({&s, own, head, row, std::min(step, s.length - row)});
  }
  parallel_for(static_cast<int64_t>(tiles.size()), [&](int64_t i) { forward_tile(in, tiles[static_cast<size_t>(i)]); });
  if (!rows.empty()) attention_rows_cpu(o, lse, q, k, v, rows, shape);
}

}  // namespace loraine
