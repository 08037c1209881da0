// A strip of 16 rows of the weight against a few rows of activations, compiled once per instruction set by Highway's foreach_target: what
// is unpacked for 256 elements of the strip stays in the first cache for all rows of activations. A lane holds a row of the weight, so that
// the bits of a sum are those of every width of vectors that multiplies and adds in one rounding.
#include "loraine/kernels/products/packed_int8_dots.h"

#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "loraine/kernels/products/packed_int8_dots.cpp"
#include <hwy/foreach_target.h>
#include <hwy/highway.h>
#if HWY_ARCH_X86
#include <cpuid.h>
#endif

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/kernels/base/lines_ahead.h"
#include "loraine/kernels/products/packed_int8_blocks-inl.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

#if HWY_TARGET == HWY_SCALAR
void PackedInt8Dots(float* sums, int64_t sums_stride, const Tensor& w, const RoundedBlocks& x, bool) {
  float values[256];
  const int64_t block = block_of(w.dtype).elements;
  for (int64_t r = 0; r < w.rows(); ++r)
    for (int64_t m = 0; m < x.rows; ++m) {
      float sum = 0;
      for (int64_t k = 0; k < x.K; k += block) {
        unpack(values, static_cast<const unsigned char*>(w.data) + bytes_of(w.dtype, r * w.row_stride + k), w.dtype, block);
        for (int64_t i = 0; i < block; ++i)
          sum += values[i] * static_cast<float>(x.codes[m * x.K + k + i]) * x.scales[m * x.blocks() + (k + i) / kRoundedBlock];
      }
      sums[m * sums_stride + r] = sum;
    }
}
void RoundBlocks(const RoundedBlocks& to, int64_t r, const float* x) {
  for (int64_t b = 0; b < to.blocks(); ++b) {
    const float* in = x + b * kRoundedBlock;
    float most = 0;
    for (int i = 0; i < 32; ++i) most = std::max(most, std::fabs(in[i]));
    for (int i = 0; i < 32; ++i)
      to.codes[r * to.K + b * kRoundedBlock + i] = static_cast<int8_t>(most < 1e-30f ? 0.0f : std::nearbyintf(in[i] * (127 / most)));
    to.scales[r * to.blocks() + b] = most < 1e-30f ? 0 : most / 127;
  }
}
#else

constexpr bool kHas512 = HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86, kHas256 = HWY_TARGET == HWY_AVX2;
constexpr int kTogetherX = kHas512 || kHas256 ? 4 : 2;  // rows of x that share a load of the codes
using Sum = hn::Vec<StripInt>;

HWY_INLINE int32_t four_codes(const int8_t* x) {
  int32_t word;
  std::memcpy(&word, x, 4);
  return word;
}

// Each adds to sums[j], lane by lane, Σ code · x_j over kWords words of codes: codes [word][row], x_j at x + j · x_stride. kMinus: whether
// the sum of `shift` times x has to be taken away from codes of up to 255.

// vpdpbusd: four products of each lane and their sum.
#if HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86
HWY_INLINE void add_fours(Sum& sum, StripV w, const int8_t* x) {
  asm("vpdpbusd %2%{1to16%}, %1, %0" : "+v"(sum.raw) : "v"(w.raw), "m"(*reinterpret_cast<const int8_t(*)[4]>(x)));
}
#elif HWY_TARGET == HWY_AVX2
HWY_INLINE void add_fours(Sum& sum, StripV w, const int8_t* x) {
  const Sum all = hn::Set(StripInt(), four_codes(x));
  asm("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum.raw) : "x"(w.raw), "x"(all.raw));
}
#else
HWY_INLINE void add_fours(Sum&, StripV, const int8_t*) {}
#endif

// kMany: as many rows of x at a time as 32 registers hold sums of.
struct WithVnni {
  static constexpr bool kMany = true;
  template <class F>
  static constexpr bool kMinus = true;
  template <class F, int kX, int kWords>
  static HWY_INLINE void add(Sum* sums, const uint32_t (*codes)[kStripRows], const int8_t* x, int64_t x_stride) {
    for (int k = 0; k < kWords; ++k) {
      const StripV w = hn::Load(StripD(), codes[k]);
      for (int j = 0; j < kX; ++j) add_fours(sums[j], w, x + j * x_stride + 4 * k);
    }
  }
};

// Products of bytes whose pairs fit into 16 bits, several of which do before they are widened.
#if (HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86) || HWY_TARGET == HWY_AVX2
#if HWY_TARGET == HWY_AVX2
HWY_INLINE __m256i byte_pairs(__m256i w, __m256i x) { return _mm256_maddubs_epi16(w, x); }
HWY_INLINE __m256i sum_pairs(__m256i v) { return _mm256_madd_epi16(v, _mm256_set1_epi16(1)); }
#else
HWY_INLINE __m512i byte_pairs(__m512i w, __m512i x) { return _mm512_maddubs_epi16(w, x); }
HWY_INLINE __m512i sum_pairs(__m512i v) { return _mm512_madd_epi16(v, _mm512_set1_epi16(1)); }
#endif
template <class F, int kX, int kWords>
HWY_INLINE void add_byte_pairs(Sum* sums, const uint32_t (*codes)[kStripRows], const int8_t* x, int64_t x_stride) {
  constexpr int kTogether = std::min(kWords, F::kMost <= 15 ? 8 : F::kMost <= 31 ? 4 : 2);  // kTogether · 2 · kMost · 127 < 2¹⁵
  const hn::Repartition<int16_t, StripD> d16;
  for (int first = 0; first < kWords; first += kTogether) {
    hn::Vec<decltype(d16)> pairs[kX];
    for (int k = first; k < first + kTogether; ++k) {
      const StripV w = hn::Load(StripD(), codes[k]);
      for (int j = 0; j < kX; ++j) {
        const hn::Vec<decltype(d16)> products{byte_pairs(w.raw, hn::Set(StripInt(), four_codes(x + j * x_stride + 4 * k)).raw)};
        pairs[j] = k == first ? products : hn::Add(pairs[j], products);
      }
    }
    for (int j = 0; j < kX; ++j) sums[j] = hn::Add(sums[j], Sum{sum_pairs(pairs[j].raw)});
  }
}
#else
template <class F, int kX, int kWords>
HWY_INLINE void add_byte_pairs(Sum*, const uint32_t (*)[kStripRows], const int8_t*, int64_t) {}
#endif

// Codes of up to 255: of AVX2 as signed bytes, whose sizes and signs are multiplied.
template <int kX, int kWords>
HWY_INLINE void add_signed_bytes(Sum* sums, const uint32_t (*codes)[kStripRows], const int8_t* x, int64_t x_stride) {
#if HWY_TARGET == HWY_AVX2
  for (int k = 0; k < kWords; ++k) {
    const __m256i w = hn::Xor(hn::Load(StripD(), codes[k]), in_each_byte(128)).raw, size = _mm256_abs_epi8(w);
    for (int j = 0; j < kX; ++j) {
      const __m256i all = hn::Set(StripInt(), four_codes(x + j * x_stride + 4 * k)).raw;
      sums[j] = hn::Add(sums[j], Sum{sum_pairs(byte_pairs(size, _mm256_sign_epi8(all, w)))});
    }
  }
#else
  (void)sums, (void)codes, (void)x, (void)x_stride;
#endif
}

// Widened to 16 bits, bytes 0 and 2 of each word beside 1 and 3.
template <int kX, int kWords>
HWY_INLINE void add_widened(Sum* sums, const uint32_t (*codes)[kStripRows], const int8_t* x, int64_t x_stride) {
  const hn::Repartition<int16_t, StripD> d16;
  const hn::Repartition<uint16_t, StripD> d_bits;
  for (int k = 0; k < kWords; ++k) {
    const StripV w = hn::Load(StripD(), codes[k]);
    const auto even = hn::BitCast(d16, hn::And(w, hn::Set(StripD(), 0x00ff00ffu)));
    const auto odd = hn::BitCast(d16, hn::ShiftRight<8>(hn::BitCast(d_bits, w)));
    for (int j = 0; j < kX; ++j) {
      const auto all = hn::BitCast(d16, hn::Set(StripInt(), four_codes(x + j * x_stride + 4 * k)));
      Sum more = hn::Zero(StripInt());
      Sum two = hn::ReorderWidenMulAccumulate(StripInt(), even, hn::ShiftRight<8>(hn::ShiftLeft<8>(all)), hn::Zero(StripInt()), more);
      two = hn::ReorderWidenMulAccumulate(StripInt(), odd, hn::ShiftRight<8>(all), two, more);
      sums[j] = hn::Add(sums[j], hn::RearrangeToOddPlusEven(two, more));
    }
  }
}

struct WithoutVnni {
  static constexpr bool kMany = false, kBytes = kHas512 || kHas256;
  template <class F>
  static constexpr bool kMinus = !(kHas256 && F::kMost > 127);
  template <class F, int kX, int kWords>
  static HWY_INLINE void add(Sum* sums, const uint32_t (*codes)[kStripRows], const int8_t* x, int64_t x_stride) {
    if constexpr (kBytes && F::kMost <= 63) add_byte_pairs<F, kX, kWords>(sums, codes, x, x_stride);
    else if constexpr (!kMinus<F>) add_signed_bytes<kX, kWords>(sums, codes, x, x_stride);
    else add_widened<kX, kWords>(sums, codes, x, x_stride);
  }
};

// Runs of a strip, and kX rows of x from there on: codes and scales of the piece.
struct PieceOfX {
  const int8_t* codes;
  const float* scales;
  const int32_t *minus_halves, *minus_all;
  const float *scaled_halves, *scaled_all;
  int64_t K;
};

template <class F, class Way, int kX>
HWY_INLINE void add_runs(float (*sums)[kStripRows], const StripRun* runs, int64_t count, const PieceOfX& x) {
  const StripFloat d;
  const int64_t blocks = x.K / kRoundedBlock;
  for (int first = 0; first < kStripRows; first += kStripLanes) {
    hn::Vec<StripFloat> all[kX];
    for (int j = 0; j < kX; ++j) all[j] = hn::Load(d, sums[j] + first);
    for (int64_t i = 0; i < count; ++i) {
      const StripRun& run = runs[i];
      for (int half = 0; half < (F::kHalves ? 2 : 1); ++half) {
        constexpr int kWords = F::kHalves ? 4 : 8;
        const auto at = [&](int64_t j) { return F::kHalves ? 2 * (j * blocks + i) + half : j * blocks + i; };
        Sum whole[kX];
        for (int j = 0; j < kX; ++j) {
          whole[j] = hn::Zero(StripInt());
          if constexpr (F::kShift > 0 && Way::template kMinus<F>)
            whole[j] = hn::ShiftLeft<F::kShift>(hn::Set(StripInt(), (F::kHalves ? x.minus_halves : x.minus_all)[at(j)]));
        }
        const auto* codes = reinterpret_cast<const uint32_t(*)[kStripRows]>(run.codes[half * kWords] + first);
        Way::template add<F, kX, kWords>(whole, codes, x.codes + kRoundedBlock * i + 4 * half * kWords, x.K);
        const auto step = hn::Load(d, run.step[half] + first);
        for (int j = 0; j < kX; ++j)
          all[j] = hn::MulAdd(hn::ConvertTo(d, whole[j]), hn::Mul(step, hn::Set(d, x.scales[j * blocks + i])), all[j]);
        if constexpr (F::kHasBase) {
          const auto base = hn::Load(d, run.base[half] + first);
          for (int j = 0; j < kX; ++j)
            all[j] = hn::NegMulAdd(base, hn::Set(d, (F::kHalves ? x.scaled_halves : x.scaled_all)[at(j)]), all[j]);
        }
      }
    }
    for (int j = 0; j < kX; ++j) hn::Store(all[j], d, sums[j] + first);
  }
}

// Runs [0, count), elements from k on, against all rows of x.
using AddPiece = void (*)(float (*)[kStripRows], const StripRun*, int64_t, const RoundedBlocks&, int64_t);
template <class Shape, class Way>
void add_piece(float (*sums)[kStripRows], const StripRun* runs, int64_t count, const RoundedBlocks& x, int64_t k) {
  const int64_t block = k / kRoundedBlock;
  const auto rows_from = [&](int64_t m) {
    const int64_t at = m * x.blocks() + block;
    return PieceOfX{
        x.codes + m * x.K + k, x.scales + at, x.minus_halves + 2 * at, x.minus_all + at, x.scaled_halves + 2 * at, x.scaled_all + at, x.K};
  };
  int64_t m = 0;
  if constexpr (kHas512 && Way::kMany)
    for (; m + 8 <= x.rows; m += 8) add_runs<Shape, Way, 8>(sums + m, runs, count, rows_from(m));
  for (; m + kTogetherX <= x.rows; m += kTogetherX) add_runs<Shape, Way, kTogetherX>(sums + m, runs, count, rows_from(m));
  for (; m < x.rows; ++m) add_runs<Shape, Way, 1>(sums + m, runs, count, rows_from(m));
}

// Blocks from byte `at` of the rows on.
using UnpackPiece = void (*)(Dtype, const PackedByte* const*, int64_t, int64_t, StripRun*);
template <class F>
void unpack_piece(Dtype dtype, const PackedByte* const* row, int64_t at, int64_t blocks, StripRun* runs) {
  const BlockSize block = block_of(dtype);
  const F format(dtype);
  for (int64_t b = 0; b < blocks; ++b) format.codes(row, at + b * block.bytes, runs + b * block.elements / 32);
  if constexpr (requires { format.scales(runs[0]); })
    for (int64_t b = 0; b < blocks; ++b) format.scales(runs[b]);
}

struct StripCode {
  UnpackPiece unpack;
  AddPiece add;
};
template <class F>
StripCode code_of(bool vnni) {
  using Shape = CodeShape<F::kShift, F::kMost, F::kHalves, F::kHasBase>;  // formats of one share the code
  if constexpr (kHas512 || kHas256)
    if (vnni) return {unpack_piece<F>, add_piece<Shape, WithVnni>};
  return {unpack_piece<F>, add_piece<Shape, WithoutVnni>};
}
StripCode code_of(Dtype dtype, bool vnni) {
  switch (dtype) {
    case Dtype::Q4_0: return code_of<Q4_0Strip>(vnni);
    case Dtype::Q4_1: return code_of<Q4_1Strip>(vnni);
    case Dtype::Q5_0: return code_of<Q5_0Strip>(vnni);
    case Dtype::Q5_1: return code_of<Q5_1Strip>(vnni);
    case Dtype::Q8_0: return code_of<Q8_0Strip>(vnni);
    case Dtype::Q4_K: return code_of<Q4_KStrip>(vnni);
    case Dtype::Q5_K: return code_of<Q5_KStrip>(vnni);
    case Dtype::Q6_K: return code_of<Q6_KStrip>(vnni);
    case Dtype::IQ4_NL: return code_of<IQ4_NLStrip>(vnni);
    case Dtype::MXFP4: return code_of<MXFP4Strip>(vnni);
    default: return code_of<AnyStrip>(vnni);
  }
}

void PackedInt8Dots(float* sums, int64_t sums_stride, const Tensor& w, const RoundedBlocks& x, bool vnni) {
  const StripCode code = code_of(w.dtype, vnni);
  const BlockSize block = block_of(w.dtype);
  const int64_t row_bytes = bytes_of(w.dtype, w.row_stride), used_bytes = bytes_of(w.dtype, x.K), piece = kPieceRuns * 32;
  alignas(64) StripRun runs[kPieceRuns];
  alignas(64) float all[kMostRoundedRows][kStripRows];
  for (int64_t r = 0; r < w.rows(); r += kStripRows) {
    const int64_t left = std::min<int64_t>(kStripRows, w.rows() - r);
    const auto* first = static_cast<const PackedByte*>(w.data) + r * row_bytes;
    const LinesAhead<kStripRows> next(first, row_bytes, used_bytes);
    const PackedByte* row[kStripRows];
    for (int64_t i = 0; i < kStripRows; ++i) row[i] = first + std::min(i, left - 1) * row_bytes;  // past the end the last one again
    std::memset(all, 0, static_cast<size_t>(x.rows) * sizeof all[0]);
    for (int64_t k = 0, asked = 0; k < x.K; k += piece) {
      const int64_t n = std::min(piece, x.K - k), blocks = n / block.elements, at = k / block.elements * block.bytes;
      for (; asked < at + blocks * block.bytes; asked += 64) next.ask(asked);
      code.unpack(w.dtype, row, at, blocks, runs);
      code.add(all, runs, n / 32, x, k);
    }
    for (int64_t m = 0; m < x.rows; ++m) std::copy_n(all[m], left, sums + m * sums_stride + r);
  }
}

void RoundBlocks(const RoundedBlocks& to, int64_t r, const float* x) {
  const StripFloat d;
  const hn::Rebind<int16_t, StripFloat> d16;
  const hn::Rebind<int8_t, StripFloat> d8;
  constexpr int kVectors = 32 / kStripLanes;
  for (int64_t b = 0; b < to.blocks(); ++b) {
    hn::Vec<StripFloat> v[kVectors], most = hn::Zero(d);
    for (int i = 0; i < kVectors; ++i) {
      v[i] = hn::LoadU(d, x + b * kRoundedBlock + i * kStripLanes);
      most = hn::Max(most, hn::Abs(v[i]));
    }
    const float largest = hn::GetLane(hn::MaxOfLanes(d, most));
    const auto factor = hn::Set(d, largest < 1e-30f ? 0.0f : 127 / largest);
    for (int i = 0; i < kVectors; ++i) {
      const auto whole = hn::NearestInt(hn::Mul(v[i], factor));
      hn::StoreU(hn::DemoteTo(d8, hn::DemoteTo(d16, whole)), d8, to.codes + r * to.K + b * kRoundedBlock + i * kStripLanes);
    }
    to.scales[r * to.blocks() + b] = largest < 1e-30f ? 0 : largest / 127;
  }
}
#endif

int PackedInt8Width() { return HWY_TARGET <= HWY_AVX3 && HWY_ARCH_X86 ? 512 : HWY_TARGET == HWY_AVX2 ? 256 : 0; }

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace loraine {

HWY_EXPORT(PackedInt8Dots);
HWY_EXPORT(RoundBlocks);
HWY_EXPORT(PackedInt8Width);

namespace {

Vnni vnni_of_processor() {
#if HWY_ARCH_X86
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool avx512 = __get_cpuid_count(7, 0, &a, &b, &c, &d) && (c >> 11 & 1);
  const bool avx2 = __get_cpuid_count(7, 1, &a, &b, &c, &d) && (a >> 4 & 1);
  return {avx512, avx2};
#else
  return {false, false};
#endif
}

// The sums of codes, which are the same on every machine.
void add_up_codes(const RoundedBlocks& to, int64_t r) {
  for (int64_t b = 0; b < to.blocks(); ++b) {
    const int8_t* codes = to.codes + r * to.K + b * kRoundedBlock;
    const int64_t at = r * to.blocks() + b;
    int32_t sums[2] = {0, 0};
    for (int half = 0; half < 2; ++half) {
      for (int i = 0; i < 16; ++i) sums[half] += codes[16 * half + i];
      to.minus_halves[2 * at + half] = -sums[half];
      to.scaled_halves[2 * at + half] = to.scales[at] * static_cast<float>(sums[half]);
    }
    to.minus_all[at] = -(sums[0] + sums[1]);
    to.scaled_all[at] = to.scales[at] * static_cast<float>(sums[0] + sums[1]);
  }
}

}  // namespace

Vnni& used_vnni() {
  static Vnni used = vnni_of_processor();
  return used;
}

size_t RoundedBlocks::bytes(int64_t rows, int64_t K) { return static_cast<size_t>(rows * (K + K / kRoundedBlock * 4 * 7)); }
RoundedBlocks RoundedBlocks::in(void* memory, int64_t rows, int64_t K) {
  const int64_t n = rows * (K / kRoundedBlock);
  RoundedBlocks x;
  x.rows = rows, x.K = K;
  x.scales = static_cast<float*>(memory), x.scaled_all = x.scales + n, x.scaled_halves = x.scaled_all + n;
  x.minus_all = reinterpret_cast<int32_t*>(x.scaled_halves + 2 * n), x.minus_halves = x.minus_all + n;
  x.codes = reinterpret_cast<int8_t*>(x.minus_halves + 2 * n);
  return x;
}
RoundedBlocks RoundedBlocks::row_range(int64_t first, int64_t count) const {
  const int64_t at = first * blocks();
  return {count, K, codes + first * K, scales + at, minus_halves + 2 * at, minus_all + at, scaled_halves + 2 * at, scaled_all + at};
}

void round_blocks(const RoundedBlocks& to, int64_t r, const float* x) {
  HWY_DYNAMIC_DISPATCH(RoundBlocks)(to, r, x);
  for (int64_t b = 0; b < to.blocks(); ++b) {  // a largest number is lost where a NaN came before it
    bool finite = true;
    for (int64_t i = 0; i < kRoundedBlock; ++i) finite &= std::isfinite(x[b * kRoundedBlock + i]);
    if (!finite) to.scales[r * to.blocks() + b] = std::numeric_limits<float>::quiet_NaN();
  }
  add_up_codes(to, r);
}

void packed_int8_dots(float* sums, int64_t sums_stride, const Tensor& w, const RoundedBlocks& x) {
  if (!is_packed(w.dtype) || has_quant_state(w.dtype) || w.cols() != x.K || x.K % block_of(w.dtype).elements != 0 ||
      x.rows > kMostRoundedRows)
    throw Error(ErrorKind::internal, "packed_int8_dots: " + std::string(name_of(w.dtype)) + " " + w.shape_text() + " against " +
                                         std::to_string(x.rows) + " rows of " + std::to_string(x.K));
  const int width = HWY_DYNAMIC_DISPATCH(PackedInt8Width)();
  const bool vnni = width == 512 ? used_vnni().avx512 : width == 256 && used_vnni().avx2;
  HWY_DYNAMIC_DISPATCH(PackedInt8Dots)(sums, sums_stride, w, x, vnni);
}

void packed_run(Dtype dtype, const unsigned char* block, int i, PackedRun& out) {
  packed::for_runs(dtype, [&](auto format) {
    decltype(format)::run(block, i, out);
    if constexpr (!decltype(format)::kHasBase) out.base[0] = out.base[1] = 0;
  });
}

}  // namespace loraine
#endif
