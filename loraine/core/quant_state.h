// The side tables of codes whose scales lie apart: what the codes of an NF4, FP4, INT8 or MXFP4_CODES tensor, or of one in groups or of
// vectors, mean. Held by whoever owns the codes (quant/bitsandbytes, io/quantised); a Tensor points to it, and so does every view of its
// rows and columns.
#pragma once
#include <bit>
#include <cstdint>

#include "loraine/core/dtype.h"

namespace loraine {

struct GroupedCodes;
struct Tensor;
struct VectorCodes;

struct QuantState {
  const void* codes = nullptr;  // of element 0; a view's place among the blocks follows from its own data
  int64_t cols = 0;
  Dtype values = Dtype::F32;  // what dequantised values are rounded to: F32, F16 or BF16
  // NF4 and FP4: blocks over the flattened tensor, which may cross rows. Element i is map[code] · scale(i / blocksize).
  const float* map = nullptr;  // 16
  int64_t blocksize = 64;
  const float* absmax = nullptr;  // one per block; nullptr when those are quantised too ("nested"):
  const uint8_t* absmax_codes = nullptr;
  const float* nested_map = nullptr;  // 256
  const float* nested_absmax = nullptr;
  int64_t nested_blocksize = 256;
  float offset = 0;
  // INT8: element (r, c) is code · (row_absmax[r] / 127).
  const float* row_absmax = nullptr;
  // MXFP4_CODES: blocks of 32, in which the low half of a byte comes first. Element i is kMxfp4Map[code] · 2^(exponents[i / 32] − 127).
  const uint8_t* exponents = nullptr;
  // U1_GROUPS and all after it.
  const GroupedCodes* groups = nullptr;
  // V1X16 and V2X8.
  const VectorCodes* vectors = nullptr;

  float scale(int64_t block) const {
    if (absmax) return absmax[block];
    return nested_map[absmax_codes[block]] * nested_absmax[block / nested_blocksize] + offset;  // rounded twice: see CMakeLists.txt
  }
  float power(int64_t block) const {
    const uint32_t exponent = exponents[block];
    return std::bit_cast<float>(exponent == 0 ? 0x00400000u : exponent << 23);  // 255: infinity
  }
  float row_scale(int64_t row) const { return row_absmax[row] * (1.0f / 127.0f); }
  float rounded(float x) const {
    return values == Dtype::F32 ? x : values == Dtype::BF16 ? bf16_to_f32(f32_to_bf16(x)) : f16_to_f32(f32_to_f16(x));
  }
};

extern const float kNf4Map[16], kFp4Map[16];      // bitsandbytes' code books
extern const float kMxfp4Map[16];                 // E2M1 of the OCP's microscaling formats
const float* dynamic_map(bool with_sign = true);  // its 8-bit map of scales and of optimizer states, 256 values in ascending order

// out[r] = row_scale of row r of a view of INT8.
void row_scales(float* out, const Tensor& view);
// Elements [0, numel) of a contiguous view of one of these types as f32. The reference for the kernels.
void dequantise(float* out, const Tensor& view);

}  // namespace loraine
