// The scaling of rotations: from frequency factors in tensors, or from keys.
#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <numbers>

#include "loraine/io/gguf/gguf_keys.h"

namespace loraine {
namespace {

const GgufTensor* find_tensor(const GgufFile& file, std::string_view name) {
  for (const GgufTensor& tensor : file.tensors)
    if (tensor.name == name) return &tensor;
  return nullptr;
}

// Divisors of the frequencies: one for each pair of rotated columns.
std::vector<float> divisors(const GgufKeys& keys, const GgufTensor& tensor) {
  const uint64_t rotated = keys.size("rope.dimension_count").value_or(keys.head_dim);
  if (tensor.type != 0 || tensor.shape.size() != 1 || static_cast<uint64_t>(tensor.shape[0]) * 2 != rotated)
    keys.refuse(tensor.name + " is not an F32 list of half the rotated columns of a head");
  std::vector<float> factors(static_cast<size_t>(tensor.shape[0]));
  std::memcpy(factors.data(), keys.file.file.data() + tensor.offset, factors.size() * 4);
  for (const float factor : factors)
    if (!(factor > 0) || !std::isfinite(factor)) keys.refuse(fmt::format("{} holds {}, expected numbers above 0", tensor.name, factor));
  return factors;
}

// Llama 3 keeps its frequency factors as the tensor rope_freqs; config.json names the rule that made them. The published rule is tried:
// wavelengths beyond 8192 / 1 are slowed by `factor`, below 8192 / 4 kept, a line between. Other factors are kept as they are, in the words
// of longrope, whose short and long ones are then the same.
Json frequency_factors(const GgufKeys& keys, const GgufTensor& tensor) {
  const std::vector<float> factors = divisors(keys, tensor);
  const double original = 8192, low = 1, high = 4, factor = std::round(factors.back());
  bool rule = true;
  for (size_t i = 0; i < factors.size(); ++i) {
    const double wavelength = 2 * std::numbers::pi * std::pow(keys.theta, static_cast<double>(i) / static_cast<double>(factors.size()));
    double expected = factor;
    if (wavelength < original / high) {
      expected = 1;
    } else if (wavelength <= original / low) {
      const double smooth = (original / wavelength - low) / (high - low);
      expected = 1 / ((1 - smooth) / factor + smooth);
    }
    rule = rule && std::fabs(factors[i] - expected) <= 1e-3 * expected;
  }
  if (rule)
    return {{"rope_type", "llama3"},
            {"factor", factor},
            {"low_freq_factor", low},
            {"high_freq_factor", high},
            {"original_max_position_embeddings", 8192}};
  return {{"rope_type", "longrope"},
          {"short_factor", factors},
          {"long_factor", factors},
          {"attention_factor", 1.0},
          {"original_max_position_embeddings", keys.config["max_position_embeddings"]}};
}

Json long_rope(const GgufKeys& keys, const GgufTensor& longer, const GgufTensor& shorter) {
  return {{"rope_type", "longrope"},
          {"long_factor", divisors(keys, longer)},
          {"short_factor", divisors(keys, shorter)},
          {"attention_factor", keys.number("rope.scaling.attn_factor").value_or(1.0)}};
}

}  // namespace

Json gguf_rope_scaling(const GgufKeys& keys) {
  if (const GgufTensor* tensor = find_tensor(keys.file, "rope_freqs.weight")) return frequency_factors(keys, *tensor);
  const GgufTensor *longer = find_tensor(keys.file, "rope_factors_long.weight"),
                   *shorter = find_tensor(keys.file, "rope_factors_short.weight");
  if ((longer == nullptr) != (shorter == nullptr)) keys.refuse("has rope_factors_long or rope_factors_short alone");
  if (longer) return long_rope(keys, *longer, *shorter);
  const std::string type = keys.file.text(std::string(keys.architecture.name) + ".rope.scaling.type").value_or("none");
  if (type == "none") return nullptr;
  if (type != "linear" && type != "yarn") keys.refuse("the rope scaling \"" + type + "\" is not supported");
  const auto factor = keys.number("rope.scaling.factor");
  if (!factor || *factor <= 0) keys.refuse("rope scaling has no factor");
  Json scaling = {{"rope_type", type}, {"factor", *factor}};
  if (auto original = keys.size("rope.scaling.original_context_length")) scaling["original_max_position_embeddings"] = *original;
  if (type == "linear") return scaling;
  if (auto fast = keys.number("rope.scaling.yarn_beta_fast")) scaling["beta_fast"] = *fast;
  if (auto slow = keys.number("rope.scaling.yarn_beta_slow")) scaling["beta_slow"] = *slow;
  for (const char* key : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"})
    if (auto scale = keys.number(key)) scaling["attention_factor"] = *scale;
  return scaling;
}

}  // namespace loraine
