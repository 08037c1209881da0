// Element types of tensors and conversions of the 16-bit ones; used by every module.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

namespace loraine {

// From Q4_0 on: quantised weights, which stand only for whole matrices of a frozen base: ggml's blocks (core/packed.h), then codes whose
// scales lie apart (core/quant_state.h): bitsandbytes' and, as MXFP4_CODES, those of gpt-oss; codes of whole vectors (core/vector_codes.h);
// last codes with scales of groups (core/grouped_codes.h), whole numbers of 1 to 8 bits and floats of 8 and 4.
enum class Dtype : uint8_t {
  F32,
  F16,
  BF16,
  F64,
  I64,
  I32,
  I16,
  I8,
  U8,
  Bool,
  Q4_0,
  Q4_1,
  Q5_0,
  Q5_1,
  Q8_0,
  Q4_K,
  Q5_K,
  Q6_K,
  Q2_K,
  Q3_K,
  IQ1_S,
  IQ1_M,
  IQ2_XXS,
  IQ2_XS,
  IQ2_S,
  IQ3_XXS,
  IQ3_S,
  IQ4_NL,
  IQ4_XS,
  TQ1_0,
  TQ2_0,
  MXFP4,
  NF4,
  FP4,
  MXFP4_CODES,
  INT8,
  V1X16,
  V2X8,
  U1_GROUPS,
  U2_GROUPS,
  U3_GROUPS,
  U4_GROUPS,
  U8_GROUPS,
  I8_GROUPS,
  F8_GROUPS,
  F4_GROUPS
};

constexpr bool is_packed(Dtype dtype) { return dtype >= Dtype::Q4_0; }
constexpr bool has_quant_state(Dtype dtype) { return dtype >= Dtype::NF4; }
constexpr bool of_vectors(Dtype dtype) { return dtype == Dtype::V1X16 || dtype == Dtype::V2X8; }
constexpr bool in_groups(Dtype dtype) { return dtype >= Dtype::U1_GROUPS; }
[[noreturn]] void no_element_size(Dtype dtype);
constexpr size_t size_of(Dtype dtype) {  // bytes of one element; throws internal for a packed type
  constexpr uint8_t kSizes[] = {4, 2, 2, 8, 8, 4, 2, 1, 1, 1};
  if (is_packed(dtype)) no_element_size(dtype);
  return kSizes[static_cast<int>(dtype)];
}
struct BlockSize {
  int elements, bytes;
};
constexpr BlockSize block_of(Dtype dtype) {  // {1, size} for plain types
  constexpr BlockSize kBlocks[] = {{32, 18},   {32, 20},  {32, 22},  {32, 24},  {32, 34},  {256, 144}, {256, 176}, {256, 210}, {256, 84},
                                   {256, 110}, {256, 50}, {256, 56}, {256, 66}, {256, 74}, {256, 82},  {256, 98},  {256, 110}, {32, 18},
                                   {256, 136}, {256, 54}, {256, 66}, {32, 17},  {2, 1},    {2, 1},     {2, 1},     {1, 1},     {8, 2},
                                   {8, 2},     {8, 1},    {4, 1},    {8, 3},    {2, 1},    {1, 1},     {1, 1},     {1, 1},     {2, 1}};
  static_assert(sizeof(kBlocks) / sizeof(kBlocks[0]) == static_cast<size_t>(Dtype::F4_GROUPS) - static_cast<size_t>(Dtype::Q4_0) + 1);
  if (is_packed(dtype)) return kBlocks[static_cast<int>(dtype) - static_cast<int>(Dtype::Q4_0)];
  return {1, static_cast<int>(size_of(dtype))};
}
// Bytes of n elements in a row; n is a multiple of the block. (Views of single rows ask for it, so plain types do without a division.)
constexpr int64_t bytes_of(Dtype dtype, int64_t n) {
  return is_packed(dtype) ? n / block_of(dtype).elements * block_of(dtype).bytes : n * static_cast<int64_t>(size_of(dtype));
}
const char* name_of(Dtype dtype);  // "F32", … : the safetensors spelling; ggml's, bitsandbytes' and the OCP's of packed types

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
