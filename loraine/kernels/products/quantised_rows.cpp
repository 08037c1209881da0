// NF4, FP4, MXFP4 and INT8 as vectors of f32, compiled once per instruction set by Highway's foreach_target. The 16 values that a block of
// four-bit codes can take are computed, and rounded, once a block; an element is then one look-up in registers.
#include "loraine/kernels/products/quantised_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/quantised_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"
#include "loraine/kernels/base/lines_ahead.h"
#include "loraine/kernels/products/grouped_rows.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/products/vector_rows.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
bool FourBitChunks(float* out, const Tensor& view) { return dequantise(out, view), true; }
bool FourBitDots(float*, const Tensor&, const float*) { return false; }
void Int8Row(float* out, const Tensor& view) { dequantise(out, view); }
bool Int8Dots(float*, const Tensor&, const float*) { return false; }
#else

constexpr int kLanes = static_cast<int>(hn::MaxLanes(D()));
using DI32 = hn::Rebind<int32_t, D>;
using DU32 = hn::Rebind<uint32_t, D>;
using D8 = hn::FixedTag<uint8_t, 16>;
using DCodes = hn::Rebind<uint8_t, D>;

// Finite values without their lowest `kBits` bits, rounded to nearest even.
template <int kBits>
HWY_INLINE V without_low_bits(V x) {
  const DU32 d;
  const auto bits = hn::BitCast(d, x), odd = hn::And(hn::ShiftRight<kBits>(bits), hn::Set(d, 1));
  const auto up = hn::Add(hn::Add(bits, hn::Set(d, (1u << (kBits - 1)) - 1)), odd);
  return hn::BitCast(D(), hn::And(up, hn::Set(d, ~((1u << kBits) - 1))));
}

// As f32_to_bf16 and f32_to_f16 round, of values inside the type's range.
HWY_INLINE V rounded(V x, Dtype values) {
  if (values == Dtype::F32) return x;
  if (values == Dtype::BF16) return without_low_bits<16>(x);
  const V size = hn::Abs(x), half = hn::Set(D(), 0.5f), small = hn::CopySign(hn::Sub(hn::Add(size, half), half), x);  // multiples of 2^-24
  return hn::IfThenElse(hn::Lt(size, hn::Set(D(), 0x1p-14f)), small, without_low_bits<13>(x));
}

// What the 16 codes of a block stand for.
struct Table {
#if HWY_MAX_BYTES >= 64
  V values;
  HWY_INLINE void set(const float* map, float scale, Dtype type) {
    values = rounded(hn::Mul(hn::LoadU(D(), map), hn::Set(D(), scale)), type);
  }
  HWY_INLINE V look_up(hn::Vec<DI32> codes) const { return hn::TableLookupLanes(values, hn::IndicesFromVec(D(), codes)); }
#elif HWY_MAX_BYTES == 32
  V low, high;
  HWY_INLINE void set(const float* map, float scale, Dtype type) {
    low = rounded(hn::Mul(hn::LoadU(D(), map), hn::Set(D(), scale)), type);
    high = rounded(hn::Mul(hn::LoadU(D(), map + 8), hn::Set(D(), scale)), type);
  }
  HWY_INLINE V look_up(hn::Vec<DI32> codes) const {
    const auto places = hn::IndicesFromVec(D(), hn::And(codes, hn::Set(DI32(), 7)));
    const auto upper = hn::RebindMask(D(), hn::Gt(codes, hn::Set(DI32(), 7)));
    return hn::IfThenElse(upper, hn::TableLookupLanes(high, places), hn::TableLookupLanes(low, places));
  }
#else
  HWY_ALIGN float values[16];
  HWY_INLINE void set(const float* map, float scale, Dtype type) {
    for (int i = 0; i < 16; i += kLanes) hn::Store(rounded(hn::Mul(hn::LoadU(D(), map + i), hn::Set(D(), scale)), type), D(), values + i);
  }
  HWY_INLINE V look_up(hn::Vec<DI32> codes) const { return hn::GatherIndex(D(), values, codes); }
#endif
};

// Formats of four bits: kChunk elements are looked up with one table, and a block is one or several chunks.
struct Bitsandbytes {
  static constexpr int64_t kChunk = 64;
  static constexpr bool kHighFirst = true;
  static int64_t block(const QuantState& q) { return q.blocksize; }
  static HWY_INLINE void table(Table& t, const QuantState& q, int64_t element) { t.set(q.map, q.scale(element / q.blocksize), q.values); }
};
struct Mxfp4 {
  static constexpr int64_t kChunk = 32;
  static constexpr bool kHighFirst = false;
  static int64_t block(const QuantState&) { return kChunk; }
  static HWY_INLINE void table(Table& t, const QuantState& q, int64_t element) { t.set(kMxfp4Map, q.power(element / kChunk), Dtype::F32); }
};

template <class F>
constexpr int kVectors = static_cast<int>(F::kChunk) / kLanes;

// The vectors of a chunk, two elements to a byte.
template <class F>
HWY_INLINE void chunk(const uint8_t* codes, const Table& table, V* out) {
  const D8 d8;
  const auto mask = hn::Set(d8, 15);
  HWY_ALIGN uint8_t single[F::kChunk];
  for (int i = 0; i < F::kChunk / 32; ++i) {
    const auto pairs = hn::LoadU(d8, codes + 16 * i), high = hn::And(hn::ShiftRight<4>(pairs), mask), low = hn::And(pairs, mask);
    const auto first = F::kHighFirst ? high : low, second = F::kHighFirst ? low : high;
    hn::Store(hn::InterleaveLower(d8, first, second), d8, single + 32 * i);
    hn::Store(hn::InterleaveUpper(d8, first, second), d8, single + 32 * i + 16);
  }
  for (int v = 0; v < kVectors<F>; ++v) out[v] = table.look_up(hn::PromoteTo(DI32(), hn::LoadU(DCodes(), single + v * kLanes)));
}

// Where a view of four-bit codes lies among the blocks.
struct Blocks {
  const QuantState& q;
  const uint8_t* first;
  explicit Blocks(const Tensor& view) : q(*view.quant), first(static_cast<const uint8_t*>(q.codes)) {}
  int64_t element(const uint8_t* codes) const { return 2 * (codes - first); }
};

// False, and nothing done, where the view is not made of whole chunks.
template <class F>
HWY_INLINE bool chunks(float* out, const Tensor& view) {
  const Blocks blocks(view);
  const auto* codes = static_cast<const uint8_t*>(view.data);
  if (blocks.element(codes) % F::kChunk != 0 || view.numel() % F::kChunk != 0 || F::block(blocks.q) % F::kChunk != 0) return false;
  for (int64_t k = 0; k < view.numel(); k += F::kChunk, codes += F::kChunk / 2) {
    Table table;
    F::table(table, blocks.q, blocks.element(codes));
    V values[kVectors<F>];
    chunk<F>(codes, table, values);
    for (int v = 0; v < kVectors<F>; ++v) hn::StoreU(values[v], D(), out + k + v * kLanes);
  }
  return true;
}

// Four rows at a time share what is loaded of x.
constexpr int64_t kTogether = 4;

template <class F>
HWY_INLINE bool four_bit_dots(float* sums, const Tensor& w, const float* x) {
  const Blocks blocks(w);
  const auto* codes = static_cast<const uint8_t*>(w.data);
  const int64_t K = w.cols(), stride = w.row_stride / 2;
  if (blocks.element(codes) % F::kChunk != 0 || K % F::kChunk != 0 || w.row_stride % F::kChunk != 0 || F::block(blocks.q) % F::kChunk != 0)
    return false;
  for (int64_t r = 0; r < w.rows(); r += kTogether) {
    const int64_t left = w.rows() - r;
    const LinesAhead<kTogether> next(codes + r * stride, stride, K / 2);
    const uint8_t* row[kTogether];
    for (int64_t i = 0; i < kTogether; ++i) row[i] = codes + (r + std::min(i, left - 1)) * stride;  // past the end the last one again
    V s[kTogether];
    for (V& sum : s) sum = hn::Zero(D());
    for (int64_t k = 0; k < K; k += F::kChunk) {
      V xs[kVectors<F>];
      for (int v = 0; v < kVectors<F>; ++v) xs[v] = hn::LoadU(D(), x + k + v * kLanes);
      if (k % 128 == 0) next.ask(k / 2);
      for (int64_t i = 0; i < kTogether; ++i) {
        Table table;
        F::table(table, blocks.q, blocks.element(row[i] + k / 2));
        V values[kVectors<F>];
        chunk<F>(row[i] + k / 2, table, values);
        for (int v = 0; v < kVectors<F>; ++v) s[i] = hn::MulAdd(values[v], xs[v], s[i]);
      }
    }
    for (int64_t i = 0; i < kTogether && i < left; ++i) sums[r + i] = lane_sum(s[i]);
  }
  return true;
}

bool FourBitChunks(float* out, const Tensor& view) {
  return view.dtype == Dtype::MXFP4_CODES ? chunks<Mxfp4>(out, view) : chunks<Bitsandbytes>(out, view);
}
bool FourBitDots(float* sums, const Tensor& w, const float* x) {
  return w.dtype == Dtype::MXFP4_CODES ? four_bit_dots<Mxfp4>(sums, w, x) : four_bit_dots<Bitsandbytes>(sums, w, x);
}

HWY_INLINE V int8_values(const int8_t* codes, V scale, Dtype type) {
  const hn::Rebind<int8_t, D> d8;
  return rounded(hn::Mul(hn::ConvertTo(D(), hn::PromoteTo(DI32(), hn::LoadU(d8, codes))), scale), type);
}

void Int8Row(float* out, const Tensor& view) {
  const QuantState& q = *view.quant;
  const auto *codes = static_cast<const int8_t*>(view.data), *first = static_cast<const int8_t*>(q.codes);
  for (int64_t done = 0; done < view.numel();) {  // a view may cross rows
    const int64_t row = (codes - first + done) / q.cols, n = std::min(view.numel() - done, (row + 1) * q.cols - (codes - first + done));
    const V scale = hn::Set(D(), q.row_scale(row));
    int64_t i = 0;
    for (; i + kLanes <= n; i += kLanes) hn::StoreU(int8_values(codes + done + i, scale, q.values), D(), out + done + i);
    for (; i < n; ++i) out[done + i] = q.rounded(static_cast<float>(codes[done + i]) * q.row_scale(row));
    done += n;
  }
}

bool Int8Dots(float* sums, const Tensor& w, const float* x) {
  const QuantState& q = *w.quant;
  const auto *codes = static_cast<const int8_t*>(w.data), *first = static_cast<const int8_t*>(q.codes);
  const int64_t K = w.cols();
  if (K % kLanes != 0) return false;
  for (int64_t r = 0; r < w.rows(); r += kTogether) {
    const int64_t left = w.rows() - r;
    const LinesAhead<kTogether> next(codes + r * w.row_stride, w.row_stride, K);
    const int8_t* row[kTogether];
    V scale[kTogether], s[kTogether];
    for (int64_t i = 0; i < kTogether; ++i) {
      row[i] = codes + (r + std::min(i, left - 1)) * w.row_stride;  // past the end the last one again
      scale[i] = hn::Set(D(), q.row_scale((row[i] - first) / q.cols));
      s[i] = hn::Zero(D());
    }
    for (int64_t k = 0; k < K; k += kLanes) {
      if (k % 64 == 0) next.ask(k);
      const V xk = hn::LoadU(D(), x + k);
      for (int64_t i = 0; i < kTogether; ++i) s[i] = hn::MulAdd(int8_values(row[i] + k, scale[i], q.values), xk, s[i]);
    }
    for (int64_t i = 0; i < kTogether && i < left; ++i) sums[r + i] = lane_sum(s[i]);
  }
  return true;
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(FourBitChunks);
HWY_EXPORT(FourBitDots);
HWY_EXPORT(Int8Row);
HWY_EXPORT(Int8Dots);

void dequantise_row(float* out, const Tensor& in) {
  if (!in.quant || !in.contiguous()) throw Error(ErrorKind::internal, "dequantise_row: not a contiguous view with scales");
  if (in_groups(in.dtype)) return grouped_row(out, in);
  if (of_vectors(in.dtype)) return vector_row(out, in);
  if (in.dtype == Dtype::INT8) return HWY_DYNAMIC_DISPATCH(Int8Row)(out, in);
  if (!HWY_DYNAMIC_DISPATCH(FourBitChunks)(out, in)) dequantise(out, in);  // rows that begin or end inside a chunk
}

void quantised_dots(float* sums, const Tensor& w, const float* x) {
  const bool done = in_groups(w.dtype)       ? grouped_dots(sums, w, x)
                    : of_vectors(w.dtype)    ? false
                    : w.dtype == Dtype::INT8 ? HWY_DYNAMIC_DISPATCH(Int8Dots)(sums, w, x)
                                             : HWY_DYNAMIC_DISPATCH(FourBitDots)(sums, w, x);
  if (done) return;
  thread_local Buffer room;
  if (room.bytes() < static_cast<size_t>(w.cols()) * sizeof(float)) room = Buffer(static_cast<size_t>(w.cols()) * sizeof(float));
  const Tensor wide(room.data(), Dtype::F32, {1, w.cols()});
  for (int64_t r = 0; r < w.rows(); ++r) {
    dequantise_row(wide.f32(), w.row_range(r, 1));
    row_dots(sums + r, wide, x);
  }
}

}  // namespace loraine
#endif
