// See task_arithmetic.h.
#include "loraine/adapters/combine/task_arithmetic.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace loraine {
namespace {

int sign_of(float x) { return (x > 0) - (x < 0); }

// Of each element which sign counts: that of the sum of values, or of the sum of signs; 0 counts as positive.
std::vector<int8_t> majority_signs(const std::vector<std::vector<float>>& tensors, bool by_number) {
  std::vector<int8_t> signs(tensors.front().size());
  for (size_t i = 0; i < signs.size(); ++i) {
    float sum = 0;
    for (const std::vector<float>& tensor : tensors) sum += by_number ? static_cast<float>(sign_of(tensor[i])) : tensor[i];
    signs[i] = sum >= 0 ? 1 : -1;
  }
  return signs;
}

}  // namespace

void keep_largest(std::vector<float>& values, double density) {
  if (density >= 1) return;
  const auto kept = static_cast<size_t>(density * static_cast<double>(values.size()));
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  const auto larger = [&](size_t a, size_t b) {
    const float x = std::abs(values[a]), y = std::abs(values[b]);
    return x != y ? x > y : a < b;
  };
  if (kept < order.size()) std::nth_element(order.begin(), order.begin() + static_cast<ptrdiff_t>(kept), order.end(), larger);
  for (size_t i = kept; i < order.size(); ++i) values[order[i]] = 0;
}

void keep_at_random(std::vector<float>& values, double density, std::mt19937& random) {
  if (density >= 1) return;
  const auto share = static_cast<float>(density);
  for (float& x : values) {
    // torch's uniform number in f32: the low 24 bits of a draw
    const float draw = static_cast<float>(random() & 0xffffffu) * 0x1p-24f;
    x = draw < share ? x / share : 0.0f;
  }
}

std::vector<float> merged_tensor(std::vector<std::vector<float>>& tensors, const std::vector<float>& weights, const MergeOptions& options,
                                 std::mt19937& random) {
  const bool at_random = options.rule == MergeRule::dare_linear || options.rule == MergeRule::dare_ties;
  const bool by_size = options.rule == MergeRule::magnitude_prune || options.rule == MergeRule::ties;
  for (std::vector<float>& tensor : tensors) {
    if (at_random) keep_at_random(tensor, options.density, random);
    if (by_size) keep_largest(tensor, options.density);
  }
  std::vector<float> out(tensors.front().size());
  if (options.rule != MergeRule::ties && options.rule != MergeRule::dare_ties) {
    for (size_t i = 0; i < out.size(); ++i)
      for (size_t t = 0; t < tensors.size(); ++t) out[i] += tensors[t][i] * weights[t];
    return out;
  }
  const std::vector<int8_t> signs = majority_signs(tensors, options.by_number);
  for (size_t i = 0; i < out.size(); ++i) {
    float sum = 0;
    int count = 0;
    for (size_t t = 0; t < tensors.size(); ++t)
      if (sign_of(tensors[t][i]) == signs[i]) sum += tensors[t][i] * weights[t], ++count;
    out[i] = sum / static_cast<float>(std::max(count, 1));
  }
  return out;
}

}  // namespace loraine
