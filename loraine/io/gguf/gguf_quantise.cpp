// Blocks of 32 values. Signs, roundings and the order of operations are ggml's, since bytes are compared.
#include "loraine/io/gguf/gguf_quantise.h"

#include <algorithm>
#include <cfloat>
#include <cmath>
#include <cstring>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr int64_t kBlock32 = 32;

float inverse(float d) { return d != 0 ? 1.0f / d : 0.0f; }

// d = max |x| / 127; codes by the unrounded d, half away from zero.
void block_q8_0(unsigned char* out, const float* x) {
  float most = 0;
  for (int64_t i = 0; i < kBlock32; ++i) most = std::max(most, std::fabs(x[i]));
  const float d = most / 127.0f, scale = inverse(d);
  put_half(out, d);
  for (int64_t i = 0; i < kBlock32; ++i) {
    const float scaled = x[i] * scale;
    out[2 + i] = static_cast<unsigned char>(static_cast<int8_t>(std::round(scaled)));
  }
}

// Symmetric: the value of largest magnitude becomes −2^(bits − 1).
void block_symmetric(unsigned char* out, const float* x, int bits) {
  float most = 0, value = 0;
  for (int64_t i = 0; i < kBlock32; ++i)
    if (most < std::fabs(x[i])) most = std::fabs(x[i]), value = x[i];
  const int half = 1 << (bits - 1), last = 2 * half - 1;
  const float d = value / static_cast<float>(-half), scale = inverse(d);
  put_half(out, d);
  unsigned char q[kBlock32];
  for (int64_t i = 0; i < kBlock32; ++i) {
    const float scaled = x[i] * scale;
    q[i] = static_cast<unsigned char>(std::min<int>(last, static_cast<int8_t>(scaled + (static_cast<float>(half) + 0.5f))));
  }
  put_codes_of_32(out + (bits == 5 ? 6 : 2), bits == 5 ? out + 2 : nullptr, q);
}

// From the smallest value up in equal steps.
void block_from_least(unsigned char* out, const float* x, int bits) {
  float least = FLT_MAX, most = -FLT_MAX;
  for (int64_t i = 0; i < kBlock32; ++i) {
    if (x[i] < least) least = x[i];
    if (x[i] > most) most = x[i];
  }
  const int last = (1 << bits) - 1;
  const float d = (most - least) / static_cast<float>(last), scale = inverse(d);
  put_half(out, d);
  put_half(out + 2, least);
  unsigned char q[kBlock32];
  for (int64_t i = 0; i < kBlock32; ++i) {
    const float scaled = (x[i] - least) * scale;
    const float rounded = scaled + 0.5f;
    q[i] = bits == 4 ? static_cast<unsigned char>(std::min<int>(last, static_cast<int8_t>(rounded))) : static_cast<unsigned char>(rounded);
  }
  put_codes_of_32(out + (bits == 5 ? 8 : 4), bits == 5 ? out + 4 : nullptr, q);
}

}  // namespace

void put_half(unsigned char* at, float value) {
  const f16 half = f32_to_f16(value);
  std::memcpy(at, &half, sizeof half);
}

void put_codes_of_32(unsigned char* codes, unsigned char* fifths, const unsigned char* q) {
  uint32_t word = 0;
  for (int64_t i = 0; i < kBlock32 / 2; ++i) {
    codes[i] = static_cast<unsigned char>((q[i] & 15) | (q[i + 16] & 15) << 4);
    word |= static_cast<uint32_t>(q[i] >> 4 & 1) << i;
    word |= static_cast<uint32_t>(q[i + 16] >> 4 & 1) << (i + 16);
  }
  if (fifths) std::memcpy(fifths, &word, sizeof word);
}

bool can_quantise(Dtype dtype) { return dtype >= Dtype::Q4_0 && dtype <= Dtype::Q6_K; }

void quantise(void* blocks, Dtype dtype, const float* values, int64_t n, const float* importance) {
  if (!can_quantise(dtype)) throw Error(ErrorKind::internal, std::string("quantising to ") + name_of(dtype));
  const auto [elements, bytes] = block_of(dtype);
  if (n % elements != 0) throw Error(ErrorKind::internal, "a row that is no multiple of its blocks");
  if (importance && dtype != Dtype::Q8_0) return quantise_weighted(blocks, dtype, values, n, importance);
  if (elements != kBlock32) return quantise_k(blocks, dtype, values, n);
  auto* out = static_cast<unsigned char*>(blocks);
  for (int64_t at = 0; at < n; at += kBlock32, out += bytes) {
    switch (dtype) {
      case Dtype::Q8_0: block_q8_0(out, values + at); break;
      case Dtype::Q4_0: block_symmetric(out, values + at, 4); break;
      case Dtype::Q5_0: block_symmetric(out, values + at, 5); break;
      case Dtype::Q4_1: block_from_least(out, values + at, 4); break;
      default: block_from_least(out, values + at, 5); break;
    }
  }
}

}  // namespace loraine
