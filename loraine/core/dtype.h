// Element types of tensors and conversions of the 16-bit ones; used by every module.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace loraine {

enum class Dtype : uint8_t { F32, F16, BF16, F64, I64, I32, I16, I8, U8, Bool };

constexpr size_t size_of(Dtype dtype) {  // bytes of one element
  constexpr uint8_t kSizes[] = {4, 2, 2, 8, 8, 4, 2, 1, 1, 1};
  return kSizes[static_cast<int>(dtype)];
}
const char* name_of(Dtype dtype);  // "F32", … : the safetensors spelling

using bf16 = uint16_t;  // storage only; arithmetic is in f32
using f16 = uint16_t;

inline float bf16_to_f32(bf16 x) { return std::bit_cast<float>(static_cast<uint32_t>(x) << 16); }
inline bf16 f32_to_bf16(float x) {  // round to nearest even, NaN kept quiet
  uint32_t u = std::bit_cast<uint32_t>(x);
  if ((u & 0x7fffffffu) > 0x7f800000u) return static_cast<bf16>((u >> 16) | 0x40u);
  return static_cast<bf16>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16);
}
float f16_to_f32(f16 x);
f16 f32_to_f16(float x);  // round to nearest even

// n elements, any of F32, F16, BF16, F64 to any of F32, F16, BF16. Throws Error::unsupported on other types.
void convert(void* out, Dtype out_dtype, const void* in, Dtype in_dtype, int64_t n);

}  // namespace loraine
