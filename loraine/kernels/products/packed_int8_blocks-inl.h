// Blocks of ggml's types, 16 rows at a time, as whole numbers that lie as integer products want them: four codes of a row in each lane of
// 32 bits, so that a vector holds rows. Include inside HWY_NAMESPACE files, after foreach_target.h and highway.h. Layouts of the blocks:
// packed_rows.cpp, core/packed_runs.h.
#if defined(LORAINE_KERNELS_PACKED_INT8_BLOCKS_INL_H_) == defined(HWY_TARGET_TOGGLE)
#ifdef LORAINE_KERNELS_PACKED_INT8_BLOCKS_INL_H_
#undef LORAINE_KERNELS_PACKED_INT8_BLOCKS_INL_H_
#else
#define LORAINE_KERNELS_PACKED_INT8_BLOCKS_INL_H_
#endif

#include <hwy/highway.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/dtype.h"
#include "loraine/core/packed_runs.h"
#include "loraine/kernels/products/packed_int8_dots.h"

HWY_BEFORE_NAMESPACE();
namespace loraine {
namespace HWY_NAMESPACE {

namespace hn = hwy::HWY_NAMESPACE;

constexpr int kStripRows = 16;
constexpr int kPieceRuns = 8;  // runs of 32 elements that are unpacked together: 256 elements, a whole block of every type

// A run of 32 elements of 16 rows. Element = step · (code − offset) − base.
struct StripRun {
  alignas(64) uint32_t codes[8][kStripRows];  // [k / 4][row]
  alignas(64) float step[2][kStripRows];      // of elements 0 to 15 and 16 to 31; the first of all where a format has no halves
  alignas(64) float base[2][kStripRows];
};

// What the products have to know of a format: code − 2^kShift, or the code itself where kShift is 0; codes up to kMost.
template <int kShiftOf, int kMostOf, bool kHalvesOf, bool kHasBaseOf>
struct CodeShape {
  static constexpr int kShift = kShiftOf, kMost = kMostOf;
  static constexpr bool kHalves = kHalvesOf, kHasBase = kHasBaseOf;
};

#if HWY_TARGET != HWY_SCALAR
using PackedByte = unsigned char;
using StripD = hn::CappedTag<uint32_t, kStripRows>;
using StripInt = hn::RebindToSigned<StripD>;
using StripFloat = hn::RebindToFloat<StripD>;
using StripV = hn::Vec<StripD>;
constexpr int kStripLanes = static_cast<int>(hn::MaxLanes(StripD()));

// 16 bytes of the rows 0, 4, 8, 12: one in each 128 bits of the vector.
HWY_INLINE StripV every_fourth(const PackedByte* const* row, int64_t at) {
  const hn::FixedTag<uint8_t, 16> d;
#if HWY_MAX_BYTES == 16
  return hn::BitCast(StripD(), hn::LoadU(d, row[0] + at));
#else
  const hn::FixedTag<uint8_t, 32> two;
  const auto low = hn::Combine(two, hn::LoadU(d, row[4] + at), hn::LoadU(d, row[0] + at));
#if HWY_MAX_BYTES == 32
  return hn::BitCast(StripD(), low);
#else
  const auto high = hn::Combine(two, hn::LoadU(d, row[12] + at), hn::LoadU(d, row[8] + at));
  return hn::BitCast(StripD(), hn::Combine(hn::FixedTag<uint8_t, 64>(), high, low));
#endif
#endif
}

// Words 0 to 3 of 16 bytes, each of as many rows as a vector has lanes.
HWY_INLINE void words_of_rows(const PackedByte* const* row, int64_t at, StripV* out) {
  const StripD d;
  const hn::RepartitionToWide<StripD> wide;
  const StripV a = every_fourth(row, at), b = every_fourth(row + 1, at), c = every_fourth(row + 2, at), e = every_fourth(row + 3, at);
  const auto ab_low = hn::BitCast(wide, hn::InterleaveLower(d, a, b)), ab_high = hn::BitCast(wide, hn::InterleaveUpper(d, a, b));
  const auto ce_low = hn::BitCast(wide, hn::InterleaveLower(d, c, e)), ce_high = hn::BitCast(wide, hn::InterleaveUpper(d, c, e));
  out[0] = hn::BitCast(d, hn::InterleaveLower(wide, ab_low, ce_low));
  out[1] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_low, ce_low));
  out[2] = hn::BitCast(d, hn::InterleaveLower(wide, ab_high, ce_high));
  out[3] = hn::BitCast(d, hn::InterleaveUpper(wide, ab_high, ce_high));
}

HWY_INLINE StripV in_each_byte(uint32_t byte) { return hn::Set(StripD(), byte * 0x01010101u); }
HWY_INLINE StripV low_nibbles(StripV v) { return hn::And(v, in_each_byte(15)); }
HWY_INLINE StripV high_nibbles(StripV v) { return hn::And(hn::ShiftRight<4>(v), in_each_byte(15)); }
// Codes whose low four bits and next one or two lie apart.
HWY_INLINE StripV with_upper(StripV nibbles, StripV bits, int shift, uint32_t mask) {
  return hn::Or(nibbles, hn::ShiftLeft<4>(hn::And(hn::ShiftRightSame(bits, shift), in_each_byte(mask))));
}

// The low 16 bits of each lane, a half float.
HWY_INLINE hn::Vec<StripFloat> low_halves(StripV words) {
  const hn::Rebind<uint16_t, StripD> d16;
  const hn::Rebind<hwy::float16_t, StripD> half;
  return hn::PromoteTo(StripFloat(), hn::BitCast(half, hn::TruncateTo(d16, words)));
}
HWY_INLINE hn::Vec<StripFloat> high_halves(StripV words) { return low_halves(hn::ShiftRight<16>(words)); }
HWY_INLINE hn::Vec<StripFloat> byte_as_float(StripV words, int byte) {
  const StripV one = hn::And(hn::ShiftRightSame(words, 8 * byte), hn::Set(StripD(), 255));
  return hn::ConvertTo(StripFloat(), hn::BitCast(StripInt(), one));
}
HWY_INLINE hn::Vec<StripFloat> signed_byte_as_float(StripV words, int byte) {
  const auto top = hn::BitCast(StripInt(), hn::ShiftLeftSame(words, 24 - 8 * byte));
  return hn::ConvertTo(StripFloat(), hn::ShiftRight<24>(top));
}

// A word of each row, kept as bits where the steps will lie: read as a vector at once, it would wait for the last of these stores.
HWY_INLINE void keep_words(const PackedByte* const* row, int64_t at, StripRun& run) {
  for (int r = 0; r < kStripRows; ++r) std::memcpy(&run.step[0][r], row[r] + at, 4);
}
HWY_INLINE StripV kept_words(const StripRun& run, int first) { return hn::BitCast(StripD(), hn::Load(StripFloat(), run.step[0] + first)); }

// Calls use(first row, rows from there) for the vectors of a strip.
template <class Use>
HWY_INLINE void for_vectors(const PackedByte* const* row, Use&& use) {
  for (int first = 0; first < kStripRows; first += kStripLanes) use(first, row + first);
}

// Formats of 32 elements: `codes` at offset `at` of the rows, then, of all runs together, `scales`.
// Code i is the low half of byte i, code i + 16 its high half.
template <class Map>
HWY_INLINE void codes_of_nibbles(const PackedByte* const* row, int64_t at, StripRun& run, Map&& map) {
  for_vectors(row, [&](int first, const PackedByte* const* rows) {
    StripV words[4];
    words_of_rows(rows, at, words);
    for (int k = 0; k < 4; ++k) {
      hn::Store(map(low_nibbles(words[k])), StripD(), run.codes[k] + first);
      hn::Store(map(high_nibbles(words[k])), StripD(), run.codes[k + 4] + first);
    }
  });
}
// Codes of 16 values from a table of bytes.
HWY_INLINE StripV looked_up(StripV nibbles, const uint8_t* table) {
  const hn::Repartition<uint8_t, StripD> d;
  return hn::BitCast(StripD(), hn::TableLookupBytes(hn::LoadDup128(d, table), hn::BitCast(d, nibbles)));
}

// The fifth bits of 32 codes lie in one word: those of four codes spread to bit 4 of four bytes.
HWY_INLINE void codes_of_five_bits(const PackedByte* const* row, int64_t high_at, int64_t at, StripRun& run) {
  alignas(64) uint32_t high[kStripRows];
  for (int r = 0; r < kStripRows; ++r) std::memcpy(high + r, row[r] + high_at, 4);
  for_vectors(row, [&](int first, const PackedByte* const* rows) {
    StripV words[4];
    words_of_rows(rows, at, words);
    const StripV bits = hn::Load(StripD(), high + first);
    for (int k = 0; k < 8; ++k) {
      const StripV four = hn::And(hn::ShiftRightSame(bits, 4 * k), hn::Set(StripD(), 15));
      const StripV spread = hn::And(hn::Mul(four, hn::Set(StripD(), 0x02040810u)), in_each_byte(16));
      hn::Store(hn::Or(k < 4 ? low_nibbles(words[k % 4]) : high_nibbles(words[k % 4]), spread), StripD(), run.codes[k] + first);
    }
  });
}

HWY_INLINE void scales_of_halves(StripRun& run, bool has_base) {
  for (int first = 0; first < kStripRows; first += kStripLanes) {
    const StripV words = kept_words(run, first);
    hn::Store(low_halves(words), StripFloat(), run.step[0] + first);
    if (has_base) hn::Store(hn::Neg(high_halves(words)), StripFloat(), run.base[0] + first);
  }
}

struct Q4_0Strip : CodeShape<3, 15, false, false> {
  explicit Q4_0Strip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    keep_words(row, at, *run);
    codes_of_nibbles(row, at + 2, *run, [](StripV v) { return v; });
  }
  void scales(StripRun& run) const { scales_of_halves(run, false); }
};
struct Q4_1Strip : CodeShape<0, 15, false, true> {
  explicit Q4_1Strip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    keep_words(row, at, *run);
    codes_of_nibbles(row, at + 4, *run, [](StripV v) { return v; });
  }
  void scales(StripRun& run) const { scales_of_halves(run, true); }
};
struct Q5_0Strip : CodeShape<4, 31, false, false> {
  explicit Q5_0Strip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    keep_words(row, at, *run);
    codes_of_five_bits(row, at + 2, at + 6, *run);
  }
  void scales(StripRun& run) const { scales_of_halves(run, false); }
};
struct Q5_1Strip : CodeShape<0, 31, false, true> {
  explicit Q5_1Strip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    keep_words(row, at, *run);
    codes_of_five_bits(row, at + 4, at + 8, *run);
  }
  void scales(StripRun& run) const { scales_of_halves(run, true); }
};
struct Q8_0Strip : CodeShape<7, 255, false, false> {
  explicit Q8_0Strip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    keep_words(row, at, *run);
    for_vectors(row, [&](int first, const PackedByte* const* rows) {
      for (int half = 0; half < 2; ++half) {
        StripV words[4];
        words_of_rows(rows, at + 2 + 16 * half, words);
        for (int k = 0; k < 4; ++k) hn::Store(hn::Xor(words[k], in_each_byte(128)), StripD(), run->codes[4 * half + k] + first);
      }
    });
  }
  void scales(StripRun& run) const { scales_of_halves(run, false); }
};
struct IQ4_NLStrip : CodeShape<7, 255, false, false> {
  explicit IQ4_NLStrip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    alignas(16) static constexpr uint8_t kTable[16] = {1, 24, 45, 63, 79, 93, 106, 118, 129, 141, 153, 166, 181, 197, 217, 241};  // + 128
    keep_words(row, at, *run);
    codes_of_nibbles(row, at + 2, *run, [](StripV v) { return looked_up(v, kTable); });
  }
  void scales(StripRun& run) const { scales_of_halves(run, false); }
};
struct MXFP4Strip : CodeShape<4, 31, false, false> {
  explicit MXFP4Strip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    alignas(16) static constexpr uint8_t kTable[16] = {16, 17, 18, 19, 20, 22, 24, 28, 16, 15, 14, 13, 12, 10, 8, 4};  // doubled, + 16
    keep_words(row, at, *run);
    codes_of_nibbles(row, at + 1, *run, [](StripV v) { return looked_up(v, kTable); });
  }
  void scales(StripRun& run) const {  // powers of two, halved
    const StripD d;
    for (int first = 0; first < kStripRows; first += kStripLanes) {
      const StripV power = hn::And(kept_words(run, first), hn::Set(d, 255));
      const StripV bits = hn::IfThenElse(hn::Lt(power, hn::Set(d, 2)), hn::Add(hn::Set(d, 0x00200000u), hn::ShiftLeft<21>(power)),
                                         hn::ShiftLeft<23>(hn::Sub(power, hn::Set(d, 1))));
      hn::Store(hn::BitCast(StripFloat(), bits), StripFloat(), run.step[0] + first);
    }
  }
};

// Formats of 256 elements: `codes` puts the steps too. Scales and minimums of eight runs: six bits each in 12 bytes, behind two halves.
HWY_INLINE void scales_and_minimums(const PackedByte* const* row, int64_t at, StripRun* run) {
  for_vectors(row, [&](int first, const PackedByte* const* rows) {
    StripV words[4];
    words_of_rows(rows, at, words);
    const auto d = low_halves(words[0]), minimum = high_halves(words[0]);
    const StripV scale[2] = {hn::And(words[1], in_each_byte(63)),
                             hn::Or(low_nibbles(words[3]), hn::And(hn::ShiftRight<2>(words[1]), in_each_byte(0x30)))};
    const StripV least[2] = {hn::And(words[2], in_each_byte(63)),
                             hn::Or(high_nibbles(words[3]), hn::And(hn::ShiftRight<2>(words[2]), in_each_byte(0x30)))};
    for (int i = 0; i < 8; ++i) {
      hn::Store(hn::Mul(d, byte_as_float(scale[i / 4], i % 4)), StripFloat(), run[i].step[0] + first);
      hn::Store(hn::Mul(minimum, byte_as_float(least[i / 4], i % 4)), StripFloat(), run[i].base[0] + first);
    }
  });
}
struct Q4_KStrip : CodeShape<0, 15, false, true> {
  explicit Q4_KStrip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    scales_and_minimums(row, at, run);
    for_vectors(row, [&](int first, const PackedByte* const* rows) {
      for (int half = 0; half < 8; ++half) {  // 16 bytes each of runs 2 j and 2 j + 1
        StripV words[4];
        words_of_rows(rows, at + 16 + 16 * half, words);
        StripRun* two = run + half / 2 * 2;
        for (int k = 0; k < 4; ++k) {
          hn::Store(low_nibbles(words[k]), StripD(), two[0].codes[half % 2 * 4 + k] + first);
          hn::Store(high_nibbles(words[k]), StripD(), two[1].codes[half % 2 * 4 + k] + first);
        }
      }
    });
  }
};
struct Q5_KStrip : CodeShape<0, 31, false, true> {
  explicit Q5_KStrip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    scales_and_minimums(row, at, run);
    for_vectors(row, [&](int first, const PackedByte* const* rows) {
      StripV high[8], words[4];
      words_of_rows(rows, at + 16, high);
      words_of_rows(rows, at + 32, high + 4);
      for (int half = 0; half < 8; ++half) {
        words_of_rows(rows, at + 48 + 16 * half, words);
        const int i = half / 2 * 2, k0 = half % 2 * 4;
        for (int k = 0; k < 4; ++k) {
          hn::Store(with_upper(low_nibbles(words[k]), high[k0 + k], i, 1), StripD(), run[i].codes[k0 + k] + first);
          hn::Store(with_upper(high_nibbles(words[k]), high[k0 + k], i + 1, 1), StripD(), run[i + 1].codes[k0 + k] + first);
        }
      }
    });
  }
};
struct Q6_KStrip : CodeShape<5, 63, true, false> {
  explicit Q6_KStrip(Dtype) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    alignas(64) uint32_t ends[kStripRows];  // the last scales, and in the upper half what all are multiplied with
    for (int r = 0; r < kStripRows; ++r) std::memcpy(ends + r, row[r] + at + 206, 4);
    for_vectors(row, [&](int first, const PackedByte* const* rows) {
      StripV high[8], words[4];
      for (int half = 0; half < 2; ++half) {  // of 128 elements: runs 0 and 2 share bytes, 1 and 3
        words_of_rows(rows, at + 128 + 32 * half, high);
        words_of_rows(rows, at + 144 + 32 * half, high + 4);
        for (int part = 0; part < 4; ++part) {
          words_of_rows(rows, at + 64 * half + 16 * part, words);
          const int i = part / 2, k0 = part % 2 * 4;
          StripRun* runs = run + 4 * half;
          for (int k = 0; k < 4; ++k) {
            hn::Store(with_upper(low_nibbles(words[k]), high[k0 + k], 2 * i, 3), StripD(), runs[i].codes[k0 + k] + first);
            hn::Store(with_upper(high_nibbles(words[k]), high[k0 + k], 2 * i + 4, 3), StripD(), runs[i + 2].codes[k0 + k] + first);
          }
        }
      }
      words_of_rows(rows, at + 192, words);
      const auto d = high_halves(hn::Load(StripD(), ends + first));
      for (int i = 0; i < 16; ++i)
        hn::Store(hn::Mul(d, signed_byte_as_float(words[i / 4], i % 4)), StripFloat(), run[i / 2].step[i % 2] + first);
    });
  }
};

// The other formats, run by run (core/packed_runs.h).
struct AnyStrip : CodeShape<7, 255, true, true> {
  Dtype dtype;
  explicit AnyStrip(Dtype type) : dtype(type) {}
  void codes(const PackedByte* const* row, int64_t at, StripRun* run) const {
    for (int i = 0, runs = block_of(dtype).elements / 32; i < runs; ++i) {
      alignas(16) PackedByte bytes[kStripRows][32];
      const PackedByte* where[kStripRows];
      for (int r = 0; r < kStripRows; ++r) {
        PackedRun one;
        packed_run(dtype, row[r] + at, i, one);
        for (int l = 0; l < 32; ++l) bytes[r][l] = static_cast<PackedByte>(one.codes[l] ^ 0x80);
        for (int half = 0; half < 2; ++half) run[i].step[half][r] = one.step[half], run[i].base[half][r] = one.base[half];
        where[r] = bytes[r];
      }
      for_vectors(where, [&](int first, const PackedByte* const* rows) {
        for (int half = 0; half < 2; ++half) {
          StripV words[4];
          words_of_rows(rows, 16 * half, words);
          for (int k = 0; k < 4; ++k) hn::Store(words[k], StripD(), run[i].codes[4 * half + k] + first);
        }
      });
    }
  }
};
#endif

}  // namespace HWY_NAMESPACE
}  // namespace loraine
HWY_AFTER_NAMESPACE();

#endif
