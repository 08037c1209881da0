// Tile by tile: rows of the base, their change, its product.
#include "loraine/adapters/peft_methods/weight_change.h"

#include <algorithm>

#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"

namespace loraine {
namespace {

// Three matrices of a tile's size on this thread: their size follows from the weight alone, not from the batch.
struct Tiles {
  Tiles(int64_t rows, int64_t in) {
    thread_local Buffer memory;
    const size_t bytes = static_cast<size_t>(3 * rows * in) * sizeof(float);
    if (memory.bytes() < bytes) memory = Buffer(bytes);
    float* next = static_cast<float*>(memory.data());
    for (Tensor* t : {&widened, &change, &gradient}) {
      *t = Tensor(next, Dtype::F32, {rows, in});
      next += rows * in;
    }
  }
  Tensor widened, change, gradient;
};

}  // namespace

size_t WeightChange::number(int part) const {
  return static_cast<size_t>(std::ranges::find(parts_, part, &LoraPart::part) - parts_.begin());
}

void WeightChange::forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor&, bool training, Arena& scratch) const {
  const size_t mark = scratch.mark();
  Tensor input = x;
  if (training && dropout_ > 0) {
    input = scratch.take(x.dtype, {x.rows(), in()});
    dropout(ctx, input, x, dropout_, site_);
  }
  const Tiles tiles(rows_at_once(), in());
  for (size_t i = 0; i < parts_.size(); ++i) {
    const LoraPart& part = parts_[i];
    for (int64_t first = 0; first < part.out; first += rows_at_once()) {
      const int64_t count = std::min(rows_at_once(), part.out - first);
      const Tensor w = weight_rows(base_.parts[static_cast<size_t>(part.part)], first, count, tiles.widened.row_range(0, count)),
                   delta = tiles.change.row_range(0, count);
      change(ctx, delta, w, i, first);
      matmul_nt(ctx, y.col_range(part.offset + first, count), input, delta, 1, 1);
    }
  }
  scratch.release(mark);
}

void WeightChange::backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor&, Arena& scratch) {
  const size_t mark = scratch.mark();
  Tensor input = x, d_input = d_x;
  if (dropout_ > 0) {
    input = scratch.take(x.dtype, {x.rows(), in()});
    dropout(ctx, input, x, dropout_, site_);
    if (d_x.data) d_input = scratch.take(x.dtype, {x.rows(), in()});
  }
  bool accumulate = dropout_ == 0;
  const Tiles tiles(rows_at_once(), in());
  for (size_t i = 0; i < parts_.size(); ++i) {
    const LoraPart& part = parts_[i];
    for (int64_t first = 0; first < part.out; first += rows_at_once()) {
      const int64_t count = std::min(rows_at_once(), part.out - first);
      const Tensor w = weight_rows(base_.parts[static_cast<size_t>(part.part)], first, count, tiles.widened.row_range(0, count)),
                   delta = tiles.change.row_range(0, count), d_delta = tiles.gradient.row_range(0, count),
                   d_part = d_y.col_range(part.offset + first, count);
      if (d_input.data) {
        change(ctx, delta, w, i, first);
        matmul_nn(ctx, d_input, d_part, delta, 1, accumulate ? 1 : 0);
        accumulate = true;
      }
      matmul_tn(ctx, d_delta, d_part, input);
      change_backward(ctx, d_delta, w, i, first);
    }
  }
  if (dropout_ > 0 && d_x.data) {
    dropout(ctx, d_input, d_input, dropout_, site_);
    add(ctx, d_x, d_x, d_input);
  }
  scratch.release(mark);
}

void WeightChange::merge_into(Context& ctx, const Tensor& w, int part) const {
  const size_t i = number(part);
  const Tiles tiles(rows_at_once(), in());
  for (int64_t first = 0; first < w.rows(); first += rows_at_once()) {
    const int64_t count = std::min(rows_at_once(), w.rows() - first);
    const Tensor rows = w.row_range(first, count), delta = tiles.change.row_range(0, count);
    change(ctx, delta, rows, i, first);
    add(ctx, rows, rows, delta);
  }
}

}  // namespace loraine
