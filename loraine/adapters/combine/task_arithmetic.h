// How several tensors become one: PEFT's rules of merging (peft/utils/merge_utils.py) in f32, value by value as PEFT computes them. Called
// by combine.cpp, on A and B or on whole ΔW.
#pragma once
#include <cstdint>
#include <optional>
#include <random>
#include <string>
#include <vector>

namespace loraine {

enum class MergeRule : uint8_t { sum, magnitude_prune, ties, dare_linear, dare_ties };

struct MergeOptions {
  MergeRule rule = MergeRule::sum;
  double density = 1;      // share of values that are kept; from 1 on all, without a draw
  bool by_number = false;  // ties: the sign that most have, else that of the sum
};

// Keeps the ⌊density · n⌋ values of largest magnitude, of equal ones the first; the others become 0.
void keep_largest(std::vector<float>& values, double density);
// Keeps each value with probability density, divided by it. The masks are those of torch.bernoulli from torch.manual_seed with the
// generator's seed.
void keep_at_random(std::vector<float>& values, double density, std::mt19937& random);

// One tensor of those of several adapters, of one size; weights: of each, in f32 as torch holds them. The tensors are changed.
std::vector<float> merged_tensor(std::vector<std::vector<float>>& tensors, const std::vector<float>& weights, const MergeOptions& options,
                                 std::mt19937& random);

}  // namespace loraine
