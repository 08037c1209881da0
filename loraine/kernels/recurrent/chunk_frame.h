// What the ops over chunks share around them: the rows of each sequence, its state and the borders between its chunks.
#pragma once
#include <algorithm>
#include <vector>

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/recurrent/chunk.h"
#include "loraine/kernels/recurrent/flush_denormals.h"

namespace loraine {

inline constexpr int64_t kSteppedRows = 8;  // up to which rows are done one by one

void check_recurrence(const char* op, int64_t T, std::span<const Sequence> sequences, const Tensor& borders, const RecurrentState& state,
                      int64_t columns);

struct RecurrentRows {
  const Sequence* sequence;
  int64_t first_border;  // row of `borders`
  float* state;          // its slot, or nullptr
  bool continued;        // goes on from what is there
  bool stepped() const { return sequence->length <= kSteppedRows; }
};
std::vector<RecurrentRows> recurrent_rows(std::span<const Sequence> sequences, const RecurrentState& state);

// A work item: heads [head, head + shape.heads) of a sequence, which share the queries and keys of `key_head`.
struct RecurrentItem {
  RecurrentRows rows;
  ChunkShape shape;
  int64_t key_head, head;
  int64_t part = 0;  // numbers the items of a sequence
  int64_t state_column() const { return head * shape.key_dim * shape.value_dim; }
  float* slot() const { return rows.state ? rows.state + state_column() : nullptr; }
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

// The forward of one item: load(item, tiles, first row of the batch) fills q, k, v, g, beta; store(item, tiles, first row) takes o.
template <class Load, class Store>
void chunked_forward(const RecurrentItem& item, const Tensor& borders, Load&& load, Store&& store) {
  const Sequence& s = *item.rows.sequence;
  float *memory = row_room(chunk_floats(item.shape, false)), *slot = item.slot();
  for (int64_t row = 0; row < s.length; row += kRecurrentChunk) {
    const ChunkTiles t = chunk_tiles(item.shape, false, std::min(kRecurrentChunk, s.length - row), memory);
    const bool fresh = row == 0 && !item.rows.continued, end = row + t.n == s.length;
    if (row == 0 && !fresh) state_from_slot(item.shape, t.state, slot);
    if (row > 0 && borders.data) {
      const int64_t border = item.rows.first_border + row / kRecurrentChunk - 1;
      std::copy_n(t.state, item.shape.state_size(), borders.f32() + border * borders.row_stride + item.state_column());
    }
    load(item, t, s.start + row);
    chunk_forward(item.shape, t, fresh, end && !slot);
    store(item, t, s.start + row);
    if (end && slot) state_to_slot(item.shape, slot, t.state);
  }
}

// The same of few rows and one head, row by row.
template <class Load, class Store>
void stepped_forward(const RecurrentItem& item, Load&& load, Store&& store) {
  const Sequence& s = *item.rows.sequence;
  ChunkTiles t = chunk_tiles(item.shape, false, s.length, row_room(chunk_floats(item.shape, false)));
  if (item.rows.state) t.state = item.slot();
  if (!item.rows.continued) std::fill_n(t.state, item.shape.state_size(), 0.0f);
  load(item, t, s.start);
  chunk_steps(item.shape, t);
  store(item, t, s.start);
}

template <class Load, class Store>
void recurrence_forward(const std::vector<RecurrentItem>& items, const Tensor& borders, Load&& load, Store&& store) {
  bool stepped = true;
  for (const RecurrentItem& item : items) stepped = stepped && item.rows.stepped();
  // Threads shall have something to do between two items.
  const int64_t together =
      stepped && !items.empty() ? std::max<int64_t>(1, 65536 / (items[0].shape.key_dim * items[0].shape.value_dim)) : 1;
  parallel_for(
      static_cast<int64_t>(items.size()),
      [&](int64_t i) {
        const FlushDenormals flush;
        const RecurrentItem& item = items[static_cast<size_t>(i)];
        if (item.rows.stepped()) stepped_forward(item, load, store);
        else chunked_forward(item, borders, load, store);
      },
      together);
}

// The backward: load(item, tiles, first row) fills q, k, v, g, beta and d_o; store(item, tiles, first row) takes the gradients.
template <class Load, class Store>
void recurrence_backward(const std::vector<RecurrentItem>& items, const Tensor& borders, Load&& load, Store&& store) {
  parallel_for(static_cast<int64_t>(items.size()), [&](int64_t i) {
    const FlushDenormals flush;
    const RecurrentItem& item = items[static_cast<size_t>(i)];
    const Sequence& s = *item.rows.sequence;
    float* memory = row_room(chunk_floats(item.shape, true));
    for (int64_t chunk = borders_of(s); chunk >= 0; --chunk) {
      const int64_t row = chunk * kRecurrentChunk, border = item.rows.first_border + chunk - 1;
      ChunkTiles t = chunk_tiles(item.shape, true, std::min(kRecurrentChunk, s.length - row), memory);
      if (chunk > 0) t.state = borders.f32() + border * borders.row_stride + item.state_column();
      load(item, t, s.start + row);
      chunk_backward(item.shape, t, chunk == 0, row + t.n == s.length);
      store(item, t, s.start + row);
    }
  });
}

}  // namespace loraine
