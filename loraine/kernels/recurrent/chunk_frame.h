// What the ops over chunks share around them: the rows of each sequence, its state and the borders between its chunks.
#pragma once
#include <algorithm>
#include <vector>

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/recurrent/chunk.h"

namespace loraine {

inline constexpr int64_t kFewRows = 8;  // up to which rows are done one by one

// Heads whose steps are taken together, so that threads have something to do between two items.
inline int64_t steps_together(const ChunkShape& shape) { return std::max<int64_t>(1, 65536 / (shape.key_dim * shape.value_dim)); }

void check_recurrence(const char* op, int64_t T, std::span<const Sequence> sequences, const Tensor& borders, const RecurrentState& state,
                      int64_t columns);

struct RecurrentRows {
  const Sequence* sequence;
  int64_t first_border;  // row of `borders`
  float* state;          // its slot, or nullptr
  bool continued;        // goes on from what is there
};
std::vector<RecurrentRows> recurrent_rows(std::span<const Sequence> sequences, const RecurrentState& state);

// Heads [head, head + shape.heads) of a sequence; `part` numbers these sets of heads.
struct RecurrentItem {
  RecurrentRows rows;
  int64_t part, head;
  float* slot(const ChunkShape& shape) const { return rows.state ? rows.state + head * shape.key_dim * shape.value_dim : nullptr; }
};

// States in slots lie head by head, those of a tile side by side.
void state_from_slot(const ChunkShape& shape, float* tile, const float* slot);
void state_to_slot(const ChunkShape& shape, float* slot, const float* tile);

// The columns of a tensor from row `first` on, as a tile; and back.
inline void read_tile(float* tile, const Tensor& from, int64_t first, int64_t rows) {
  widen_rows(Tensor(tile, Dtype::F32, {rows, from.cols()}), from.row_range(first, rows));
}
inline void write_tile(const Tensor& to, int64_t first, int64_t rows, const float* tile) {
  for (int64_t i = 0; i < rows; ++i) write_row(to, first + i, tile + i * to.cols());
}

// The forward of one item: load(tiles, first row of the batch) fills q, k, v, g, beta; store(tiles, first row) takes o.
template <class Load, class Store>
void chunked_forward(const ChunkShape& shape, const RecurrentItem& item, const Tensor& borders, Load&& load, Store&& store) {
  const Sequence& s = *item.rows.sequence;
  float *memory = row_room(chunk_floats(shape, false)), *slot = item.slot(shape);
  for (int64_t row = 0; row < s.length; row += kRecurrentChunk) {
    const ChunkTiles t = chunk_tiles(shape, false, std::min(kRecurrentChunk, s.length - row), memory);
    const bool fresh = row == 0 && !item.rows.continued, end = row + t.n == s.length;
    if (row == 0 && !fresh) state_from_slot(shape, t.state, slot);
    if (row > 0 && borders.data) {
      const int64_t border = item.rows.first_border + row / kRecurrentChunk - 1;
      std::copy_n(t.state, shape.state_size(), borders.f32() + border * borders.row_stride + item.head * shape.key_dim * shape.value_dim);
    }
    load(t, s.start + row);
    chunk_forward(shape, t, fresh, end && !slot);
    store(t, s.start + row);
    if (end && slot) state_to_slot(shape, slot, t.state);
  }
}

// The same of few rows and one head, row by row.
template <class Load, class Store>
void stepped_forward(const ChunkShape& shape, const RecurrentItem& item, Load&& load, Store&& store) {
  const Sequence& s = *item.rows.sequence;
  ChunkTiles t = chunk_tiles(shape, false, s.length, row_room(chunk_floats(shape, false)));
  if (item.rows.state) t.state = item.slot(shape);
  if (!item.rows.continued) std::fill_n(t.state, shape.state_size(), 0.0f);
  load(t, s.start);
  chunk_steps(shape, t);
  store(t, s.start);
}

// The backward of one item: load(tiles, first row) fills q, k, v, g, beta and d_o; store(tiles, first row) takes the gradients.
template <class Load, class Store>
void chunked_backward(const ChunkShape& shape, const RecurrentItem& item, const Tensor& borders, Load&& load, Store&& store) {
  const Sequence& s = *item.rows.sequence;
  float* memory = row_room(chunk_floats(shape, true));
  for (int64_t chunk = borders_of(s); chunk >= 0; --chunk) {
    const int64_t row = chunk * kRecurrentChunk;
    ChunkTiles t = chunk_tiles(shape, true, std::min(kRecurrentChunk, s.length - row), memory);
    if (chunk > 0) {
      const int64_t border = item.rows.first_border + chunk - 1;
      t.state = borders.f32() + border * borders.row_stride + item.head * shape.key_dim * shape.value_dim;
    }
    load(t, s.start + row);
    chunk_backward(shape, t, chunk == 0, row + t.n == s.length);
    store(t, s.start + row);
  }
}

}  // namespace loraine
