// What the forward and the backward of attention on the CPU share: which keys a row sees, and tiles of stacked query rows. The query heads
// of a group see the same keys, so their rows of a tile lie one below the other and are multiplied as one.
#pragma once
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "loraine/core/batch.h"
#include "loraine/kernels/attention/attention.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/products/library_product.h"
#include "loraine/kernels/products/sgemm.h"

namespace loraine {

// What the forward reads and writes (attention.h has the shapes).
struct AttentionTensors {
  const Tensor &o, &lse, &q, &k, &v;
  const AttentionShape& shape;
  int64_t group() const { return shape.heads / shape.kv_heads; }
};

inline constexpr int64_t kKeyTile = 128;

// Query rows of each head in a tile: at most 256 stacked ones, and whole tiles in a page of keys, so that a sequence read page by page has
// the tiles of one read at once.
inline int64_t query_tile(const AttentionShape& shape) {
  int64_t rows = kKvPage;
  while (rows > 16 && rows * shape.heads > 256 * shape.kv_heads) rows /= 2;
  return rows;
}

// Keys [first, last) of the sequence that query row `row` sees. A key's number is its place in the whole sequence, shared rows included.
struct Keys {
  int64_t first, last;
};
inline Keys keys_of(const Sequence& s, int64_t row, const AttentionShape& shape) {
  const int64_t last = s.kv_length - s.length + row + 1;
  int64_t first = shape.window > 0 ? std::max<int64_t>(0, last - shape.window) : 0;
  if (shape.chunk > 0) first = std::max(first, (last - 1) / shape.chunk * shape.chunk);
  return {first, last};
}
// Those that rows [row, row + rows) see.
inline Keys keys_of_rows(const Sequence& s, int64_t row, int64_t rows, const AttentionShape& shape) {
  return {keys_of(s, row, shape).first, keys_of(s, row + rows - 1, shape).last};
}

// Keys [first, last) of a sequence, which are rows of sequence `owner` and lie one after the other from row `row` on.
struct KeyRun {
  int64_t first, last, row;
  size_t owner;
  int64_t row_of(int64_t key) const { return row + key - first; }
};
// Adds the runs of the first `last` keys of sequence `index`, in ascending order: what it shares, then its own.
inline void add_key_runs(std::vector<KeyRun>& runs, std::span<const Sequence> sequences, size_t index, int64_t last) {
  const Sequence& s = sequences[index];
  if (s.parent >= 0) add_key_runs(runs, sequences, static_cast<size_t>(s.parent), std::min(last, s.shared()));
  if (last > s.shared()) runs.push_back({s.shared(), last, s.kv_start, index});
}
// What of the run lies within `keys`, from the beginning of a key tile of the run; first == last: nothing.
inline Keys tiles_of(const KeyRun& run, const Keys& keys) {
  if (keys.first >= run.last || keys.last <= run.first) return {0, 0};
  return {run.first + std::max<int64_t>(0, keys.first - run.first) / kKeyTile * kKeyTile, std::min(run.last, keys.last)};
}

// Rows [first, first + rows) of one head's columns, `width` of them.
inline Tensor head_rows(const Tensor& t, int64_t first, int64_t rows, int64_t head, int64_t width) {
  return t.row_range(first, rows).col_range(head * width, width);
}

// The type in which products of these activations run: BF16 where the machine multiplies it.
inline Dtype operand_type(const Tensor& activations) {
  static const bool has = has_bf16_products();
  return has ? activations.dtype : Dtype::F32;
}

float dot(const float* a, const float* b, int64_t n);  // Σ a·b

// Copies rows into those of `to`, of the same type or widened. (loraine::copy_rows is that of model/step.h, which does not widen.)
inline void take_rows(const Tensor& to, const Tensor& from) {
  if (to.dtype != from.dtype) return widen_rows(to, from);
  for (int64_t i = 0; i < from.rows(); ++i)
    std::memcpy(to.row_range(i, 1).data, from.row_range(i, 1).data, static_cast<size_t>(from.cols()) * size_of(from.dtype));
}

// Row i of a tile, but for its elements [lo, hi), becomes zero.
inline void zero_outside(const Tensor& tile, int64_t i, int64_t lo, int64_t hi) {
  const Tensor row = tile.row_range(i, 1);
  const size_t size = size_of(tile.dtype);
  std::memset(row.data, 0, static_cast<size_t>(lo) * size);
  std::memset(row.col_range(hi, 0).data, 0, static_cast<size_t>(tile.cols() - hi) * size);
}

// y [m, n] F32 (+)= op(x) op(w), both operands F32 or both BF16.
inline void tile_product(const Tensor& y, const Tensor& x, const Tensor& w, bool x_t, bool w_t, bool add) {
  if (x.dtype == Dtype::BF16) return bf16_tile(y, x, w, x_t, w_t, 1, add);
  sgemm_tile(x_t, w_t, y.rows(), y.cols(), x_t ? x.rows() : x.cols(), 1, x.f32(), x.row_stride, w.f32(), w.row_stride, add ? 1.0f : 0.0f,
             y.f32(), y.row_stride);
}

// Hands out tensors from one piece of memory of this thread, which grows to what was asked for together.
class TileMemory {
 public:
  // floats: at least the sum of what is taken, 16 more for each tensor.
  explicit TileMemory(int64_t floats) : next_(memory(static_cast<size_t>(floats) * sizeof(float))) {}
  Tensor take(Dtype dtype, int64_t rows, int64_t cols) {
    Tensor t(next_, dtype, {rows, cols});
    next_ += (t.bytes() + 63) / 64 * 64;
    return t;
  }
  float* floats(int64_t n) { return take(Dtype::F32, 1, n).f32(); }

 private:
  static char* memory(size_t bytes) {
    thread_local Buffer buffer;
    if (buffer.bytes() < bytes) buffer = Buffer(bytes);
    return static_cast<char*>(buffer.data());
  }
  char* next_;
};

}  // namespace loraine
