// Code books and their way back to f32. Facts: bitsandbytes/functional.py (get_4bit_type, create_dynamic_map), OCP Microscaling Formats 1.0
// (E2M1, E8M0), restated.
#include "loraine/core/quant_state.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "loraine/core/error.h"
#include "loraine/core/grouped_codes.h"
#include "loraine/core/tensor.h"
#include "loraine/core/vector_codes.h"

namespace loraine {

const float kNf4Map[16] = {-1.0f,
                           -0.6961928009986877f,
                           -0.5250730514526367f,
                           -0.39491748809814453f,
                           -0.28444138169288635f,
                           -0.18477343022823334f,
                           -0.09105003625154495f,
                           0.0f,
                           0.07958029955625534f,
                           0.16093020141124725f,
                           0.24611230194568634f,
                           0.33791524171829224f,
                           0.44070982933044434f,
                           0.5626170039176941f,
                           0.7229568362236023f,
                           1.0f};
const float kFp4Map[16] = {0.0f,  0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
                           -0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f};
const float kMxfp4Map[16] = {0, 0.5f, 1, 1.5f, 2, 3, 4, 6, -0.0f, -0.5f, -1, -1.5f, -2, -3, -4, -6};

namespace {

// For i = 0 … 6 the means of the neighbours among 2^i + 1 even steps from 0.1 to 1 (without signs among 2^(i+1) + 1), times 10^(i - 6), of
// both signs; and 0 and 1.
std::array<float, 256> make_dynamic_map(bool with_sign) {
  std::array<float, 256> values{};
  size_t n = 0;
  for (int i = 0; i < 7; ++i) {
    const int steps = with_sign ? 1 << i : 2 << i;
    // torch.linspace(0.1, 1, steps + 1) in f32: from both ends, each product and sum rounded once
    const float step = (1.0f - 0.1f) / static_cast<float>(steps);
    const auto boundary = [&](int j) {
      return j < (steps + 1) / 2 ? std::fma(step, static_cast<float>(j), 0.1f) : std::fma(-step, static_cast<float>(steps - j), 1.0f);
    };
    const float power = static_cast<float>(std::pow(10.0, i - 6));
    for (int j = 0; j < steps; ++j) {
      const float value = power * ((boundary(j) + boundary(j + 1)) / 2.0f);
      values[n++] = value;
      if (with_sign) values[n++] = -value;
    }
  }
  values[n++] = 0.0f;
  values[n++] = 1.0f;
  std::sort(values.begin(), values.end());
  return values;
}

}  // namespace

const float* dynamic_map(bool with_sign) {
  static const std::array<float, 256> with = make_dynamic_map(true), without = make_dynamic_map(false);
  return with_sign ? with.data() : without.data();
}

void row_scales(float* out, const Tensor& view) {
  const QuantState& q = *view.quant;
  const int64_t first = (static_cast<const int8_t*>(view.data) - static_cast<const int8_t*>(q.codes)) / q.cols;
  for (int64_t r = 0; r < view.rows(); ++r) out[r] = q.row_scale(first + r);
}

void dequantise(float* out, const Tensor& view) {
  const QuantState* q = view.quant;
  if (!q || !has_quant_state(view.dtype) || !view.contiguous())
    throw Error(ErrorKind::internal, "dequantise: not a contiguous view of codes with scales");
  if (in_groups(view.dtype)) return dequantise_groups(out, view);
  if (of_vectors(view.dtype)) return dequantise_vectors(out, view);
  const auto *codes = static_cast<const uint8_t*>(view.data), *first = static_cast<const uint8_t*>(q->codes);
  if (view.dtype == Dtype::INT8) {
    for (int64_t i = 0; i < view.numel(); ++i)
      out[i] = q->rounded(static_cast<float>(static_cast<int8_t>(codes[i])) * q->row_scale((codes - first + i) / q->cols));
    return;
  }
  const int64_t start = 2 * (codes - first);
  if (view.dtype == Dtype::MXFP4_CODES) {
    for (int64_t i = 0; i < view.numel(); ++i) {
      const uint8_t pair = codes[i / 2];
      out[i] = kMxfp4Map[i % 2 ? pair >> 4 : pair & 15] * q->power((start + i) / 32);
    }
    return;
  }
  for (int64_t i = 0; i < view.numel(); ++i) {
    const uint8_t pair = codes[i / 2];
    out[i] = q->rounded(q->map[i % 2 ? pair & 15 : pair >> 4] * q->scale((start + i) / q->blocksize));
  }
}

}  // namespace loraine
