// Codes with a scale, and perhaps a zero, for each group of them: how GPTQ, AWQ, HQQ, compressed-tensors and FP8 hold a weight. One kind
// for all, since they differ in the order in files alone. Filled by io/quantised and quant/hqq; multiplied by
// kernels/products/grouped_rows.
#pragma once
#include <bit>
#include <cstdint>

#include "loraine/core/dtype.h"

namespace loraine {

struct Tensor;

enum class ScaleType : uint8_t { f32, f16, bf16, e4m3, e8m0 };

// E4M3 without infinities (the OCP's FP8): a sign, four bits of exponent with a bias of 7, three of mantissa; 0x7f is not a number.
inline float e4m3_to_f32(uint8_t code) {
  const uint32_t size = code & 0x7fu;
  float value = size < 8 ? static_cast<float>(size) * 0x1p-9f : std::bit_cast<float>((size << 20) + (120u << 23));
  if (size == 0x7f) value = std::bit_cast<float>(0x7fc00000u);
  return std::bit_cast<float>(std::bit_cast<uint32_t>(value) | (code & 0x80u) << 24);
}

// Element (r, c) is (code − zero) · scale, rounded to f32 once: those of group (r / group_rows, c / group_cols) or, with column_group, of
// (r / group_rows, column_group[c]). With `flat`, groups go over the flattened matrix and may cross rows: element i is in group
// i / group_cols, or, with `period`, in i % period. Rows of codes follow each other without gaps, the lowest bits of a byte first. Codes
// are whole numbers (U1_GROUPS: 0 and 1, …), E4M3 (F8_GROUPS) or E2M1 (F4_GROUPS; both zeros are 0).
struct GroupedCodes {
  int64_t group_rows = 1, group_cols = 1;
  int64_t groups = 1;                     // of a row
  const int32_t* column_group = nullptr;  // [cols]
  bool flat = false;                      // HQQ; `groups` is then not used
  int64_t period = 0;
  const void* scales = nullptr;  // [row groups, groups]
  ScaleType scale_type = ScaleType::f32;
  float divisor = 1;               // of all scales: NVFP4's global scale
  const uint8_t* zeros = nullptr;  // [row groups, groups], which `zero` is added to
  float zero = 0;
  const void* broken_zeros = nullptr;  // in their place zeros that are no whole numbers, of the scales' type: HQQ's

  float entry(const void* values, int64_t group) const {
    switch (scale_type) {
      case ScaleType::f16: return f16_to_f32(static_cast<const f16*>(values)[group]);
      case ScaleType::bf16: return bf16_to_f32(static_cast<const bf16*>(values)[group]);
      case ScaleType::e4m3: return e4m3_to_f32(static_cast<const uint8_t*>(values)[group]);
      case ScaleType::e8m0: {  // a power of two; 255 is not a number
        const uint32_t exponent = static_cast<const uint8_t*>(values)[group];
        return std::bit_cast<float>(exponent == 0 ? 0x00400000u : exponent == 255 ? 0x7fc00000u : exponent << 23);
      }
      default: return static_cast<const float*>(values)[group];
    }
  }
  float scale(int64_t group) const {
    const float value = entry(scales, group);
    return divisor == 1 ? value : value / divisor;
  }
  float zero_of(int64_t group) const {
    if (broken_zeros) return entry(broken_zeros, group);
    return zeros ? zero + static_cast<float>(zeros[group]) : zero;
  }
  int64_t group_of(int64_t row, int64_t col) const {
    return row / group_rows * groups + (column_group ? column_group[col] : col / group_cols);
  }
};

// The group of element `i` of the flattened matrix, with `flat`.
inline int64_t flat_group(const GroupedCodes& g, int64_t i) { return g.period ? i % g.period : i / g.group_cols; }

// The type of whole numbers of 1, 2, 3, 4 or 8 bits; of 5 and 6, which take a byte, that of 8.
Dtype codes_of_bits(int64_t bits);
// What code `element` of a piece of codes stands for.
float code_value(Dtype dtype, const uint8_t* codes, int64_t element);
// n codes of a byte each to 1 to 8 bits each, the lowest bits of a byte first; n · bits is a multiple of 8.
void pack_codes(uint8_t* to, const uint8_t* codes, int64_t n, int64_t bits);
// Elements [0, numel) of a contiguous view as f32. The reference for the kernels.
void dequantise_groups(float* out, const Tensor& view);

}  // namespace loraine
