// The block formats of ggml and their way back to F32. Layouts: ggml-common.h and ggml-quants.c of llama.cpp, restated.
#include "loraine/core/packed.h"

#include <cstring>
#include <string>

#include "loraine/core/error.h"
#include "loraine/core/packed_runs.h"

namespace loraine {
namespace {

float half_at(const unsigned char* bytes) {
  f16 half;
  std::memcpy(&half, bytes, 2);
  return f16_to_f32(half);
}

// One scale, 32 values of 4 or 5 bits: value i is the low half of byte i, value i + 16 the high half; the fifth bits lie in qh.
void small_block(const unsigned char* block, bool minimum, bool fifth, float* y) {
  float d = half_at(block), m = minimum ? half_at(block + 2) : 0.0f;
  const unsigned char* at = block + (minimum ? 4 : 2);
  uint32_t high = 0;
  if (fifth) {
    std::memcpy(&high, at, 4);
    at += 4;
  }
  int shift = minimum ? 0 : fifth ? 16 : 8;
  for (int i = 0; i < 16; ++i) {
    int low = (at[i] & 15) | (fifth ? static_cast<int>(high >> i & 1u) << 4 : 0);
    int up = (at[i] >> 4) | (fifth ? static_cast<int>(high >> (i + 16) & 1u) << 4 : 0);
    y[i] = static_cast<float>(low - shift) * d;
    y[i + 16] = static_cast<float>(up - shift) * d;
    if (minimum) y[i] += m, y[i + 16] += m;  // else a zero keeps its sign
  }
}

void q8_0_block(const unsigned char* block, float* y) {
  float d = half_at(block);
  for (int i = 0; i < 32; ++i) y[i] = static_cast<float>(static_cast<int8_t>(block[2 + i])) * d;
}

// Scale and minimum of sub-block j of 8, six bits each, packed into 12 bytes.
void scale_and_minimum(const unsigned char* packed, int j, int& scale, int& minimum) {
  if (j < 4) {
    scale = packed[j] & 63;
    minimum = packed[j + 4] & 63;
  } else {
    scale = (packed[j + 4] & 15) | ((packed[j - 4] >> 6) << 4);
    minimum = (packed[j + 4] >> 4) | ((packed[j] >> 6) << 4);
  }
}

// Q4_K and Q5_K: 8 sub-blocks of 32 with their own scale and minimum; 64 values share 32 bytes (low halves first).
void k_block(const unsigned char* block, bool fifth, float* y) {
  float d = half_at(block), d_minimum = half_at(block + 2);
  const unsigned char *scales = block + 4, *high = block + 16, *low = block + (fifth ? 48 : 16);
  for (int j = 0; j < 8; ++j) {
    int scale = 0, minimum = 0;
    scale_and_minimum(scales, j, scale, minimum);
    float step = d * static_cast<float>(scale), base = d_minimum * static_cast<float>(minimum);
    for (int i = 0; i < 32; ++i) {
      int q = j % 2 ? low[j / 2 * 32 + i] >> 4 : low[j / 2 * 32 + i] & 15;
      if (fifth) q |= (high[i] >> j & 1) << 4;
      y[j * 32 + i] = step * static_cast<float>(q) - base;
    }
  }
}

// Q6_K: 16 sub-blocks of 16 with an 8-bit scale; per half of 128 values 64 bytes of low nibbles and 32 bytes of two high bits.
void q6_k_block(const unsigned char* block, float* y) {
  float d = half_at(block + 208);
  for (int half = 0; half < 2; ++half) {
    const unsigned char *low = block + half * 64, *high = block + 128 + half * 32, *scales = block + 192 + half * 8;
    for (int i = 0; i < 128; ++i) {
      int quarter = i / 32, l = i % 32;
      int nibble = quarter < 2 ? low[l + quarter * 32] & 15 : low[l + (quarter - 2) * 32] >> 4;
      int q = (nibble | ((high[l] >> (2 * quarter) & 3) << 4)) - 32;
      y[half * 128 + i] = d * static_cast<float>(static_cast<int8_t>(scales[i / 16])) * static_cast<float>(q);
    }
  }
}

template <class Format>
void unpack_runs(float* y, const unsigned char* block) {
  constexpr int kRuns = block_of(Format::kType).elements / 32;
  PackedRun run;
  for (int i = 0; i < kRuns; ++i, y += 32) {
    Format::run(block, i, run);
    for (int l = 0; l < 32; ++l) {
      y[l] = run.step[l / 16] * static_cast<float>(run.codes[l]);
      if (Format::kHasBase) y[l] -= run.base[l / 16];
    }
  }
}

void unpack_block(float* y, const unsigned char* block, Dtype dtype) {
  if (packed::for_runs(dtype, [&](auto format) { unpack_runs<decltype(format)>(y, block); })) return;
  switch (dtype) {
    case Dtype::Q4_0: return small_block(block, false, false, y);
    case Dtype::Q4_1: return small_block(block, true, false, y);
    case Dtype::Q5_0: return small_block(block, false, true, y);
    case Dtype::Q5_1: return small_block(block, true, true, y);
    case Dtype::Q8_0: return q8_0_block(block, y);
    case Dtype::Q4_K: return k_block(block, false, y);
    case Dtype::Q5_K: return k_block(block, true, y);
    case Dtype::Q6_K: return q6_k_block(block, y);
    default: throw Error(ErrorKind::internal, std::string(name_of(dtype)) + " is not a packed type");
  }
}

}  // namespace

void unpack(float* out, const void* blocks, Dtype dtype, int64_t n) {
  const auto [elements, bytes] = block_of(dtype);
  if (n % elements != 0) throw Error(ErrorKind::internal, std::to_string(n) + " elements are no whole blocks of " + name_of(dtype));
  const unsigned char* block = static_cast<const unsigned char*>(blocks);
  for (int64_t i = 0; i < n; i += elements, block += bytes) unpack_block(out + i, block, dtype);
}

void unpack(float* out, const Tensor& view) {
  if (has_quant_state(view.dtype)) return dequantise(out, view);
  unpack(out, view.data, view.dtype, view.numel());
}

}  // namespace loraine
