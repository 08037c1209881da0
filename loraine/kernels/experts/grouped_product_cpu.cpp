// Each expert's product is cut into tiles fixed by its shape, its rows and the tokens of the batch; the tiles of all experts are the items
// of one loop, so that threads have work whether the experts are many or large.
#include <algorithm>
#include <cstring>
#include <span>
#include <vector>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/base/simd.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/experts/indices.h"
#include "loraine/kernels/products/dot_tiles.h"
#include "loraine/kernels/products/library_product.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/rank_update.h"
#include "loraine/kernels/products/sgemm.h"

namespace loraine {
namespace {

int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

bool multiplies_bf16(Dtype x) {
  static const bool has = has_bf16_products();
  return has && x == Dtype::BF16;
}

LORAINE_CLONES void add_row(float* y, const float* a, const float* b, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] = a[c] + b[c];
}
LORAINE_CLONES void add_multiple(float* y, const float* x, float by, int64_t C) {
#pragma omp simd
  for (int64_t c = 0; c < C; ++c) y[c] += by * x[c];
}

// Scratch of one thread that grows to what a tile needs.
class Room {
 public:
  Tensor take(Dtype dtype, int64_t rows, int64_t cols) {
    const size_t bytes = static_cast<size_t>(rows * cols) * size_of(dtype);
    if (memory_.bytes() < bytes) memory_ = Buffer(bytes);
    return Tensor(memory_.data(), dtype, {rows, cols});
  }

 private:
  Buffer memory_;
};

Tensor widened_copy(const Tensor& block, Room& room) {
  const Tensor out = room.take(Dtype::F32, block.rows(), block.cols());
  widen_rows(out, block);
  return out;
}
Tensor widened(const Tensor& block, Room& room) { return block.dtype == Dtype::F32 ? block : widened_copy(block, room); }

Tensor narrowed(const Tensor& block, Room& room) {
  if (block.dtype == Dtype::BF16) return block;
  const Tensor out = room.take(Dtype::BF16, block.rows(), block.cols());
  for (int64_t r = 0; r < block.rows(); ++r) finish_row(out, r, read_row(block, r, row_room(block.cols())));
  return out;
}

// y as F32 where sums are made, and back.
class Sums {
 public:
  Sums(const Tensor& y, bool read, Room& room) : y_(y), sums_(y) {
    if (y.dtype == Dtype::F32) return;
    sums_ = room.take(Dtype::F32, y.rows(), y.cols());
    if (read) widen_rows(sums_, y);
  }
  const Tensor& operator*() const { return sums_; }
  void finish() const {
    for (int64_t r = 0; r < y_.rows(); ++r) finish_row(y_, r, sums_.f32() + r * sums_.row_stride);
  }

 private:
  Tensor y_, sums_;
};

struct Operands {  // op(x) and op(w), transposed or not
  bool x_t, w_t;
};

// Sums row by row, whose order depends on K alone: y = alpha · x w + beta · y: some rows of w at a time, which stay in the cache for all
// rows of x.
void add_rows(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  constexpr int64_t kRows = kMostRankColumns;
  thread_local Room p_room, w_room, y_room;
  const Sums sums(y, beta != 0, y_room);
  for (int64_t k = 0; k < w.rows(); k += kRows) {
    const int64_t count = std::min(kRows, w.rows() - k);
    const Tensor p = p_room.take(Dtype::F32, x.rows(), count);
    for (int64_t m = 0; m < x.rows(); ++m) {
      float* out = p.f32() + m * count;
      const float* in = read_row(x.col_range(k, count), m, out);
      for (int64_t i = 0; i < count; ++i) out[i] = alpha * in[i];
    }
    rank_update(*sums, p, widened_copy(w.row_range(k, count), w_room), k == 0 ? beta : 1.0f);
  }
  sums.finish();
}

// Rows of a w that is not transposed which are brought together at a time where they are long or have to be widened (see matmul_cpu.cpp).
constexpr int64_t kGatheredRows = 768, kLongRow = 1024;

// One tile of y = alpha · op(x) op(w) + beta · y of many rows. What a low rank adds the library is slow at.
void many_rows(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  if (!t.x_t && !t.w_t && x.cols() <= kMostRankColumns) return add_rows(y, x, w, alpha, beta);
  thread_local Room x_room, w_room, y_room;
  if (multiplies_bf16(x.dtype) && (beta == 0 || beta == 1)) return bf16_tile(y, x, narrowed(w, w_room), t.x_t, t.w_t, alpha, beta == 1);
  const Sums sums(y, beta != 0, y_room);
  const Tensor c = *sums, a = widened(x, x_room);
  const bool gather = !t.w_t && (w.dtype != Dtype::F32 || w.row_stride >= kLongRow);
  const int64_t K = t.x_t ? x.rows() : x.cols(), step = gather ? kGatheredRows : K;
  for (int64_t k = 0; k < K; k += step) {
    const int64_t n = std::min(step, K - k);
    const Tensor a_k = t.x_t ? a.row_range(k, n) : a.col_range(k, n), w_k = t.w_t ? w.col_range(k, n) : w.row_range(k, n);
    const Tensor b_k = gather ? widened_copy(w_k, w_room) : widened(w_k, w_room);
    sgemm_tile(t.x_t, t.w_t, y.rows(), y.cols(), n, alpha, a_k.f32(), a_k.row_stride, b_k.f32(), b_k.row_stride, k == 0 ? beta : 1.0f,
               c.f32(), c.row_stride);
  }
  sums.finish();
}

// Sums row by row, whose order depends on K alone: y = alpha · x wᵀ + beta · y.
void dot_rows(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  constexpr int64_t kDots = 32;
  thread_local Room x_room;
  float all[kFewRows * kDots], room[kDots];
  const Tensor in = widened(x, x_room);
  for (int64_t n = 0; n < w.rows(); n += kDots) {
    const int64_t count = std::min(kDots, w.rows() - n);
    const Tensor rows = w.row_range(n, count), block = y.col_range(n, count);
    if (x.rows() == 1) row_dots(all, rows, in.f32());
    else dot_tiles(all, kDots, rows, in.f32(), in.row_stride, in.rows());
    for (int64_t m = 0; m < x.rows(); ++m) {
      const float* sums = all + m * kDots;
      float* out = begin_row(block, m, room);
      if (beta != 0) read_row(block, m, out);
      for (int64_t r = 0; r < count; ++r) out[r] = alpha * sums[r] + (beta == 0 ? 0.0f : beta * out[r]);
      finish_row(block, m, out);
    }
  }
}

// The library's bf16 products are quickest in sizes known beforehand (library_product.cpp), which the rows of an expert seldom have.
int64_t quick_rows(int64_t rows) { return rows < 64 ? pieces(rows, 8) * 8 : pieces(rows, 64) * 64; }

// Rows [first, first + rows) of y = alpha · x op(w) + beta · y in bf16: together with rows of x beside them, whose sums are dropped.
void bf16_rows(const Tensor& y, const Tensor& x, const Tensor& w, int64_t first, int64_t rows, bool w_t, float alpha, float beta) {
  const int64_t quick = quick_rows(rows), from = std::min(first, x.rows() - quick);
  if (quick == rows || from < 0) return many_rows(y.row_range(first, rows), x.row_range(first, rows), w, {false, w_t}, alpha, beta);
  thread_local Room y_room;
  const Tensor all = y_room.take(beta == 0 ? y.dtype : Dtype::F32, quick, y.cols());
  many_rows(all, x.row_range(from, quick), w, {false, w_t}, alpha, 0);
  const int64_t C = y.cols(), above = first - from;
  for (int64_t r = 0; r < rows; ++r) {
    if (beta == 0) {
      std::memcpy(y.row_range(first + r, 1).data, all.row_range(above + r, 1).data, static_cast<size_t>(C) * size_of(y.dtype));
      continue;
    }
    float* sum = all.f32() + (above + r) * C;
    add_multiple(sum, read_row(y, first + r, row_room(C)), beta, C);
    write_row(y, first + r, sum);
  }
}

// The rows of one expert and how they are cut.
struct Group {
  int64_t expert, first, rows, tile_rows, tile_columns, tiles_m, first_item;
};

constexpr int64_t kTileRows = 256, kFewColumns = 64;

// An expert's few rows are summed up row by row in larger batches too: the library copies the matrix first, which is most of the work then.
bool row_by_row(const ExpertOrder& order, const Tensor& x, int64_t rows) {
  return order.places.rows() <= kFewRows || rows <= (multiplies_bf16(x.dtype) ? 4 : 8);
}

// Calls tile(group, first row, rows, first column, columns) for all tiles of [rows of the expert, N]; tile_columns(group) gives their
// width.
template <class Columns, class Tile>
void for_tiles(const ExpertOrder& order, const Tensor& x, int64_t N, Columns&& tile_columns, Tile&& tile) {
  thread_local std::vector<Group> of_this_thread;
  std::vector<Group>& groups = of_this_thread;
  groups.clear();
  groups.reserve(static_cast<size_t>(order.experts()));
  const int32_t* offsets = indices(order.offsets);
  int64_t items = 0;
  for (int64_t e = 0; e < order.experts(); ++e) {
    const int64_t rows = offsets[e + 1] - offsets[e];
    if (rows == 0) continue;
    const int64_t columns = tile_columns(e, rows), tiles_m = pieces(rows, row_by_row(order, x, rows) ? kFewRows : kTileRows);
    const int64_t share = pieces(rows, tiles_m), tile_rows = tiles_m > 1 && multiplies_bf16(x.dtype) ? quick_rows(share) : share;
    groups.push_back({e, offsets[e], rows, tile_rows, columns, tiles_m, items});
    items += tiles_m * pieces(N, columns);
  }
  constexpr int64_t kOneThread = 65536;  // multiplications below which a second thread takes longer to wake up than the work would
  parallel_for(
      items,
      [&](int64_t i) {
        const Group& group =
            *std::prev(std::upper_bound(groups.begin(), groups.end(), i, [](int64_t at, const Group& g) { return at < g.first_item; }));
        const int64_t m = (i - group.first_item) % group.tiles_m * group.tile_rows,
                      n = (i - group.first_item) / group.tiles_m * group.tile_columns;
        tile(group, group.first + m, std::min(group.tile_rows, group.rows - m), n, std::min(group.tile_columns, N - n));
      },
      std::max<int64_t>(1, kOneThread * items / std::max<int64_t>(1, order.rows() * N * x.cols())));
}

// Columns of a tile of the library: about kTileColumns, so that no narrow one is left over. Its bf16 products begin with copies of x and w:
// the wider the tile the better, while there are tiles enough and w stays in the cache.
int64_t library_columns(Dtype x, Dtype w, bool w_t, int64_t N, int64_t K, int64_t experts) {
  constexpr int64_t kEnoughTiles = 16, kElements = 1 << 20;
  if (multiplies_bf16(x))
    for (int64_t wide : {1024, 512})
      if (wide * K <= kElements && experts * pieces(N, wide) >= kEnoughTiles) return wide;
  if (!w_t && is_packed(w)) return block_of(w).elements > 32 ? kBlockTileColumns : kTileColumns;
  const int64_t tiles = std::max<int64_t>(1, (N + kTileColumns / 2) / kTileColumns);
  return pieces(pieces(N, tiles), 16) * 16;
}

void product(const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, bool w_t, float alpha,
             float beta) {
  const int32_t* offsets = indices(order.offsets);
  int64_t busy = 0;
  for (int64_t e = 0; e < order.experts(); ++e) busy += offsets[e + 1] > offsets[e];
  auto columns = [&](int64_t e, int64_t rows) {
    if (row_by_row(order, x, rows)) return w_t ? kFewColumns : kBlockTileColumns;
    return library_columns(x.dtype, experts[static_cast<size_t>(e)].dtype, w_t, y.cols(), x.cols(), busy);
  };
  for_tiles(order, x, y.cols(), columns, [&](const Group& group, int64_t m, int64_t rows, int64_t n, int64_t count) {
    const Tensor& w = experts[static_cast<size_t>(group.expert)];
    const Tensor columns_of_y = y.col_range(n, count), to = columns_of_y.row_range(m, rows), from = x.row_range(m, rows),
                 part = w_t ? w.row_range(n, count) : w.col_range(n, count);
    const bool few = row_by_row(order, x, group.rows);
    if (!few && multiplies_bf16(x.dtype)) return bf16_rows(columns_of_y, x, part, m, rows, w_t, alpha, beta);
    if (!few) return many_rows(to, from, part, {false, w_t}, alpha, beta);
    if (w_t) dot_rows(to, from, part, alpha, beta);
    else add_rows(to, from, part, alpha, beta);
  });
}

}  // namespace

void grouped_nt_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha, float beta) {
  product(y, x, experts, order, true, alpha, beta);
}

void grouped_nn_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> experts, const ExpertOrder& order, float alpha, float beta) {
  product(y, x, experts, order, false, alpha, beta);
}

size_t grouped_scratch_bytes(int64_t N, int64_t K, bool w_t, Dtype w, Dtype x) {
  const bool in_bf16 = multiplies_bf16(x);
  int64_t columns = kBlockTileColumns;  // where experts' rows are few
  for (int64_t experts : {1, 16}) columns = std::max(columns, library_columns(x, w, w_t, N, K, experts));
  columns = std::min(columns, pieces(N, 16) * 16);
  const int64_t rows_of_w = in_bf16 || w_t ? K : std::min(K, kGatheredRows);
  int64_t bytes = in_bf16 || x == Dtype::BF16 ? kTileRows * columns * 4 : 0;  // sums
  if (w != (in_bf16 ? Dtype::BF16 : Dtype::F32)) bytes += rows_of_w * columns * (in_bf16 ? 2 : 4);
  else if (!in_bf16 && !w_t && N >= kLongRow) bytes += rows_of_w * columns * 4;
  bytes += kMostRankColumns * (kBlockTileColumns + kTileRows) * 4;          // of sums row by row
  if (x == Dtype::BF16) bytes += (in_bf16 ? kFewRows : kTileRows) * K * 4;  // x as f32
  return static_cast<size_t>(bytes);
}

void grouped_tn_cpu(std::span<const Tensor> sums, const Tensor& x, const Tensor& z, const ExpertOrder& order, float alpha) {
  const int32_t* offsets = indices(order.offsets);
  const int64_t M = x.cols(), N = z.cols(), tiles_m = pieces(M, kTileRows), tiles_n = pieces(N, kTileColumns);
  parallel_for(order.experts() * tiles_m * tiles_n, [&](int64_t i) {
    const int64_t e = i / (tiles_m * tiles_n), first = offsets[e], rows = offsets[e + 1] - first;
    if (rows == 0) return;
    const int64_t m = i / tiles_n % tiles_m * kTileRows, n = i % tiles_n * kTileColumns, to_m = std::min(kTileRows, M - m),
                  to_n = std::min(kTileColumns, N - n);
    many_rows(sums[static_cast<size_t>(e)].row_range(m, to_m).col_range(n, to_n), x.row_range(first, rows).col_range(m, to_m),
              z.row_range(first, rows).col_range(n, to_n), {true, false}, alpha, 1);
  });
}

void add_expert_bias_cpu(const Tensor& y, const Tensor& biases, const ExpertOrder& order) {
  const int32_t *offsets = indices(order.offsets), *ends = offsets + 1;
  const int64_t C = y.cols();
  parallel_for(
      y.rows(),
      [&](int64_t r) {
        const int64_t e = std::upper_bound(ends, ends + order.experts(), static_cast<int32_t>(r)) - ends;
        float *room = row_room(2 * C), *out = begin_row(y, r, room);
        add_row(out, read_row(y, r, out), read_row(biases, e, room + C), C);
        finish_row(y, r, out);
      },
      row_chunk(C));
}

void expert_bias_gradient_cpu(const Tensor& d_biases, const Tensor& d_y, const ExpertOrder& order) {
  const int32_t* offsets = indices(order.offsets);
  parallel_for(order.experts(), [&](int64_t e) {
    float* sums = d_biases.row_range(e, 1).f32();
    for (int64_t r = offsets[e]; r < offsets[e + 1]; ++r) add_multiple(sums, read_row(d_y, r, row_room(d_y.cols())), 1, d_y.cols());
  });
}

}  // namespace loraine
