// Code by code.
#include "loraine/core/vector_codes.h"

#include "loraine/core/quant_state.h"
#include "loraine/core/tensor.h"

namespace loraine {

void dequantise_vectors(float* out, const Tensor& view) {
  const VectorCodes& v = *view.quant->vectors;
  const auto *codes = static_cast<const uint8_t*>(view.data), *first = static_cast<const uint8_t*>(view.quant->codes);
  const int64_t start = (codes - first) / 2 * kVector;
  for (int64_t i = 0; i < view.numel(); i += kVector, codes += 2) {
    const float scale = v.scale((start + i) / view.quant->cols);
    for (int64_t j = 0; j < kVector; ++j) {
      const float sum = view.dtype == Dtype::V1X16 ? v.book((codes[0] | codes[1] << 8) * kVector + j)
                                                   : v.book(codes[0] * kVector + j) + v.book((256 + codes[1]) * kVector + j);
      out[i + j] = sum * scale;
    }
  }
}

}  // namespace loraine
