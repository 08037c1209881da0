// Blocks of ggml's types as vectors of f32, compiled once per instruction set by Highway's foreach_target. A format is a struct with
// `vectors(block, i, out)`: the vectors of its i-th run of 32 elements.
#include "loraine/kernels/products/packed_rows.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/packed_rows.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/core/packed_runs.h"
#include "loraine/kernels/base/elements-inl.h"
#include "loraine/kernels/base/lane_sums-inl.h"
#include "loraine/kernels/base/lines_ahead.h"
#include "loraine/kernels/products/quantised_rows.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

using Byte = unsigned char;
constexpr int kRun = 32;  // elements that are unpacked at a time

#if HWY_TARGET == HWY_SCALAR
void PackedDots(float* sums, const void* w, Dtype dtype, int64_t stride, int64_t rows, const float* x, int64_t K) {
  float values[256];
  const int64_t block = block_of(dtype).elements;
  for (int64_t r = 0; r < rows; ++r) {
    float sum = 0;
    for (int64_t k = 0; k < K; k += block) {
      unpack(values, static_cast<const Byte*>(w) + bytes_of(dtype, r * stride + k), dtype, block);
      for (int64_t i = 0; i < block; ++i) sum += values[i] * x[k + i];
    }
    sums[r] = sum;
  }
}
void UnpackRow(float* out, const void* in, Dtype dtype, int64_t n) { unpack(out, in, dtype, n); }
#else

constexpr int kLanes = static_cast<int>(hn::MaxLanes(D())), kVectors = kRun / kLanes;
using D8 = hn::Rebind<uint8_t, D>;
using DI8 = hn::Rebind<int8_t, D>;
using DI32 = hn::Rebind<int32_t, D>;

HWY_INLINE V as_float(hn::Vec<D8> bytes) { return hn::ConvertTo(D(), hn::PromoteTo(DI32(), bytes)); }
HWY_INLINE hn::Vec<D8> low_half(hn::Vec<D8> bytes) { return hn::And(bytes, hn::Set(D8(), 15)); }

// The two halves of 16 bits each that a block may begin with
struct Pair {
  float first, second;
};
HWY_INLINE Pair halves(const Byte* at) {
  const hn::FixedTag<float, 4> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  const auto v = hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(at)));
  return {hn::GetLane(v), hn::GetLane(hn::DupOdd(v))};
}
HWY_INLINE float half_at_end(const Byte* at) {  // nothing may be read beyond it
  const hn::FixedTag<float, 4> d;
  const hn::Rebind<hwy::float16_t, decltype(d)> d16;
  return hn::GetLane(hn::Reverse(d, hn::PromoteTo(d, hn::LoadU(d16, reinterpret_cast<const hwy::float16_t*>(at - 6)))));
}

// Value i of a run is the low half of byte i, value i + 16 its high half.
template <class Use>
HWY_INLINE void nibbles(const Byte* at, Use&& use) {
  for (int v = 0; v < kVectors / 2; ++v) {
    const auto bytes = hn::LoadU(D8(), at + v * kLanes);
    use(v, low_half(bytes));
    use(v + kVectors / 2, hn::ShiftRight<4>(bytes));
  }
}

// `value` maps a vector of codes (as f32) to what they stand for. A run whose codes are the low halves of 16 bytes and then the high ones,
// or one whose codes are one half of each of 32 bytes.
#if HWY_TARGET <= HWY_AVX3 && HWY_TARGET != HWY_SCALAR
// One register holds them all, and an index is read from the lowest four bits of a lane.
template <class Value>
HWY_INLINE void run_of_nibbles(const Byte* at, Value&& value, V* out) {
  const V table = value(hn::Iota(D(), 0));
  const auto bytes = hn::PromoteTo(DI32(), hn::LoadU(D8(), at));
  out[0] = V{_mm512_permutexvar_ps(bytes.raw, table.raw)};
  out[1] = V{_mm512_permutexvar_ps(hn::ShiftRight<4>(bytes).raw, table.raw)};
}
template <class Value>
HWY_INLINE void half_run_of_nibbles(const Byte* at, bool high, Value&& value, V* out) {
  const V table = value(hn::Iota(D(), 0));
  for (int v = 0; v < 2; ++v) {
    const auto bytes = hn::PromoteTo(DI32(), hn::LoadU(D8(), at + v * 16));
    out[v] = V{_mm512_permutexvar_ps(high ? hn::ShiftRight<4>(bytes).raw : bytes.raw, table.raw)};
  }
}
#else
// Widened once, each byte gives two.
template <class Value>
HWY_INLINE void run_of_nibbles(const Byte* at, Value&& value, V* out) {
  for (int v = 0; v < kVectors / 2; ++v) {
    const auto bytes = hn::PromoteTo(DI32(), hn::LoadU(D8(), at + v * kLanes));
    out[v] = value(hn::ConvertTo(D(), hn::And(bytes, hn::Set(DI32(), 15))));
    out[v + kVectors / 2] = value(hn::ConvertTo(D(), hn::ShiftRight<4>(bytes)));
  }
}
template <class Value>
HWY_INLINE void half_run_of_nibbles(const Byte* at, bool high, Value&& value, V* out) {
  for (int v = 0; v < kVectors; ++v) {
    const auto bytes = hn::PromoteTo(DI32(), hn::LoadU(D8(), at + v * kLanes));
    out[v] = value(hn::ConvertTo(D(), high ? hn::ShiftRight<4>(bytes) : hn::And(bytes, hn::Set(DI32(), 15))));
  }
}
#endif

struct Q4_0Rows {
  static constexpr int kElements = 32, kBytes = 18;
  static HWY_INLINE void vectors(const Byte* block, int, V* out) {
    const V d = hn::Set(D(), halves(block).first), shift = hn::Set(D(), 8);
    run_of_nibbles(
        block + 2, [&](V q) { return hn::Mul(hn::Sub(q, shift), d); }, out);
  }
};

struct Q4_1Rows {
  static constexpr int kElements = 32, kBytes = 20;
  static HWY_INLINE void vectors(const Byte* block, int, V* out) {
    const Pair scales = halves(block);
    const V d = hn::Set(D(), scales.first), m = hn::Set(D(), scales.second);
    run_of_nibbles(
        block + 4, [&](V q) { return hn::Add(hn::Mul(q, d), m); }, out);
  }
};

// The fifth bits of 32 values lie in one word.
HWY_INLINE V with_fifth_bit(hn::Vec<D8> q, int v, uint32_t high) {
  const D32 d32;
  const auto mine = hn::Shl(hn::Set(d32, 1u), hn::Iota(d32, 0));
  const auto set = hn::TestBit(hn::Set(d32, high >> (v * kLanes)), mine);
  return hn::Add(as_float(q), hn::IfThenElseZero(hn::RebindMask(D(), set), hn::Set(D(), 16)));
}

struct Q5_0Rows {
  static constexpr int kElements = 32, kBytes = 22;
  static HWY_INLINE void vectors(const Byte* block, int, V* out) {
    const V d = hn::Set(D(), halves(block).first), shift = hn::Set(D(), 16);
    uint32_t high;
    std::memcpy(&high, block + 2, 4);
    nibbles(block + 6, [&](int v, hn::Vec<D8> q) { out[v] = hn::Mul(hn::Sub(with_fifth_bit(q, v, high), shift), d); });
  }
};

struct Q5_1Rows {
  static constexpr int kElements = 32, kBytes = 24;
  static HWY_INLINE void vectors(const Byte* block, int, V* out) {
    const Pair scales = halves(block);
    const V d = hn::Set(D(), scales.first), m = hn::Set(D(), scales.second);
    uint32_t high;
    std::memcpy(&high, block + 4, 4);
    nibbles(block + 8, [&](int v, hn::Vec<D8> q) { out[v] = hn::Add(hn::Mul(with_fifth_bit(q, v, high), d), m); });
  }
};

struct Q8_0Rows {
  static constexpr int kElements = 32, kBytes = 34;
  static HWY_INLINE void vectors(const Byte* block, int, V* out) {
    const V d = hn::Set(D(), halves(block).first);
    for (int v = 0; v < kVectors; ++v) {
      const auto q = hn::LoadU(DI8(), reinterpret_cast<const int8_t*>(block + 2) + v * kLanes);
      out[v] = hn::Mul(hn::ConvertTo(D(), hn::PromoteTo(DI32(), q)), d);
    }
  }
};

// Scale and minimum of the run `i` of 8: six bits each, packed into 12 bytes.
struct ScaleAndMinimum {
  int scale, minimum;
};
HWY_INLINE ScaleAndMinimum scale_and_minimum(const Byte* packed, int i) {
  if (i < 4) return {packed[i] & 63, packed[i + 4] & 63};
  return {(packed[i + 4] & 15) | ((packed[i - 4] >> 6) << 4), (packed[i + 4] >> 4) | ((packed[i] >> 6) << 4)};
}

struct StepAndBase {
  V step, base;
};
HWY_INLINE StepAndBase step_and_base(const Byte* block, int i) {
  const Pair scales = halves(block);
  const auto [scale, minimum] = scale_and_minimum(block + 4, i);
  return {hn::Set(D(), scales.first * static_cast<float>(scale)), hn::Set(D(), scales.second * static_cast<float>(minimum))};
}

// Runs 2 j and 2 j + 1 are the low and the high halves of the same 32 bytes.
struct Q4_KRows {
  static constexpr int kElements = 256, kBytes = 144;
  static HWY_INLINE void vectors(const Byte* block, int i, V* out) {
    const StepAndBase s = step_and_base(block, i);
    half_run_of_nibbles(
        block + 16 + i / 2 * 32, i % 2, [&](V q) { return hn::Sub(hn::Mul(s.step, q), s.base); }, out);
  }
};

struct Q5_KRows {
  static constexpr int kElements = 256, kBytes = 176;
  static HWY_INLINE void vectors(const Byte* block, int i, V* out) {
    const auto [step, base] = step_and_base(block, i);
    const auto bit = hn::Set(D8(), static_cast<uint8_t>(1u << i)), fifth = hn::Set(D8(), 16);
    for (int v = 0; v < kVectors; ++v) {
      const auto bytes = hn::LoadU(D8(), block + 48 + i / 2 * 32 + v * kLanes), high = hn::LoadU(D8(), block + 16 + v * kLanes);
      const auto low = i % 2 ? hn::ShiftRight<4>(bytes) : low_half(bytes);
      out[v] = hn::Sub(hn::Mul(step, as_float(hn::Or(low, hn::And(hn::VecFromMask(D8(), hn::TestBit(high, bit)), fifth)))), base);
    }
  }
};

// Per half of 128 values 64 bytes of low nibbles and 32 bytes of two high bits each; a scale for every 16 values.
struct Q6_KRows {
  static constexpr int kElements = 256, kBytes = 210;
  static HWY_INLINE void vectors(const Byte* block, int i, V* out) {
    const float d = half_at_end(block + 208);
    const int half = i / 4, quarter = i % 4;
    const Byte *low = block + half * 64 + quarter % 2 * 32, *high = block + 128 + half * 32;
    const auto* scales = reinterpret_cast<const int8_t*>(block + 192 + half * 8 + quarter * 2);
    const V shift = hn::Set(D(), 32);
    for (int v = 0; v < kVectors; ++v) {
      const auto bytes = hn::LoadU(D8(), low + v * kLanes), two = hn::LoadU(D8(), high + v * kLanes);
      const auto nibble = quarter < 2 ? low_half(bytes) : hn::ShiftRight<4>(bytes);
      const auto up = hn::And(hn::ShiftLeft<4>(quarter == 0   ? two
                                               : quarter == 1 ? hn::ShiftRight<2>(two)
                                               : quarter == 2 ? hn::ShiftRight<4>(two)
                                                              : hn::ShiftRight<6>(two)),
                              hn::Set(D8(), 0x30));
      const V step = hn::Set(D(), d * static_cast<float>(scales[v * kLanes / 16]));
      out[v] = hn::Mul(step, hn::Sub(as_float(hn::Or(nibble, up)), shift));
    }
  }
};

// Formats whose runs are small whole numbers (core/packed_runs.h).
template <class Format>
struct RunRows {
  static constexpr int kElements = block_of(Format::kType).elements, kBytes = block_of(Format::kType).bytes;
  static HWY_INLINE void vectors(const Byte* block, int i, V* out) {
    PackedRun run;
    Format::run(block, i, run);
    for (int v = 0; v < kVectors; ++v) {
      const V codes = hn::ConvertTo(D(), hn::PromoteTo(DI32(), hn::LoadU(DI8(), run.codes + v * kLanes)));
      out[v] = hn::Mul(hn::Set(D(), run.step[v * kLanes / 16]), codes);
      if constexpr (Format::kHasBase) out[v] = hn::Sub(out[v], hn::Set(D(), run.base[v * kLanes / 16]));
    }
  }
};

// Four rows at a time share what is loaded of x; the rows after them are asked for while these are worked on.
constexpr int64_t kTogether = 4;

template <class F>
HWY_INLINE void dots(float* sums, const Byte* w, int64_t stride, int64_t rows, const float* x, int64_t K) {
  const D d;
  const int64_t row_bytes = stride / F::kElements * F::kBytes;
  for (int64_t r = 0; r < rows; r += kTogether) {
    const int64_t left = rows - r;
    const LinesAhead<kTogether> next(w + r * row_bytes, row_bytes, K / F::kElements * F::kBytes);
    const Byte* row[kTogether];
    for (int64_t i = 0; i < kTogether; ++i) row[i] = w + (r + std::min(i, left - 1)) * row_bytes;  // past the end the last one again
    V s[kTogether];
    for (V& sum : s) sum = hn::Zero(d);
    int64_t offset = 0, asked = 0;
    for (int64_t k = 0; k < K; k += F::kElements, offset += F::kBytes) {
      for (; asked < offset + F::kBytes; asked += 64) next.ask(asked);
      for (int run = 0; run < F::kElements / kRun; ++run) {
        V xs[kVectors];
        for (int v = 0; v < kVectors; ++v) xs[v] = hn::LoadU(d, x + k + run * kRun + v * kLanes);
        for (int64_t i = 0; i < kTogether; ++i) {
          V values[kVectors];
          F::vectors(row[i] + offset, run, values);
          for (int v = 0; v < kVectors; ++v) s[i] = hn::MulAdd(values[v], xs[v], s[i]);
        }
      }
    }
    for (int64_t i = 0; i < kTogether && i < left; ++i) sums[r + i] = lane_sum(s[i]);
  }
}

template <class F>
HWY_INLINE void unpack_blocks(float* out, const Byte* in, int64_t n) {
  for (int64_t k = 0; k < n; k += F::kElements, in += F::kBytes)
    for (int run = 0; run < F::kElements / kRun; ++run) {
      V values[kVectors];
      F::vectors(in, run, values);
      for (int v = 0; v < kVectors; ++v) hn::StoreU(values[v], D(), out + k + run * kRun + v * kLanes);
    }
}

template <class Use>
HWY_INLINE void for_format(Dtype dtype, Use&& use) {
  if (packed::for_runs(dtype, [&](auto format) { use(RunRows<decltype(format)>()); })) return;
  switch (dtype) {
    case Dtype::Q4_0: return use(Q4_0Rows());
    case Dtype::Q4_1: return use(Q4_1Rows());
    case Dtype::Q5_0: return use(Q5_0Rows());
    case Dtype::Q5_1: return use(Q5_1Rows());
    case Dtype::Q8_0: return use(Q8_0Rows());
    case Dtype::Q4_K: return use(Q4_KRows());
    case Dtype::Q5_K: return use(Q5_KRows());
    case Dtype::Q6_K: return use(Q6_KRows());
    default: break;
  }
}

void PackedDots(float* sums, const void* w, Dtype dtype, int64_t stride, int64_t rows, const float* x, int64_t K) {
  for_format(dtype, [&](auto format) { dots<decltype(format)>(sums, static_cast<const Byte*>(w), stride, rows, x, K); });
}
void UnpackRow(float* out, const void* in, Dtype dtype, int64_t n) {
  for_format(dtype, [&](auto format) { unpack_blocks<decltype(format)>(out, static_cast<const Byte*>(in), n); });
}
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(PackedDots);
HWY_EXPORT(UnpackRow);

namespace {
void check(Dtype dtype, int64_t n) {
  if (!is_packed(dtype) || n % block_of(dtype).elements != 0)
    throw Error(ErrorKind::internal, std::to_string(n) + " elements are no whole blocks of " + name_of(dtype));
}
}  // namespace

void packed_dots(float* sums, const Tensor& w, const float* x) {
  check(w.dtype, w.row_stride);
  check(w.dtype, w.cols());
  if (has_quant_state(w.dtype)) return quantised_dots(sums, w, x);
  HWY_DYNAMIC_DISPATCH(PackedDots)(sums, w.data, w.dtype, w.row_stride, w.rows(), x, w.cols());
}
void unpack_row(float* out, const Tensor& in) {
  check(in.dtype, in.numel());
  if (has_quant_state(in.dtype)) return dequantise_row(out, in);
  HWY_DYNAMIC_DISPATCH(UnpackRow)(out, in.data, in.dtype, in.numel());
}

}  // namespace loraine
#endif
