// Checks, the split of the work, and the two products: x Aᵀ as in decoding, and B turned in registers, eight rows of it at a time, so that
// the few columns of a rank fill whole vectors. Compiled once per instruction set by Highway's foreach_target.
#include "loraine/kernels/products/low_rank_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/low_rank_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/kernels/base/dispatch.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/rows.h"
#include "loraine/kernels/products/dot_tiles.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

#if HWY_TARGET == HWY_SCALAR
void AddLowRank(float* y, int64_t y_stride, int64_t rows, const float* p, int64_t p_stride, const float* b, int64_t out, int64_t r) {
  for (int64_t m = 0; m < rows; ++m)
    for (int64_t n = 0; n < out; ++n)
      for (int64_t k = 0; k < r; ++k) y[m * y_stride + n] += p[m * p_stride + k] * b[n * r + k];
}
#else
using D8 = hn::CappedTag<float, 8>;
using V8 = hn::Vec<D8>;
constexpr int64_t kLanes = static_cast<int64_t>(hn::MaxLanes(D8()));

// Row i, lane j becomes row j, lane i.
HWY_INLINE void turn(V8* t) {
  const D8 d;
  const hn::Repartition<double, D8> d64;
  for (int64_t i = 0; i < kLanes; i += 4) {  // 4 × 4 within blocks of 128 bits
    const V8 a = hn::InterleaveLower(d, t[i], t[i + 1]), b = hn::InterleaveUpper(d, t[i], t[i + 1]);
    const V8 c = hn::InterleaveLower(d, t[i + 2], t[i + 3]), e = hn::InterleaveUpper(d, t[i + 2], t[i + 3]);
    auto lower = [&](V8 u, V8 v) { return hn::BitCast(d, hn::InterleaveLower(d64, hn::BitCast(d64, u), hn::BitCast(d64, v))); };
    auto upper = [&](V8 u, V8 v) { return hn::BitCast(d, hn::InterleaveUpper(d64, hn::BitCast(d64, u), hn::BitCast(d64, v))); };
    t[i] = lower(a, c), t[i + 1] = upper(a, c), t[i + 2] = lower(b, e), t[i + 3] = upper(b, e);
  }
#if HWY_MAX_BYTES >= 32
  if constexpr (kLanes == 8)
    for (int64_t i = 0; i < 4; ++i) {
      const V8 low = hn::ConcatLowerLower(d, t[i + 4], t[i]), high = hn::ConcatUpperUpper(d, t[i + 4], t[i]);
      t[i] = low, t[i + 4] = high;
    }
#endif
}

// The first `count` elements of a vector, by way of a whole one: masked access touches what lies behind on some instruction sets.
HWY_INLINE V8 load_first(const float* from, int64_t count) {
  HWY_ALIGN float whole[kLanes] = {};
  std::copy_n(from, count, whole);
  return hn::Load(D8(), whole);
}
HWY_INLINE void store_first(V8 v, float* to, int64_t count) {
  HWY_ALIGN float whole[kLanes];
  hn::Store(v, D8(), whole);
  std::copy_n(whole, count, to);
}

// y [rows, out] += p [rows, r] bᵀ, b [out, r] contiguous. Each y adds up its r products in ascending order.
void AddLowRank(float* y, int64_t y_stride, int64_t rows, const float* p, int64_t p_stride, const float* b, int64_t out, int64_t r) {
  const D8 d;
  for (int64_t n = 0; n < out; n += kLanes) {
    const int64_t here = std::min(kLanes, out - n);
    for (int64_t k = 0; k < r; k += kLanes) {
      const int64_t count = std::min(kLanes, r - k);
      V8 t[kLanes];
      for (int64_t i = 0; i < kLanes; ++i) {
        const float* row = b + (n + std::min(i, here - 1)) * r + k;
        t[i] = count == kLanes ? hn::LoadU(d, row) : load_first(row, count);
      }
      turn(t);
      for (int64_t m = 0; m < rows; ++m) {
        float* to = y + m * y_stride + n;
        const float* from = p + m * p_stride + k;
        V8 sum = here == kLanes ? hn::LoadU(d, to) : load_first(to, here);
        if (count == kLanes)
          for (int64_t i = 0; i < kLanes; ++i) sum = hn::MulAdd(hn::Set(d, from[i]), t[i], sum);
        else
          for (int64_t i = 0; i < count; ++i) sum = hn::MulAdd(hn::Set(d, from[i]), t[i], sum);
        if (here == kLanes) hn::StoreU(sum, d, to);
        else store_first(sum, to, here);
      }
    }
  }
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(AddLowRank);

namespace {

constexpr int64_t kBlockRows = 32, kPieceColumns = 64;

// Columns [first, first + count) of saved = x Aᵀ for a block of at most kBlockRows rows.
void project(const Tensor& saved, const Tensor& x, const Tensor& a, int64_t first, int64_t count) {
  thread_local Buffer memory;
  const int64_t M = x.rows(), K = x.cols();
  const size_t bytes = static_cast<size_t>(M * (K + count)) * sizeof(float);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  float *sums = static_cast<float*>(memory.data()), *wide = sums + M * count;
  const float* input = static_cast<const float*>(x.data);
  int64_t stride = x.row_stride;
  if (x.dtype != Dtype::F32) {
    for (int64_t m = 0; m < M; ++m) read_row(x, m, wide + m * K);
    input = wide, stride = K;
  }
  const Tensor rows = a.row_range(first, count);
  if (M == 1) row_dots(sums, rows, input);
  else dot_tiles(sums, count, rows, input, stride, M);
  for (int64_t m = 0; m < M; ++m) write_row(saved.col_range(first, count), m, sums + m * count);
}

// y += scale · saved Bᵀ for rows [first, first + count) of B, which are columns of y.
void expand(const Tensor& y, const Tensor& saved, const LowRankPart& part, int64_t first, int64_t count) {
  thread_local Buffer memory;
  const int64_t M = y.rows(), r = part.b.cols();
  const size_t bytes = static_cast<size_t>(M * (r + count)) * sizeof(float);
  if (memory.bytes() < bytes) memory = Buffer(bytes);
  float *p = static_cast<float*>(memory.data()), *room = p + M * r;
  for (int64_t m = 0; m < M; ++m) {
    const float* row = read_row(saved, m, p + m * r);
    for (int64_t k = 0; k < r; ++k) p[m * r + k] = part.scale * row[k];
  }
  const Tensor columns = y.col_range(part.offset + first, count);
  const bool in_place = y.dtype == Dtype::F32;
  float* out = in_place ? columns.f32() : room;
  if (!in_place)
    for (int64_t m = 0; m < M; ++m) read_row(columns, m, room + m * count);
  HWY_DYNAMIC_DISPATCH(AddLowRank)(out, in_place ? columns.row_stride : count, M, p, r, part.b.f32() + first * r, count, r);
  for (int64_t m = 0; part.bias && m < M; ++m) {
    float* row = out + m * (in_place ? columns.row_stride : count);
    for (int64_t n = 0; n < count; ++n) row[n] += part.scale * part.bias[first + n];
  }
  if (!in_place)
    for (int64_t m = 0; m < M; ++m) finish_row(columns, m, room + m * count);
}

void expand_all(const Tensor& y, const Tensor& saved, const LowRank& matrices) {
  int64_t column = 0;
  for (const LowRankPart& part : matrices.parts) {
    expand(y, saved.col_range(column, part.b.cols()), part, 0, part.b.rows());
    column += part.b.cols();
  }
}

int64_t pieces(int64_t size, int64_t piece) { return (size + piece - 1) / piece; }

// One block of rows with matrices large enough that all threads help: first the columns of `saved`, then those of y.
void split_block(const Tensor& y, const Tensor& x, const Tensor& saved, const LowRank& matrices) {
  const int64_t R = matrices.a.rows(), piece = 8;
  parallel_for(pieces(R, piece), [&](int64_t i) { project(saved, x, matrices.a, i * piece, std::min(piece, R - i * piece)); });
  int64_t blocks = 0;
  for (const LowRankPart& part : matrices.parts) blocks += pieces(part.b.rows(), kPieceColumns);
  parallel_for(blocks, [&](int64_t i) {
    int64_t column = 0;
    for (const LowRankPart& part : matrices.parts) {
      const int64_t own = pieces(part.b.rows(), kPieceColumns), first = i * kPieceColumns;
      if (i < own) return expand(y, saved.col_range(column, part.b.cols()), part, first, std::min(kPieceColumns, part.b.rows() - first));
      i -= own;
      column += part.b.cols();
    }
  });
}

int64_t elements(const LowRank& matrices) {
  int64_t sum = matrices.a.numel();
  for (const LowRankPart& part : matrices.parts) sum += part.b.numel();
  return sum;
}

// Multiplications below which a second thread takes longer to wake up than the work would.
constexpr int64_t kOneThread = 16384, kWorthSplitting = 1 << 18;

void low_rank_rows_cpu(const Tensor& y, const Tensor& x, const Tensor& saved, std::span<const LowRankRange> ranges) {
  int64_t blocks = 0, work = 0;
  for (const LowRankRange& range : ranges) {
    blocks += pieces(range.length, kBlockRows);
    work += range.length * elements(range.matrices);
  }
  const bool split = blocks < thread_count() && work >= kWorthSplitting * blocks;
  auto run = [&](int64_t i) {
    for (const LowRankRange& range : ranges) {
      const int64_t own = pieces(range.length, kBlockRows);
      if (i >= own) {
        i -= own;
        continue;
      }
      const int64_t first = range.start + i * kBlockRows, count = std::min(kBlockRows, range.length - i * kBlockRows);
      const Tensor to = y.row_range(first, count), from = x.row_range(first, count),
                   kept = saved.row_range(first, count).col_range(0, range.matrices.a.rows());
      if (split) return split_block(to, from, kept, range.matrices);
      project(kept, from, range.matrices.a, 0, range.matrices.a.rows());
      return expand_all(to, kept, range.matrices);
    }
  };
  if (split)
    for (int64_t i = 0; i < blocks; ++i) run(i);
  else parallel_for(blocks, run, std::max<int64_t>(1, kOneThread * blocks / std::max<int64_t>(work, 1)));
}

}  // namespace

void low_rank_rows(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, std::span<const LowRankRange> ranges) {
  const char* op = "low_rank_rows";
  check_activation(op, "y", y, x.rows(), y.cols());
  check_activation(op, "x", x, x.rows(), x.cols());
  check_activation(op, "saved", saved, x.rows(), saved.cols());
  check_op(saved.dtype == x.dtype, op, "saved must be of x's type");
  double flops = 0;
  for (const LowRankRange& range : ranges) {
    check_op(range.start >= 0 && range.length >= 0 && range.start <= x.rows() - range.length, op, "a range lies outside the rows");
    const Tensor& a = range.matrices.a;
    check_f32(op, "a", a, a.rows(), x.cols());
    int64_t rank = 0;
    for (const LowRankPart& part : range.matrices.parts) {
      check_f32(op, "b", part.b, part.b.rows(), part.b.cols());
      check_op(part.b.contiguous() && part.offset >= 0 && part.offset <= y.cols() - part.b.rows(), op, "a part lies outside y");
      rank += part.b.cols();
    }
    check_op(rank == a.rows() && rank <= saved.cols(), op, "the ranks of the parts are not those of A, or saved is too narrow");
    flops += 2.0 * static_cast<double>(range.length * elements(range.matrices));
  }
  if (ranges.empty()) return;
  dispatch(ctx, op, [&] { low_rank_rows_cpu(y, x, saved, ranges); }, {flops});
}

}  // namespace loraine
#endif
