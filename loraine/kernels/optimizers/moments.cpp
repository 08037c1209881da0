// Running means in 8 bits. Facts: bitsandbytes 0.50 (backends/default/ops.py, quantize_blockwise), restated.
#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>

#include "loraine/core/quant_state.h"
#include "loraine/kernels/optimizers/update.h"

namespace loraine {
namespace {

constexpr float kLeastScale = 1e-38f;  // what a block of zeros is divided by

// The middles between neighbours of a map.
const std::array<float, 255>& bounds_of(bool with_sign) {
  const auto make = [](const float* map) {
    std::array<float, 255> bounds{};
    for (size_t i = 0; i < 255; ++i) bounds[i] = (map[i] + map[i + 1]) / 2;
    return bounds;
  };
  static const std::array<float, 255> with = make(dynamic_map(true)), without = make(dynamic_map(false));
  return with_sign ? with : without;
}

// How many bounds lie below x: eight halvings of 256 places.
uint8_t place(const std::array<float, 255>& bounds, float x) {
  size_t at = 0;
  for (size_t half = 128; half > 0; half /= 2) at += bounds[at + half - 1] < x ? half : 0;
  return static_cast<uint8_t>(at);
}

}  // namespace

void read_moment(float* out, const Moment& moment, int64_t first, int64_t n) {
  if (moment.values.dtype == Dtype::F32) {
    std::memcpy(out, moment.values.f32() + first, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  const uint8_t* codes = static_cast<const uint8_t*>(moment.values.data) + first;
  const float* map = dynamic_map(moment.with_sign);
  const float scale = moment.scales.f32()[first / kMomentBlock];
  for (int64_t i = 0; i < n; ++i) out[i] = map[codes[i]] * scale;
}

void write_moment(const Moment& moment, const float* in, int64_t first, int64_t n) {
  if (moment.values.dtype == Dtype::F32) {
    std::memcpy(moment.values.f32() + first, in, static_cast<size_t>(n) * sizeof(float));
    return;
  }
  uint8_t* codes = static_cast<uint8_t*>(moment.values.data) + first;
  float largest = 0, not_finite = 0;  // a value that is not a finite number makes the scale NaN, which a check of the states finds
  for (int64_t i = 0; i < n; ++i) {
    largest = std::max(largest, std::fabs(in[i]));
    not_finite += in[i] * 0.0f;
  }
  moment.scales.f32()[first / kMomentBlock] = largest + not_finite;
  const float inverse = 1.0f / std::max(largest, kLeastScale);
  const std::array<float, 255>& bounds = bounds_of(moment.with_sign);
  for (int64_t i = 0; i < n; ++i) codes[i] = place(bounds, std::clamp(in[i] * inverse, -1.0f, 1.0f));
}

}  // namespace loraine
