// Block types of ggml whose elements are small whole numbers times a step: a run of 32 elements as those numbers. Shared by the reference
// (packed.cpp) and the vectorised kernels (kernels/products/packed_rows), which differ in how they multiply. Layouts: ggml-common.h and
// ggml-quants.c of llama.cpp, restated.
#pragma once
#include <bit>
#include <cstdint>
#include <cstring>

#include "loraine/core/dtype.h"
#include "loraine/core/packed_grids.h"

namespace loraine {

// Element i is step[i / 16] · codes[i] − base[i / 16].
struct PackedRun {
  alignas(32) int8_t codes[32];
  float step[2], base[2];
  void set_step(float both) { step[0] = step[1] = both; }
};

namespace packed {

using Byte = unsigned char;

template <class T>
inline T read(const Byte* at) {
  T value;
  std::memcpy(&value, at, sizeof value);
  return value;
}

inline float half(uint16_t bits) {
  const uint32_t size = bits & 0x7fffu;
  float value = size < 0x400 ? static_cast<float>(size) * 0x1p-24f : std::bit_cast<float>((size << 13) + (112u << 23));
  if (size >= 0x7c00) value = std::bit_cast<float>(0x7f800000u | (size & 0x3ffu) << 13);
  return bits & 0x8000u ? -value : value;
}
inline float half(const Byte* at) { return half(read<uint16_t>(at)); }

// 0xff in the byte of each bit that is set.
struct SignTable {
  uint64_t masks[256] = {};
  constexpr SignTable() {
    for (unsigned bits = 0; bits < 256; ++bits)
      for (unsigned i = 0; i < 8; ++i)
        if (bits >> i & 1) masks[bits] |= 0xffull << (8 * i);
  }
};
inline constexpr SignTable kSigns;

// Eight of the grids' values, 1 to 62, whose signs are the bits.
inline void put_signed(int8_t* codes, uint64_t values, uint8_t signs) {
  const uint64_t mask = kSigns.masks[signs], turned = (values ^ mask) + (mask & 0x0101010101010101ull);  // no byte carries
  std::memcpy(codes, &turned, 8);
}
// The eighth sign makes their number even.
inline uint8_t eight_signs(uint32_t seven) { return static_cast<uint8_t>(seven | static_cast<uint32_t>(std::popcount(seven) & 1) << 7); }
inline uint64_t pair(uint32_t low, uint32_t high) { return low | static_cast<uint64_t>(high) << 32; }

inline constexpr int8_t kIq4Values[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
inline constexpr int8_t kMxfp4Values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // doubled

// Value i is that of the low half of byte i, value i + 16 that of its high half.
inline void look_up(int8_t* codes, const Byte* at, const int8_t (&values)[16]) {
  for (int i = 0; i < 16; ++i) {
    codes[i] = values[at[i] & 15];
    codes[i + 16] = values[at[i] >> 4];
  }
}

// Each format: `run(block, i, out)` gives its i-th run. Only Q2_K has a base.
struct Q2_K {
  static constexpr Dtype kType = Dtype::Q2_K;
  static constexpr bool kHasBase = true;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte* low = block + 16 + i / 4 * 32;
    const float d = half(block + 80), minimum = half(block + 82);
    for (int j = 0; j < 2; ++j) {
      const Byte scale = block[2 * i + j];
      out.step[j] = d * static_cast<float>(scale & 15);
      out.base[j] = minimum * static_cast<float>(scale >> 4);
    }
    const int shift = 2 * (i % 4);
    for (int l = 0; l < 32; ++l) out.codes[l] = static_cast<int8_t>(low[l] >> shift & 3);
  }
};

// 16 scales of six bits: their low halves in 8 bytes, their upper two bits in 4.
struct Q3_K {
  static constexpr Dtype kType = Dtype::Q3_K;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte *high = block, *low = block + 32 + i / 4 * 32, *scales = block + 96;
    const float d = half(block + 108);
    for (int j = 2 * i; j < 2 * i + 2; ++j) {
      const int nibble = j < 8 ? scales[j] & 15 : scales[j - 8] >> 4, upper = scales[8 + j % 4] >> (2 * (j / 4)) & 3;
      out.step[j % 2] = d * static_cast<float>((nibble | upper << 4) - 32);
    }
    const int shift = 2 * (i % 4);
    for (int l = 0; l < 32; ++l) out.codes[l] = static_cast<int8_t>((low[l] >> shift & 3) - (high[l] >> i & 1 ? 0 : 4));
  }
};

// Steps of IQ1: (2 scale + 1) d, an eighth of it, so that a code is eight times the grid's value plus or minus 1.
inline void put_shifted(int8_t* codes, uint64_t values, bool down) {
  for (int i = 0; i < 8; ++i)
    codes[i] = static_cast<int8_t>(8 * static_cast<int8_t>(static_cast<uint8_t>(values >> (8 * i))) + (down ? -1 : 1));
}
struct IQ1_S {
  static constexpr Dtype kType = Dtype::IQ1_S;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte* low = block + 2 + 4 * i;
    const uint32_t high = read<uint16_t>(block + 34 + 2 * i);
    out.set_step(half(block) * static_cast<float>(2 * (high >> 12 & 7) + 1) * 0.125f);
    for (unsigned j = 0; j < 4; ++j) put_shifted(out.codes + 8 * j, kIq1Grid[low[j] | (high >> (3 * j) & 7) << 8], high & 0x8000);
  }
};
// The scale of the block lies in the top four bits of four words.
struct IQ1_M {
  static constexpr Dtype kType = Dtype::IQ1_M;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte *low = block + 4 * i, *high = block + 32 + 2 * i, *scales = block + 48;
    uint32_t d = 0;
    for (unsigned j = 0; j < 4; ++j) d |= static_cast<uint32_t>(read<uint16_t>(scales + 2 * j) >> 12) << (4 * j);
    const uint32_t mine = read<uint16_t>(scales + 2 * (i / 2)) >> (6 * (i % 2));
    for (unsigned j = 0; j < 2; ++j)
      out.step[j] = half(static_cast<uint16_t>(d)) * static_cast<float>(2 * (mine >> (3 * j) & 7) + 1) * 0.125f;
    for (unsigned j = 0; j < 4; ++j) {
      const uint32_t bits = static_cast<uint32_t>(high[j / 2]) >> (4 * (j % 2));
      put_shifted(out.codes + 8 * j, kIq1Grid[low[j] | (bits & 7) << 8], bits & 8);
    }
  }
};

// Steps of IQ2: (scale + 1/2) d / 4.
inline float quarter_step(float d, uint32_t scale) { return d * (0.5f + static_cast<float>(scale)) * 0.25f; }
struct IQ2_XXS {
  static constexpr Dtype kType = Dtype::IQ2_XXS;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte* entries = block + 2 + 8 * i;
    const auto signs = read<uint32_t>(entries + 4);
    out.set_step(quarter_step(half(block), signs >> 28));
    for (unsigned j = 0; j < 4; ++j) put_signed(out.codes + 8 * j, kIq2XxsGrid[entries[j]], eight_signs(signs >> (7 * j) & 127));
  }
};
struct IQ2_XS {
  static constexpr Dtype kType = Dtype::IQ2_XS;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const float d = half(block);
    const Byte scales = block[66 + i];
    out.step[0] = quarter_step(d, scales & 15u);
    out.step[1] = quarter_step(d, scales >> 4);
    for (int j = 0; j < 4; ++j) {
      const uint32_t entry = read<uint16_t>(block + 2 + 8 * i + 2 * j);
      put_signed(out.codes + 8 * j, kIq2XsGrid[entry & 511], eight_signs(entry >> 9));
    }
  }
};
struct IQ2_S {
  static constexpr Dtype kType = Dtype::IQ2_S;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const float d = half(block);
    const Byte *low = block + 2 + 4 * i, *signs = block + 34 + 4 * i, scales = block[74 + i];
    const uint32_t high = block[66 + i];
    out.step[0] = quarter_step(d, scales & 15u);
    out.step[1] = quarter_step(d, scales >> 4);
    for (unsigned j = 0; j < 4; ++j) put_signed(out.codes + 8 * j, kIq2SGrid[low[j] | (high >> (2 * j) & 3) << 8], signs[j]);
  }
};

struct IQ3_XXS {
  static constexpr Dtype kType = Dtype::IQ3_XXS;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte* entries = block + 2 + 8 * i;
    const auto signs = read<uint32_t>(block + 66 + 4 * i);
    out.set_step(half(block) * (0.5f + static_cast<float>(signs >> 28)) * 0.5f);
    for (unsigned j = 0; j < 4; ++j)
      put_signed(out.codes + 8 * j, pair(kIq3XxsGrid[entries[2 * j]], kIq3XxsGrid[entries[2 * j + 1]]),
                 eight_signs(signs >> (7 * j) & 127));
  }
};
struct IQ3_S {
  static constexpr Dtype kType = Dtype::IQ3_S;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const Byte *low = block + 2 + 8 * i, *signs = block + 74 + 4 * i;
    const uint32_t high = block[66 + i];
    out.set_step(half(block) * static_cast<float>(1 + 2 * (block[106 + i / 2] >> (4 * (i % 2)) & 15)));
    const auto entry = [&](unsigned j) { return kIq3SGrid[low[j] | (high >> j & 1) << 8]; };
    for (unsigned j = 0; j < 4; ++j) put_signed(out.codes + 8 * j, pair(entry(2 * j), entry(2 * j + 1)), signs[j]);
  }
};

struct IQ4_NL {
  static constexpr Dtype kType = Dtype::IQ4_NL;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int, PackedRun& out) {
    out.set_step(half(block));
    look_up(out.codes, block + 2, kIq4Values);
  }
};
struct IQ4_XS {
  static constexpr Dtype kType = Dtype::IQ4_XS;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    const int low = block[4 + i / 2] >> (4 * (i % 2)) & 15, high = read<uint16_t>(block + 2) >> (2 * i) & 3;
    out.set_step(half(block) * static_cast<float>((low | high << 4) - 32));
    look_up(out.codes, block + 8 + 16 * i, kIq4Values);
  }
};

// The last bytes of TQ1_0 hold four values each, the others five: digit n is the top one of byte · 3^n.
struct TQ1_0 {
  static constexpr Dtype kType = Dtype::TQ1_0;
  static constexpr bool kHasBase = false;
  static int8_t digit(Byte byte, int n) {
    constexpr int kPowers[] = {1, 3, 9, 27, 81};
    return static_cast<int8_t>((((byte * kPowers[n]) & 255) * 3 >> 8) - 1);
  }
  static void run(const Byte* block, int i, PackedRun& out) {
    out.set_step(half(block + 52));
    for (int l = 0; l < 32; ++l) {
      const int at = 32 * i + l;
      out.codes[l] = at < 160   ? digit(block[at % 32], at / 32)
                     : at < 240 ? digit(block[32 + (at - 160) % 16], (at - 160) / 16)
                                : digit(block[48 + (at - 240) % 4], (at - 240) / 4);
    }
  }
};
struct TQ2_0 {
  static constexpr Dtype kType = Dtype::TQ2_0;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int i, PackedRun& out) {
    out.set_step(half(block + 64));
    const Byte* low = block + i / 4 * 32;
    const int shift = 2 * (i % 4);
    for (int l = 0; l < 32; ++l) out.codes[l] = static_cast<int8_t>((low[l] >> shift & 3) - 1);
  }
};

// Half of the power of two that the first byte numbers.
struct MXFP4 {
  static constexpr Dtype kType = Dtype::MXFP4;
  static constexpr bool kHasBase = false;
  static void run(const Byte* block, int, PackedRun& out) {
    const uint32_t power = block[0];
    out.set_step(std::bit_cast<float>(power < 2 ? 0x00200000u << power : (power - 1) << 23));
    look_up(out.codes, block + 1, kMxfp4Values);
  }
};

// Calls use(format) with the format of dtype; false where it is none of these.
template <class Use>
inline bool for_runs(Dtype dtype, Use&& use) {
  switch (dtype) {
    case Dtype::Q2_K: use(Q2_K()); return true;
    case Dtype::Q3_K: use(Q3_K()); return true;
    case Dtype::IQ1_S: use(IQ1_S()); return true;
    case Dtype::IQ1_M: use(IQ1_M()); return true;
    case Dtype::IQ2_XXS: use(IQ2_XXS()); return true;
    case Dtype::IQ2_XS: use(IQ2_XS()); return true;
    case Dtype::IQ2_S: use(IQ2_S()); return true;
    case Dtype::IQ3_XXS: use(IQ3_XXS()); return true;
    case Dtype::IQ3_S: use(IQ3_S()); return true;
    case Dtype::IQ4_NL: use(IQ4_NL()); return true;
    case Dtype::IQ4_XS: use(IQ4_XS()); return true;
    case Dtype::TQ1_0: use(TQ1_0()); return true;
    case Dtype::TQ2_0: use(TQ2_0()); return true;
    case Dtype::MXFP4: use(MXFP4()); return true;
    default: return false;
  }
}

}  // namespace packed
}  // namespace loraine
