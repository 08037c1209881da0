// Element by element.
#include "loraine/core/grouped_codes.h"

#include "loraine/core/error.h"
#include "loraine/core/packed_runs.h"
#include "loraine/core/tensor.h"

namespace loraine {

float code_value(Dtype dtype, const uint8_t* codes, int64_t element) {
  switch (dtype) {
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

void dequantise_groups(float* out, const Tensor& view) {
  const GroupedCodes& g = *view.quant->groups;
  const auto [elements, bytes] = block_of(view.dtype);
  const auto *codes = static_cast<const uint8_t*>(view.data), *first = static_cast<const uint8_t*>(view.quant->codes);
  const int64_t start = (codes - first) / bytes * elements, cols = view.quant->cols;
  for (int64_t i = 0; i < view.numel(); ++i) {
    const int64_t group = g.group_of((start + i) / cols, (start + i) % cols);
    out[i] = (code_value(view.dtype, codes, i) - g.zero_of(group)) * g.scale(group);
  }
}

}  // namespace loraine
