// The walk over columns: groups are blocks too, so a scale is taken of columns that have all earlier errors on them.
#include "loraine/quant/gptq.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

constexpr float kSmallestF16 = 0x1p-14f;  // normal

float code_of(float value, float scale, const GroupScheme& scheme) {
  const float zero = static_cast<float>(int64_t{1} << (scheme.bits - 1)), most = static_cast<float>((int64_t{1} << scheme.bits) - 1);
  return std::clamp(std::nearbyint(value / scale) + zero, 0.0f, most);  // halves to even
}

GroupCodes room_for_codes(const Tensor& weight, const GroupScheme& scheme) {
  const auto groups = static_cast<size_t>(weight.rows() * scheme.groups(weight.cols()));
  return {std::vector<uint8_t>(static_cast<size_t>(weight.numel())), std::vector<float>(groups),
          std::vector<uint8_t>(groups, static_cast<uint8_t>(1 << (scheme.bits - 1)))};
}

}  // namespace

float symmetric_scale(const float* values, int64_t count, const GroupScheme& scheme) {
  float most = 0;
  for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(values[i]));
  if (most == 0) most = 1;
  float scale = (most + most) / static_cast<float>((int64_t{1} << scheme.bits) - 1);
  if (!scheme.f16_scales) return scale;
  scale = f16_to_f32(f32_to_f16(scale));
  if (!std::isfinite(scale))
    throw Error(ErrorKind::numeric, fmt::format("a weight of {:.4g} is too large for scales in float16", most), "is the model finite?");
  return std::max(scale, kSmallestF16);
}

GroupCodes gptq_quantise(Context& ctx, const Tensor& weight, const InverseFactor& factor, const GroupScheme& scheme) {
  const int64_t out = weight.rows(), in = weight.cols(), groups = scheme.groups(in);
  GroupCodes made = room_for_codes(weight, scheme);
  const Buffer ordered_memory(weight.bytes()), error_memory(static_cast<size_t>(out * std::min(in, scheme.group_size)) * sizeof(float));
  const Tensor w(ordered_memory.data(), Dtype::F32, {out, in});
  parallel_for(
      out,
      [&](int64_t row) {
        for (int64_t i = 0; i < in; ++i) {
          const int64_t column = factor.order[static_cast<size_t>(i)];
          w.f32()[row * in + i] = factor.dead[static_cast<size_t>(column)] ? 0 : weight.f32()[row * in + column];
        }
      },
      16);
  const float zero = static_cast<float>(int64_t{1} << (scheme.bits - 1));
  for (int64_t first = 0; first < in; first += scheme.group_size) {
    const int64_t count = std::min(scheme.group_size, in - first), rest = in - first - count;
    const int64_t group = factor.order[static_cast<size_t>(first)] / scheme.group_size;
    const Tensor errors(error_memory.data(), Dtype::F32, {out, count});
    parallel_for(
        out,
        [&](int64_t row) {
          float* at = w.f32() + row * in + first;
          const float scale = symmetric_scale(at, count, scheme);
          made.scales[static_cast<size_t>(row * groups + group)] = scale;
          for (int64_t i = 0; i < count; ++i) {
            const float* u = factor.upper.f32() + (first + i) * in + first;
            const int64_t column = factor.order[static_cast<size_t>(first + i)];
            const float code = code_of(at[i], scale, scheme), value = (code - zero) * scale, error = (at[i] - value) / u[i];
            made.codes[static_cast<size_t>(row * in + column)] = static_cast<uint8_t>(code);
            weight.f32()[row * in + column] = value;
            errors.f32()[row * count + i] = error;
            for (int64_t j = i + 1; j < count; ++j) at[j] -= error * u[j];
          }
        },
        4);
    if (rest > 0)
      matmul_nn(ctx, w.col_range(first + count, rest), errors, factor.upper.row_range(first, count).col_range(first + count, rest), -1, 1);
  }
  return made;
}

GroupCodes round_to_nearest(const Tensor& weight, const GroupScheme& scheme) {
  const int64_t in = weight.cols(), groups = scheme.groups(in);
  GroupCodes made = room_for_codes(weight, scheme);
  const float zero = static_cast<float>(int64_t{1} << (scheme.bits - 1));
  parallel_for(
      weight.rows(),
      [&](int64_t row) {
        for (int64_t group = 0; group < groups; ++group) {
          const int64_t first = group * scheme.group_size, count = std::min(scheme.group_size, in - first);
          float* at = weight.f32() + row * in + first;
          const float scale = made.scales[static_cast<size_t>(row * groups + group)] = symmetric_scale(at, count, scheme);
          for (int64_t i = 0; i < count; ++i) {
            const float code = code_of(at[i], scale, scheme);
            made.codes[static_cast<size_t>(row * in + first + i)] = static_cast<uint8_t>(code);
            at[i] = (code - zero) * scale;
          }
        }
      },
      16);
  return made;
}

double product_error(Context& ctx, const Tensor& a, const Tensor& b, const Tensor& hessian) {
  const int64_t out = a.rows(), in = a.cols();
  const Buffer apart_memory(a.bytes()), product_memory(a.bytes());
  const Tensor apart(apart_memory.data(), Dtype::F32, {out, in}), product(product_memory.data(), Dtype::F32, {out, in});
  for (int64_t i = 0; i < a.numel(); ++i) apart.f32()[i] = a.f32()[i] - b.f32()[i];
  matmul_nn(ctx, product, apart, hessian);
  double sum = 0;
  for (int64_t i = 0; i < a.numel(); ++i) sum += static_cast<double>(apart.f32()[i]) * static_cast<double>(product.f32()[i]);
  return sum;
}

}  // namespace loraine
