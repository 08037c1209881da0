// Element by element.
#include "loraine/core/grouped_codes.h"

#include "loraine/core/error.h"
#include "loraine/core/packed_runs.h"
#include "loraine/core/tensor.h"

namespace loraine {

Dtype codes_of_bits(int64_t bits) {
  switch (bits) {
    case 1: return Dtype::U1_GROUPS;
    case 2: return Dtype::U2_GROUPS;
    case 3: return Dtype::U3_GROUPS;
    case 4: return Dtype::U4_GROUPS;
    case 5:
    case 6:
    case 8: return Dtype::U8_GROUPS;
    default: throw Error(ErrorKind::internal, "codes have 1, 2, 3, 4, 5, 6 or 8 bits");
  }
}

float code_value(Dtype dtype, const uint8_t* codes, int64_t element) {
  switch (dtype) {
    case Dtype::U1_GROUPS: return static_cast<float>(codes[element / 8] >> (element % 8) & 1);
    case Dtype::U2_GROUPS: return static_cast<float>(codes[element / 4] >> (2 * (element % 4)) & 3);
    case Dtype::U3_GROUPS: {  // eight in three bytes
      const uint8_t* eight = codes + element / 8 * 3;
      const uint32_t bits = static_cast<uint32_t>(eight[0] | eight[1] << 8 | eight[2] << 16);
      return static_cast<float>(bits >> (3 * (element % 8)) & 7);
    }
    case Dtype::U4_GROUPS: return static_cast<float>(codes[element / 2] >> (4 * (element % 2)) & 15);
    case Dtype::U8_GROUPS: return static_cast<float>(codes[element]);
    case Dtype::I8_GROUPS: return static_cast<float>(static_cast<int8_t>(codes[element]));
    case Dtype::F8_GROUPS: return e4m3_to_f32(codes[element]);
    case Dtype::F4_GROUPS: return 0.5f * static_cast<float>(packed::kMxfp4Values[codes[element / 2] >> (4 * (element % 2)) & 15]);
    default: throw Error(ErrorKind::internal, std::string(name_of(dtype)) + " has no codes in groups");
  }
}

void pack_codes(uint8_t* to, const uint8_t* codes, int64_t n, int64_t bits) {
  uint32_t word = 0;
  int64_t held = 0;
  for (int64_t i = 0; i < n; ++i) {
    word |= static_cast<uint32_t>(codes[i]) << held;
    for (held += bits; held >= 8; held -= 8, word >>= 8) *to++ = static_cast<uint8_t>(word);
  }
}

void dequantise_groups(float* out, const Tensor& view) {
  const GroupedCodes& g = *view.quant->groups;
  const auto [elements, bytes] = block_of(view.dtype);
  const auto *codes = static_cast<const uint8_t*>(view.data), *first = static_cast<const uint8_t*>(view.quant->codes);
  const int64_t start = (codes - first) / bytes * elements, cols = view.quant->cols;
  for (int64_t i = 0; i < view.numel(); ++i) {
    const int64_t group = g.flat ? flat_group(g, start + i) : g.group_of((start + i) / cols, (start + i) % cols);
    out[i] = (code_value(view.dtype, codes, i) - g.zero_of(group)) * g.scale(group);
  }
}

}  // namespace loraine
