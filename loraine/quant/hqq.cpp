// The solver goes over the whole matrix once a step, group by group, since it ends where the mean error of all groups grows.
#include "loraine/quant/hqq.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/grouped_codes.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/kernels/rows/half_quadratic.h"

namespace loraine {
namespace {

constexpr float kBeta = 10, kPower = 0.7f, kLargestScale = 2e4f, kLeastRange = 1e-4f;
constexpr int kSteps = 20;
constexpr int64_t kTogether = 16;  // groups that a thread takes at a time, a cache line wide along axis 0

// The groups of a matrix, each copied out as a row of `size` values.
class Groups {
 public:
  Groups(const Tensor& weight, const Quantisation& how)
      : size_(how.group_size),
        count_(weight.numel() / how.group_size),
        axis_(how.axis),
        values_(static_cast<size_t>(weight.numel()) * sizeof(float)) {
    auto* all = static_cast<float*>(values_.data());
    parallel_for(weight.rows(), [&](int64_t r) { widen_row(all + r * weight.cols(), weight.row_range(r, 1)); });
  }
  int64_t count() const { return count_; }
  int64_t tiles() const { return (count_ + kTogether - 1) / kTogether; }

  // use(group, x [size]) of the groups of a tile.
  template <class Use>
  void each(int64_t tile, Use&& use) const {
    const auto* all = static_cast<const float*>(values_.data());
    const int64_t first = tile * kTogether, groups = std::min(kTogether, count_ - first);
    std::vector<float> room(axis_ == 1 ? 0 : static_cast<size_t>(groups * size_));
    if (axis_ == 0)
      for (int64_t k = 0; k < size_; ++k)
        for (int64_t g = 0; g < groups; ++g) room[static_cast<size_t>(g * size_ + k)] = all[k * count_ + first + g];
    for (int64_t g = 0; g < groups; ++g) use(first + g, axis_ == 1 ? all + (first + g) * size_ : room.data() + g * size_);
  }
  // Element k of a group, in the flattened matrix.
  int64_t element(int64_t group, int64_t k) const { return axis_ == 1 ? group * size_ + k : k * count_ + group; }
  int64_t size() const { return size_; }

 private:
  int64_t size_, count_, axis_;
  Buffer values_;
};

// The inverse of the scale, at which hqq takes the codes, and the zero.
struct Solved {
  std::vector<float> inverse_scales, zeros;
};

Solved solve(const Groups& groups, int64_t bits) {
  const auto count = static_cast<size_t>(groups.count());
  const float top = static_cast<float>((1 << bits) - 1);
  Solved s{std::vector<float>(count), std::vector<float>(count)};
  parallel_for(groups.tiles(), [&](int64_t tile) {
    groups.each(tile, [&](int64_t group, const float* x) {
      const auto [least, most] = std::minmax_element(x, x + groups.size());
      const float range = *most - *least;
      const float scale = std::min(std::fabs(range) <= kLeastRange ? 1.0f : 1.0f / range * top, kLargestScale);  // in this order
      const float zero = -*least * scale;
      s.inverse_scales[static_cast<size_t>(group)] = scale;
      s.zeros[static_cast<size_t>(group)] = bits == 4 ? std::nearbyint(zero) : zero;
    });
  });
  std::vector<double> errors(static_cast<size_t>(groups.tiles()));
  for (double best = std::numeric_limits<double>::infinity(), step = 0; step < kSteps; ++step) {
    parallel_for(groups.tiles(), [&](int64_t tile) {
      double sum = 0;
      groups.each(tile, [&](int64_t group, const float* x) {
        float& zero = s.zeros[static_cast<size_t>(group)];
        sum += half_quadratic_step(zero, {x, groups.size(), s.inverse_scales[static_cast<size_t>(group)], zero, top}, kBeta, kPower);
      });
      errors[static_cast<size_t>(tile)] = sum;
    });
    double error = 0;
    for (const double sum : errors) error += sum;
    if (!(error < best)) break;
    best = error;
  }
  return s;
}

void check_fits(const Tensor& weight, const Quantisation& how) {
  if (weight.numel() % how.group_size != 0)
    throw Error(ErrorKind::unsupported,
                fmt::format("a weight of shape {} is no whole number of groups of {}", weight.shape_text(), how.group_size),
                "set another hqq_group_size");
  if (weight.cols() % block_of(how.type).elements != 0)
    throw Error(ErrorKind::unsupported,
                fmt::format("a weight of shape {} has rows that are no whole bytes in {} bits", weight.shape_text(), hqq_bits(how.type)));
}

}  // namespace

int64_t hqq_bits(Dtype type) {
  for (const int64_t bits : {1, 2, 3, 4, 8})
    if (codes_of_bits(bits) == type) return bits;
  throw Error(ErrorKind::internal, fmt::format("{} are no codes of HQQ", name_of(type)));
}

QuantisedWeight quantise_as_hqq(const Tensor& weight, const Quantisation& how, Dtype values) {
  check_fits(weight, how);
  const int64_t bits = hqq_bits(how.type), rows = weight.rows(), cols = weight.cols(), numel = weight.numel();
  const auto aligned = [](size_t at) { return (at + 63) / 64 * 64; };
  const Groups groups(weight, how);
  const size_t tables = aligned(static_cast<size_t>(groups.count()) * size_of(how.scales));
  const size_t scales_at = aligned(static_cast<size_t>(bytes_of(how.type, numel))), zeros_at = scales_at + tables,
               state_at = zeros_at + tables;
  QuantisedWeight out{{}, Buffer(state_at + sizeof(GroupedCodes)), std::make_unique<QuantState>()};
  auto* bytes = static_cast<uint8_t*>(out.memory.data());

  const Solved solved = solve(groups, bits);
  std::vector<uint8_t> codes(static_cast<size_t>(numel));
  std::vector<float> scales(solved.inverse_scales.size());
  std::ranges::transform(solved.inverse_scales, scales.begin(), [](float inverse) { return 1.0f / inverse; });
  parallel_for(groups.tiles(), [&](int64_t tile) {
    std::vector<uint8_t> own(static_cast<size_t>(groups.size()));
    groups.each(tile, [&](int64_t group, const float* x) {
      const auto at = static_cast<size_t>(group);
      group_codes(own.data(), {x, groups.size(), solved.inverse_scales[at], solved.zeros[at], static_cast<float>((1 << bits) - 1)});
      for (int64_t k = 0; k < groups.size(); ++k) codes[static_cast<size_t>(groups.element(group, k))] = own[static_cast<size_t>(k)];
    });
  });
  parallel_for(rows, [&](int64_t r) { pack_codes(bytes + bytes_of(how.type, r * cols), codes.data() + r * cols, cols, bits); });
  convert(bytes + scales_at, how.scales, scales.data(), Dtype::F32, groups.count());
  convert(bytes + zeros_at, how.scales, solved.zeros.data(), Dtype::F32, groups.count());

  auto* g = new (bytes + state_at) GroupedCodes;
  const bool within_rows = how.axis == 1 && cols % how.group_size == 0;
  g->flat = !within_rows;
  g->group_cols = how.axis == 1 ? how.group_size : 1;
  g->groups = within_rows ? cols / how.group_size : groups.count();
  g->period = how.axis == 1 ? 0 : groups.count();
  g->scale_type = how.scales == Dtype::F32 ? ScaleType::f32 : how.scales == Dtype::BF16 ? ScaleType::bf16 : ScaleType::f16;
  g->scales = bytes + scales_at;
  g->broken_zeros = bytes + zeros_at;
  out.state->codes = bytes;
  out.state->cols = cols;
  out.state->values = values;
  out.state->groups = g;
  out.weight = Tensor(bytes, how.type, {rows, cols});
  out.weight.quant = out.state.get();
  return out;
}

}  // namespace loraine
