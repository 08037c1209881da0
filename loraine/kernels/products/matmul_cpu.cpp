// Products on the CPU: y is cut into tiles fixed by its shape, each computed by one thread over the whole of K.
#include <algorithm>
#include <atomic>
#include <span>

#include "loraine/core/tensor.h"
#include "loraine/kernels/base/machine.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/products/dot_tiles.h"
#include "loraine/kernels/products/library_product.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/products/rank_update.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/products/sgemm.h"

namespace loraine {
namespace {

constexpr int64_t kTileM = 256, kTileN = kTileColumns;  // multiples of oneDNN's register blocks (8 and 48)

int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

// Columns of a tile. Of a w that is not transposed they are columns of w, and those of a packed w come in whole blocks.
int64_t tile_columns(const Tensor& w, bool w_t) { return !w_t && block_of(w.dtype).elements > 32 ? kBlockTileColumns : kTileN; }

// Rows of a tile: fewer where whole ones would leave most threads without work. A matter of the shape alone, not of the threads there are.
int64_t tile_rows(int64_t M, int64_t columns_of_tiles) {
  constexpr int64_t kEnoughTiles = 8, kFewest = 128;
  int64_t rows = kTileM;
  while (rows > kFewest && pieces(M, rows) * columns_of_tiles < kEnoughTiles) rows /= 2;
  return rows;
}

// Scratch of one thread that grows to what a tile needs.
class Scratch {
 public:
  Tensor take(Dtype dtype, int64_t rows, int64_t cols) {
    size_t bytes = static_cast<size_t>(rows * cols) * size_of(dtype);
    if (memory_.bytes() < bytes) memory_ = Buffer(bytes);
    held_ = {};
    return Tensor(memory_.data(), dtype, {rows, cols});
  }
  // The same for what `block` becomes in one product, which may have been made here before: then `make` is not called.
  template <class Make>
  Tensor take_once(Dtype dtype, const Tensor& block, uint64_t product, Make&& make) {
    const Held now{product, block.data, block.rows(), block.cols()};
    if (product != 0 && now == held_) return Tensor(memory_.data(), dtype, {block.rows(), block.cols()});
    const Tensor out = take(dtype, block.rows(), block.cols());
    make(out);
    held_ = now;
    return out;
  }

 private:
  struct Held {
    uint64_t product = 0;
    const void* data = nullptr;
    int64_t rows = 0, cols = 0;
    bool operator==(const Held&) const = default;
  };
  Buffer memory_;
  Held held_;
};

// The block in scratch as F32; of the same block in the same product (not 0) what is there already.
Tensor widened_copy(const Tensor& block, Scratch& scratch, uint64_t product = 0) {
  return scratch.take_once(Dtype::F32, block, product, [&](const Tensor& out) { widen_rows(out, block); });
}

// The block as F32: the view itself when it is, else widened into scratch.
Tensor widened(const Tensor& block, Scratch& scratch, uint64_t product = 0) {
  return block.dtype == Dtype::F32 ? block : widened_copy(block, scratch, product);
}

// The block as BF16, rounded when it has more.
Tensor narrowed(const Tensor& block, Scratch& scratch, uint64_t product) {
  if (block.dtype == Dtype::BF16) return block;
  return scratch.take_once(Dtype::BF16, block, product, [&](const Tensor& out) {
    if (block.dtype == Dtype::F32 && block.contiguous()) return narrow_row(static_cast<bf16*>(out.data), block.f32(), block.numel());
    float* room = row_room(block.cols());
    for (int64_t r = 0; r < block.rows(); ++r) finish_row(out, r, read_row(block, r, room));
  });
}

uint64_t next_product() {
  static std::atomic<uint64_t> last = 0;
  return ++last;
}

struct Operands {  // op(x) and op(w), transposed or not
  bool x_t, w_t;
  int64_t rows = 0;      // of a tile, where the caller says so (Context::product_rows)
  uint64_t product = 0;  // next_product() where tiles may share what they make of w and x
};

Tensor rows_of(const Tensor& t, bool transposed, int64_t first, int64_t count) {
  return transposed ? t.col_range(first, count) : t.row_range(first, count);
}

// Few columns of x: sums in f32 over what is read once.
void rank_product_tile(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  thread_local Scratch p_scratch, w_scratch, turned_scratch;
  const Tensor p = p_scratch.take(Dtype::F32, x.rows(), x.cols());
  for (int64_t r = 0; r < x.rows(); ++r) {
    float* row = p.row_range(r, 1).f32();
    const float* in = read_row(x, r, row);
    for (int64_t c = 0; c < x.cols(); ++c) row[c] = alpha * in[c];
  }
  const Tensor wide = widened(w, w_scratch);
  if (!t.w_t) return rank_update(y, p, wide, beta);
  const Tensor turned = turned_scratch.take(Dtype::F32, w.cols(), w.rows());
  for (int64_t n = 0; n < w.rows(); ++n)
    for (int64_t k = 0; k < w.cols(); ++k) turned.f32()[k * w.rows() + n] = wide.f32()[n * wide.row_stride + k];
  rank_update(y, p, turned, beta);
}

void bf16_product_tile(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  if (!t.x_t && x.cols() <= kMostRankColumns) return rank_product_tile(y, x, w, t, alpha, beta);
  thread_local Scratch w_scratch;
  bf16_tile(y, x, narrowed(w, w_scratch, t.product), t.x_t, t.w_t, alpha, beta == 1);
}

// Columns of long rows lie far apart, in the same few places of every cache, and the library reads them again and again: they are copied
// together first. (512 × 2048 × 2048 on AVX2: 24 to 58 GFLOP/s.)
constexpr int64_t kLongRow = 1024;

// Rows of a w that is not transposed which are brought together at a time: so many stay in the cache. Whole blocks of the sum inside oneDNN
// (256 and 384), so that the bits are those of one product.
constexpr int64_t kGatheredRows = 768;

void f32_product_tile(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  thread_local Scratch x_scratch, w_scratch, y_scratch;
  Tensor c = y;
  if (y.dtype != Dtype::F32) {
    c = y_scratch.take(Dtype::F32, y.rows(), y.cols());
    if (beta != 0)
      for (int64_t r = 0; r < y.rows(); ++r) read_row(y, r, c.row_range(r, 1).f32());
  }
  const bool gather = !t.w_t && (w.dtype != Dtype::F32 || w.row_stride >= kLongRow);
  const Tensor a = widened(x, x_scratch, t.product);
  const int64_t K = t.x_t ? x.rows() : x.cols(), step = gather ? kGatheredRows : K;
  for (int64_t k = 0; k < K; k += step) {
    const int64_t n = std::min(step, K - k);
    const Tensor a_k = rows_of(a, !t.x_t, k, n), w_k = rows_of(w, t.w_t, k, n);
    const Tensor b_k = gather ? widened_copy(w_k, w_scratch, t.product) : widened(w_k, w_scratch, t.product);
    sgemm_tile(t.x_t, t.w_t, y.rows(), y.cols(), n, alpha, a_k.f32(), a_k.row_stride, b_k.f32(), b_k.row_stride, k == 0 ? beta : 1.0f,
               c.f32(), c.row_stride);
  }
  if (y.dtype != Dtype::F32)
    for (int64_t r = 0; r < y.rows(); ++r) finish_row(y, r, c.row_range(r, 1).f32());
}

bool multiplies_bf16(const Tensor& x) {
  static const bool has = has_bf16_products();
  return has && x.dtype == Dtype::BF16;
}

// One tile of y = alpha · op(x) op(w) + beta · y, in the type that x calls for.
void product_tile(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  if (multiplies_bf16(x) && (beta == 0 || beta == 1)) bf16_product_tile(y, x, w, t, alpha, beta);
  else f32_product_tile(y, x, w, t, alpha, beta);
}

// Rows of x that are widened at a time: 8 MiB, but whole tiles.
int64_t rows_at_once(int64_t K) {
  constexpr int64_t kElements = 1 << 21;
  return std::max(kTileM, kElements / K / kTileM * kTileM);
}

Scratch& widened_x() {
  thread_local Scratch scratch;
  return scratch;
}

// Calls multiply(rows of y, rows of x) for all rows, some at a time where it has to be widened for its tiles, since all tiles of a
// row read the same x.
template <class Multiply>
void with_widened_x(const Tensor& y, const Tensor& x, Multiply&& multiply) {
  if (x.dtype == Dtype::F32 || multiplies_bf16(x)) return multiply(y, x);
  const int64_t step = rows_at_once(x.cols());
  for (int64_t m = 0; m < x.rows(); m += step) {
    const Tensor rows = x.row_range(m, std::min(step, x.rows() - m));
    const Tensor wide = widened_x().take(Dtype::F32, rows.rows(), rows.cols());
    parallel_for(
        rows.rows(), [&](int64_t r) { widen_rows(wide.row_range(r, 1), rows.row_range(r, 1)); }, row_chunk(rows.cols()));
    multiply(y.row_range(m, rows.rows()), wide);
  }
}

// What the tiles of one y add up: one product, or several over K.
struct Term {
  Tensor x, w;
};
struct Job {
  Tensor y;
  std::span<const Term> terms;
  int64_t tile_columns;
};

Job job_of(const Tensor& y, std::span<const Term> terms, bool w_t) {
  int64_t columns = kTileN;
  for (const Term& term : terms) columns = std::max(columns, tile_columns(term.w, w_t));
  return {y, terms, columns};
}

// Tiles that one thread takes one after the other, of `groups` groups of `size` that widen the same thing: all of a group, to find it
// there, where there are groups enough for all threads.
int64_t together(int64_t groups, int64_t size) { return groups >= 4 * thread_count() ? size : 1; }

// All tiles of all jobs, whose y have the same rows, in one parallel loop.
void run(std::span<const Job> jobs, Operands t, float alpha, float beta) {
  auto tiles_of = [](const Job& job) { return pieces(job.y.cols(), job.tile_columns); };
  int64_t tiles_n = 0;
  for (const Job& job : jobs) tiles_n += tiles_of(job);
  const int64_t M = jobs[0].y.rows(), rows = t.rows > 0 ? t.rows : tile_rows(M, tiles_n), tiles_m = pieces(M, rows);
  t.product = next_product();
  auto tile_of = [&](int64_t i) {
    const int64_t m0 = i % tiles_m * rows, m = std::min(rows, M - m0);
    int64_t tile = i / tiles_m;
    const Job* job = jobs.data();
    for (; tile >= tiles_of(*job); ++job) tile -= tiles_of(*job);
    const int64_t n0 = tile * job->tile_columns, n = std::min(job->tile_columns, job->y.cols() - n0);
    float keep = beta;
    for (const Term& term : job->terms) {
      product_tile(job->y.row_range(m0, m).col_range(n0, n), rows_of(term.x, t.x_t, m0, m), rows_of(term.w, !t.w_t, n0, n), t, alpha, keep);
      keep = 1;
    }
  };
  parallel_for(tiles_m * tiles_n, tile_of, together(tiles_n, tiles_m));
}

// A long sum into a small y, as the head's gradient is: pieces of K, fixed by the shape, are summed up each by itself and then together in
// ascending order, so that there is work for more threads than y has tiles.
constexpr int64_t kLongSum = 16384, kSumPieces = 8, kFewTiles = 8;

bool splits_sum(int64_t M, int64_t N, int64_t K) { return K >= kLongSum && pieces(M, kTileM) * pieces(N, kTileN) <= kFewTiles; }

void run_in_pieces(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  thread_local Scratch scratch;
  const int64_t M = y.rows(), N = y.cols(), K = w.rows(), piece = pieces(pieces(K, kSumPieces), 64) * 64, count = pieces(K, piece);
  const int64_t columns = tile_columns(w, t.w_t), tiles_m = pieces(M, kTileM), tiles_n = pieces(N, columns);
  const Tensor sums = scratch.take(Dtype::F32, count * M, N);
  t.product = next_product();
  auto sum_of = [&](int64_t i) {
    const int64_t p = i / tiles_n / tiles_m, m0 = i / tiles_n % tiles_m * kTileM, n0 = i % tiles_n * columns, k0 = p * piece,
                  k = std::min(piece, K - k0);
    const Tensor x_piece = rows_of(x, !t.x_t, k0, k), w_piece = w.row_range(k0, k);
    const int64_t m = std::min(kTileM, M - m0), n = std::min(columns, N - n0);
    product_tile(sums.row_range(p * M + m0, m).col_range(n0, n), rows_of(x_piece, t.x_t, m0, m), w_piece.col_range(n0, n), t, alpha, 0);
  };
  parallel_for(count * tiles_m * tiles_n, sum_of, together(count * tiles_m, tiles_n));
  parallel_for(
      M,
      [&](int64_t m) {
        float* row = begin_row(y, m, row_room(N));
        if (beta != 0) read_row(y, m, row);
        for (int64_t n = 0; n < N; ++n) row[n] = beta == 0 ? 0 : beta * row[n];
        for (int64_t p = 0; p < count; ++p) {
          const float* part = sums.f32() + (p * M + m) * N;
          for (int64_t n = 0; n < N; ++n) row[n] += part[n];
        }
        finish_row(y, m, row);
      },
      row_chunk(N * count));
}

void product(const Tensor& y, const Tensor& x, const Tensor& w, Operands t, float alpha, float beta) {
  if (!t.w_t && splits_sum(y.rows(), y.cols(), w.rows())) return run_in_pieces(y, x, w, t, alpha, beta);
  auto multiply = [&](const Tensor& to, const Tensor& from) {
    const Term term{from, w};
    const Job job = job_of(to, std::span(&term, 1), t.w_t);
    run(std::span(&job, 1), t, alpha, beta);
  };
  if (t.x_t) multiply(y, x);
  else with_widened_x(y, x, multiply);
}

// Decode: few rows of x, so the product runs at the speed of reading w once. Each row has the bits that it has alone.
constexpr int64_t kDotRows = 32;

// y[:, n0 .. n0 + n) for the few rows; x F32.
void dot_block(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, int64_t n0, int64_t n) {
  float all[kFewRows * kDotRows], room[kDotRows];
  const Tensor rows = w.row_range(n0, n), block = y.col_range(n0, n);
  if (x.rows() == 1) row_dots(all, rows, x.f32());
  else dot_tiles(all, kDotRows, rows, x.f32(), x.row_stride, x.rows());
  for (int64_t m = 0; m < x.rows(); ++m) {
    const float* sums = all + m * kDotRows;
    float* out = begin_row(block, m, room);
    if (beta != 0) read_row(block, m, out);
    for (int64_t r = 0; r < n; ++r) out[r] = alpha * sums[r] + (beta == 0 ? 0.0f : beta * out[r]);
    finish_row(block, m, out);
  }
}

int64_t dot_blocks(int64_t N) { return pieces(N, kDotRows); }
// Blocks that a thread takes at least: small products stay on one thread.
int64_t dot_chunk(int64_t K) { return std::max<int64_t>(1, 32768 / (kDotRows * K + 1)); }

}  // namespace

void matmul_few_rows_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts) {
  thread_local Scratch x_scratch;
  const Tensor input = widened(x, x_scratch);
  int64_t blocks = 0;
  for (const Tensor& w : parts) blocks += dot_blocks(w.rows());
  parallel_for<Take::shares>(
      blocks,
      [&](int64_t b) {
        int64_t column = 0;
        for (const Tensor& w : parts) {
          int64_t own = dot_blocks(w.rows());
          if (b < own) {
            dot_block(y.col_range(column, w.rows()), input, w, 1, 0, b * kDotRows, std::min(kDotRows, w.rows() - b * kDotRows));
            return;
          }
          b -= own;
          column += w.rows();
        }
      },
      dot_chunk(x.rows() * x.cols()));
}

void matmul_nt_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta, int64_t product_rows) {
  if (x.rows() > kFewRows) return product(y, x, w, {false, true, product_rows}, alpha, beta);
  thread_local Scratch x_scratch;
  const Tensor input = widened(x, x_scratch);
  const int64_t N = y.cols();
  parallel_for<Take::shares>(
      dot_blocks(N), [&](int64_t b) { dot_block(y, input, w, alpha, beta, b * kDotRows, std::min(kDotRows, N - b * kDotRows)); },
      dot_chunk(x.rows() * x.cols()));
}

void matmul_nt_parts_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts, int64_t product_rows) {
  if (x.rows() <= kFewRows) return matmul_few_rows_cpu(y, x, parts);
  with_widened_x(y, x, [&](const Tensor& to, const Tensor& from) {
    Term terms[kMostParts];
    Job jobs[kMostParts];
    int64_t column = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      terms[i] = {from, parts[i]};
      jobs[i] = job_of(to.col_range(column, parts[i].rows()), std::span(&terms[i], 1), true);
      column += parts[i].rows();
    }
    run(std::span(jobs, parts.size()), {false, true, product_rows}, 1, 0);
  });
}

void matmul_nn_parts_cpu(const Tensor& y, const Tensor& x, std::span<const Tensor> parts, float beta) {
  if (parts.size() == 1) return product(y, x, parts[0], {false, false}, 1, beta);
  with_widened_x(y, x, [&](const Tensor& to, const Tensor& from) {
    Term terms[kMostParts];
    int64_t column = 0;
    for (size_t i = 0; i < parts.size(); ++i) {
      terms[i] = {from.col_range(column, parts[i].rows()), parts[i]};
      column += parts[i].rows();
    }
    const Job job = job_of(to, std::span(terms, parts.size()), false);
    run(std::span(&job, 1), {false, false}, 1, beta);
  });
}

size_t widened_bytes(int64_t M, int64_t N, int64_t K, Dtype w, bool in_bf16) {
  if (w == (in_bf16 ? Dtype::BF16 : Dtype::F32)) return 0;
  const int64_t most = splits_sum(M, N, K) ? pieces(K, kSumPieces) + 64 : K, columns = is_packed(w) ? kBlockTileColumns : kTileN,
                rows = in_bf16 ? most : std::min(most, kGatheredRows);
  return static_cast<size_t>(rows * columns) * size_of(in_bf16 ? Dtype::BF16 : Dtype::F32);
}

size_t widened_x_bytes(int64_t rows, int64_t K, Dtype x) {
  return x == Dtype::F32 || has_bf16_products() ? 0 : static_cast<size_t>(std::min(rows, rows_at_once(K)) * K) * sizeof(float);
}

void matmul_nn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  product(y, x, w, {false, false}, alpha, beta);
}

void matmul_tn_cpu(const Tensor& y, const Tensor& x, const Tensor& w, float alpha, float beta) {
  product(y, x, w, {true, false}, alpha, beta);
}

}  // namespace loraine
