// The searches of autoawq's quantizer, over sums of products of inputs in the place of the inputs themselves.
#include "loraine/quant/awq.h"

#include <algorithm>
#include <cmath>

#include "loraine/core/parallel.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

constexpr int kRatios = 20, kCuts = 10;
constexpr float kSmallestRange = 1e-5f;

struct AffineScale {
  float scale = 0, zero = 0;
};

AffineScale affine_scale(const float* values, int64_t count, const GroupScheme& scheme) {
  float least = values[0], most = values[0];
  for (int64_t i = 1; i < count; ++i) {
    least = std::min(least, values[i]);
    most = std::max(most, values[i]);
  }
  const auto last = static_cast<float>((int64_t{1} << scheme.bits) - 1);
  AffineScale found{std::max(most - least, kSmallestRange) / last, 0};
  if (scheme.f16_scales) found.scale = std::max(f16_to_f32(f32_to_f16(found.scale)), 0x1p-14f);
  found.zero = std::clamp(-std::nearbyint(least / found.scale), 0.0f, last);
  return found;
}

float affine_code(float value, AffineScale s, const GroupScheme& scheme) {
  return std::clamp(std::nearbyint(value / s.scale) + s.zero, 0.0f, static_cast<float>((int64_t{1} << scheme.bits) - 1));
}

// Of each column: the mean over all rows of |w| by the largest |w| of its group.
std::vector<float> weight_sizes(const std::vector<Tensor>& weights, const GroupScheme& scheme) {
  const int64_t in = weights.front().cols();
  std::vector<double> sums(static_cast<size_t>(in), 0);
  int64_t rows = 0;
  for (const Tensor& w : weights) {
    rows += w.rows();
    for (int64_t row = 0; row < w.rows(); ++row)
      for (int64_t first = 0; first < in; first += scheme.group_size) {
        const float* at = w.f32() + row * in + first;
        const int64_t count = std::min(scheme.group_size, in - first);
        float most = 0;
        for (int64_t i = 0; i < count; ++i) most = std::max(most, std::abs(at[i]));
        for (int64_t i = 0; i < count; ++i) sums[static_cast<size_t>(first + i)] += static_cast<double>(std::abs(at[i]) / (most + 1e-6f));
      }
  }
  std::vector<float> sizes(sums.size());
  for (size_t i = 0; i < sums.size(); ++i) sizes[i] = static_cast<float>(sums[i] / static_cast<double>(rows));
  return sizes;
}

std::vector<float> scales_at(double ratio, const std::vector<float>& inputs, const std::vector<float>& weights) {
  std::vector<float> scales(inputs.size());
  float most = 0, least = INFINITY;
  for (size_t i = 0; i < scales.size(); ++i) {
    const double s = std::pow(static_cast<double>(inputs[i]), ratio) / (std::pow(static_cast<double>(weights[i]), 1 - ratio) + 1e-4);
    scales[i] = std::max(1e-4f, static_cast<float>(s));
    most = std::max(most, scales[i]);
    least = std::min(least, scales[i]);
  }
  const float middle = std::sqrt(most * least);
  for (float& s : scales) {
    s /= middle;
    if (!std::isfinite(s)) s = 1;
  }
  return scales;
}

}  // namespace

GroupCodes round_with_zeros(const Tensor& weight, const GroupScheme& scheme) {
  const int64_t in = weight.cols(), groups = scheme.groups(in);
  GroupCodes made{std::vector<uint8_t>(static_cast<size_t>(weight.numel())),
                  std::vector<float>(static_cast<size_t>(weight.rows() * groups)),
                  std::vector<uint8_t>(static_cast<size_t>(weight.rows() * groups))};
  parallel_for(
      weight.rows(),
      [&](int64_t row) {
        for (int64_t group = 0; group < groups; ++group) {
          const int64_t first = group * scheme.group_size, count = std::min(scheme.group_size, in - first);
          float* at = weight.f32() + row * in + first;
          const AffineScale s = affine_scale(at, count, scheme);
          made.scales[static_cast<size_t>(row * groups + group)] = s.scale;
          made.zeros[static_cast<size_t>(row * groups + group)] = static_cast<uint8_t>(s.zero);
          for (int64_t i = 0; i < count; ++i) {
            const float code = affine_code(at[i], s, scheme);
            made.codes[static_cast<size_t>(row * in + first + i)] = static_cast<uint8_t>(code);
            at[i] = (code - s.zero) * s.scale;
          }
        }
      },
      16);
  return made;
}

std::vector<float> awq_scales(Context& ctx, const std::vector<Tensor>& weights, const Tensor& hessian, const std::vector<float>& sizes,
                              const GroupScheme& scheme) {
  const std::vector<float> of_weights = weight_sizes(weights, scheme);
  std::vector<float> best;
  double smallest = INFINITY;
  for (int ratio = 0; ratio < kRatios; ++ratio) {
    const std::vector<float> scales = scales_at(static_cast<double>(ratio) / kRatios, sizes, of_weights);
    double error = 0;
    for (const Tensor& w : weights) {
      const Buffer memory(w.bytes());
      const Tensor rounded(memory.data(), Dtype::F32, {w.rows(), w.cols()});
      const auto each = [&](const Tensor& to, const Tensor& from, bool up) {
        parallel_for(
            w.rows(),
            [&](int64_t row) {
              for (int64_t i = 0; i < w.cols(); ++i) {
                const float s = scales[static_cast<size_t>(i)], value = from.f32()[row * w.cols() + i];
                to.f32()[row * w.cols() + i] = up ? value * s : value / s;
              }
            },
            16);
      };
      each(rounded, w, true);
      round_with_zeros(rounded, scheme);
      each(rounded, rounded, false);
      error += product_error(ctx, rounded, w, hessian);
    }
    if (!(error < smallest)) continue;
    smallest = error;
    best = scales;
  }
  if (best.empty()) best.assign(sizes.size(), 1);  // nothing here is a finite number: reported with the logits
  return best;
}

void awq_clip(const Tensor& weight, const Tensor& hessian, const GroupScheme& scheme) {
  const int64_t in = weight.cols();
  const auto clip_group = [&](float* at, int64_t first, int64_t count) {
    std::vector<float> cut(static_cast<size_t>(count)), apart(cut.size());
    float largest = 0, best = 0;
    for (int64_t i = 0; i < count; ++i) largest = std::max(largest, std::abs(at[i]));
    double smallest = INFINITY;
    for (int step = 0; step < kCuts; ++step) {
      const float most = largest * (1 - static_cast<float>(step) / 20);
      for (int64_t i = 0; i < count; ++i) cut[static_cast<size_t>(i)] = std::clamp(at[i], -most, most);
      const AffineScale s = affine_scale(cut.data(), count, scheme);
      for (int64_t i = 0; i < count; ++i)
        apart[static_cast<size_t>(i)] = (affine_code(cut[static_cast<size_t>(i)], s, scheme) - s.zero) * s.scale - at[i];
      double error = 0;
      for (int64_t i = 0; i < count; ++i) {
        const float* h = hessian.f32() + (first + i) * in + first;
        float sum = 0;
        for (int64_t j = 0; j < count; ++j) sum += apart[static_cast<size_t>(j)] * h[j];
        error += static_cast<double>(apart[static_cast<size_t>(i)]) * static_cast<double>(sum);
      }
      if (!(error < smallest)) continue;
      smallest = error;
      best = most;
    }
    if (best > 0)
      for (int64_t i = 0; i < count; ++i) at[i] = std::clamp(at[i], -best, best);
  };
  parallel_for(weight.rows(), [&](int64_t row) {
    for (int64_t first = 0; first < in; first += scheme.group_size)
      clip_group(weight.f32() + row * in + first, first, std::min(scheme.group_size, in - first));
  });
}

}  // namespace loraine
