// The block formats of ggml and their way back to F32. Layouts: ggml-common.h and ggml-quants.c of llama.cpp, restated.
#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/io/gguf.h"

namespace loraine {
namespace {

constexpr GgmlType kTypes[] = {
    {0, "F32", 1, 4, true},       {1, "F16", 1, 2, true},        {2, "Q4_0", 32, 18, true},    {3, "Q4_1", 32, 20, true},
    {6, "Q5_0", 32, 22, true},    {7, "Q5_1", 32, 24, true},     {8, "Q8_0", 32, 34, true},    {9, "Q8_1", 32, 36, false},
    {10, "Q2_K", 256, 84, false}, {11, "Q3_K", 256, 110, false}, {12, "Q4_K", 256, 144, true}, {13, "Q5_K", 256, 176, true},
    {14, "Q6_K", 256, 210, true}, {15, "Q8_K", 256, 292, false}, {24, "I8", 1, 1, false},      {25, "I16", 1, 2, false},
    {26, "I32", 1, 4, false},     {27, "I64", 1, 8, false},      {28, "F64", 1, 8, false},     {30, "BF16", 1, 2, true},
};

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
    y[i] = static_cast<float>(low - shift) * d + m;
    y[i + 16] = static_cast<float>(up - shift) * d + m;
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

}  // namespace

const GgmlType* ggml_type(uint32_t number) {
  for (const GgmlType& type : kTypes)
    if (type.number == number) return &type;
  return nullptr;
}

void dequantize(uint32_t number, const unsigned char* blocks, int64_t count, float* out) {
  const GgmlType* type = ggml_type(number);
  if (!type || !type->readable) throw Error(ErrorKind::internal, "a ggml type without a reader");
  for (int64_t i = 0; i < count / type->block; ++i) {
    const unsigned char* block = blocks + i * type->block_bytes;
    float* y = out + i * type->block;
    switch (number) {
      case 0: std::memcpy(y, block, 4); break;
      case 1: *y = half_at(block); break;
      case 2: small_block(block, false, false, y); break;
      case 3: small_block(block, true, false, y); break;
      case 6: small_block(block, false, true, y); break;
      case 7: small_block(block, true, true, y); break;
      case 8: q8_0_block(block, y); break;
      case 12: k_block(block, false, y); break;
      case 13: k_block(block, true, y); break;
      case 14: q6_k_block(block, y); break;
      case 30: {
        bf16 value;
        std::memcpy(&value, block, 2);
        *y = bf16_to_f32(value);
        break;
      }
      default: throw Error(ErrorKind::internal, "a ggml type without a reader");
    }
  }
}

}  // namespace loraine
