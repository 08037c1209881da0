// The keys of the method, in LLaMA-Factory's and PEFT's words.
#include "loraine/train/config/method.h"

#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <nlohmann/json.hpp>

#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

template <class Number>
std::vector<std::pair<std::string, Number>> pattern_of(const char* key, const std::optional<std::string>& text, Number lowest,
                                                       Number highest) {
  std::vector<std::pair<std::string, Number>> pattern;
  if (!text) return pattern;
  const Value map = Value::parse(*text);  // in the order given: the first that matches counts
  for (const auto& [name, number] : map.items()) {
    const double value = number.is_number() ? number.template get<double>() : std::nan("");
    if ((std::is_integral_v<Number> && !number.is_number_integer()) || !(value >= lowest && value <= highest))
      throw Error(ErrorKind::usage,
                  fmt::format("{}: '{}' has the value {}, expected {} from {} to {}", key, name, number.dump().substr(0, 80),
                              std::is_integral_v<Number> ? "an integer" : "a number", lowest, highest));
    pattern.emplace_back(name, number.template get<Number>());
  }
  return pattern;
}

std::vector<int64_t> layer_numbers(const std::optional<std::string>& text) {
  std::vector<int64_t> layers;
  for (const std::string& item : split_list(text)) {
    int64_t layer = 0;
    const auto [end, failed] = std::from_chars(item.data(), item.data() + item.size(), layer);
    if (failed != std::errc() || end != item.data() + item.size() || layer < 0)
      throw Error(ErrorKind::usage, fmt::format("layers_to_transform: '{}' is not the number of a layer", item), "count from 0: 0,1,5");
    layers.push_back(layer);
  }
  return layers;
}

std::vector<int64_t> token_ids(const char* key, const std::string& text) {
  std::vector<int64_t> ids;
  for (const std::string& item : split_list(text)) {
    int64_t id = 0;
    const auto [end, failed] = std::from_chars(item.data(), item.data() + item.size(), id);
    if (failed != std::errc() || end != item.data() + item.size() || id < 0 || id > INT32_MAX)
      throw Error(ErrorKind::usage, fmt::format("{}: '{}' is not the id of a token", key, item), "give numbers: 5,20");
    ids.push_back(id);
  }
  return ids;
}

// A list of ids, which is the embedding's, or a map, module → list.
std::vector<std::pair<std::string, std::vector<int64_t>>> trainable_tokens(const std::optional<std::string>& text) {
  std::vector<std::pair<std::string, std::vector<int64_t>>> all;
  if (!text || text->empty()) return all;
  if (!text->starts_with('{')) return {{"", token_ids("trainable_token_indices", *text)}};
  const Value map = Value::parse(*text);
  for (const auto& [module, list] : map.items()) {
    if (!list.is_array())
      throw Error(ErrorKind::usage, fmt::format("trainable_token_indices: {} is {}, expected a list of token ids", module, list.dump()));
    std::string ids;
    for (const Value& id : list) ids += (ids.empty() ? "" : ",") + id.dump();
    all.emplace_back(module, token_ids("trainable_token_indices", ids));
  }
  return all;
}

}  // namespace

std::vector<int64_t> llama_pro_layers(int64_t layers, int64_t count) {
  if (layers % count != 0)
    throw Error(ErrorKind::usage,
                fmt::format("use_llama_pro: the model has {} layers, which freeze_trainable_layers {} does not divide", layers, count),
                "set freeze_trainable_layers to the number of layers that were put in");
  std::vector<int64_t> chosen;
  for (int64_t layer = layers / count - 1; layer < layers; layer += layers / count) chosen.push_back(layer);
  return chosen;
}

namespace {

// finetuning_type's method out of its keys.
void choose_method(LoraConfig& lora, const TrainConfig& c) {
  const PeftMethodKind* kind = find_peft_setting(c.finetuning_type);
  if (!kind) return;
  nlohmann::ordered_json keys = c.adapter_args ? nlohmann::ordered_json::parse(*c.adapter_args) : nlohmann::ordered_json::object();
  if (c.finetuning_type == "oft") {
    const nlohmann::ordered_json own = {{"r", c.oft_rank}, {"oft_block_size", c.oft_block_size}, {"module_dropout", c.module_dropout}};
    for (const auto& [key, value] : own.items())
      if (!keys.contains(key)) keys[key] = value;
  }
  set_peft_method(*kind, keys, "adapter_args", lora);
}

}  // namespace

LoraConfig method_config(const TrainConfig& c) {
  LoraConfig lora;
  lora.r = c.lora_rank;
  lora.lora_alpha = static_cast<double>(c.lora_alpha.value_or(2 * c.lora_rank));
  lora.lora_dropout = c.lora_dropout;
  lora.use_rslora = c.use_rslora;
  lora.use_dora = c.use_dora;
  lora.lora_bias = c.lora_bias;
  lora.init_lora_weights = c.init_lora_weights;
  lora.loftq_bits = c.loftq_bits;
  lora.loftq_iter = c.loftq_iter;
  lora.eva = {c.eva_rho, c.eva_tau, c.eva_use_label_mask, c.eva_whiten, c.eva_adjust_scaling_factors};
  lora.corda = {c.corda_method};
  lora.lora_ga = {c.lora_ga_direction, c.lora_ga_scale, c.lora_ga_stable_gamma};
  if (c.pissa_init) lora.init_lora_weights = c.pissa_iter < 0 ? "pissa" : fmt::format("pissa_niter_{}", c.pissa_iter);
  if (c.use_adalora)
    lora.adalora = AdaloraConfig{c.init_r, c.target_r, c.tinit, c.tfinal, c.deltaT, 0, c.beta1, c.beta2, c.orth_reg_weight, {}};
  set_targets(lora, c.finetuning_type == "oft" ? c.oft_target : c.lora_target);
  lora.modules_to_save = split_list(c.additional_target);
  lora.bias = c.bias;
  lora.trainable_tokens = trainable_tokens(c.trainable_token_indices);
  lora.frozen_a = c.use_lorafa;
  for (const int64_t id : token_ids("alora_invocation_tokens", c.alora_invocation_tokens.value_or("")))
    lora.alora_invocation_tokens.push_back(static_cast<int32_t>(id));
  if (c.exclude_modules) set_excluded(lora, *c.exclude_modules);
  lora.rank_pattern = pattern_of<int64_t>("rank_pattern", c.rank_pattern, 1, 65536);
  lora.alpha_pattern = pattern_of<double>("alpha_pattern", c.alpha_pattern, -1e9, 1e9);
  lora.layers_to_transform = layer_numbers(c.layers_to_transform);
  lora.layers_pattern = split_list(c.layers_pattern);
  if (!lora.target_regex.empty() && !lora.layers_to_transform.empty())
    throw Error(ErrorKind::usage,
                "layers_to_transform and a regular expression as lora_target exclude each other: the expression chooses the layers itself",
                "leave layers_to_transform out, or name the layers' modules in lora_target");
  if (!lora.layers_pattern.empty() && lora.layers_to_transform.empty())
    throw Error(ErrorKind::usage, "layers_pattern is given without layers_to_transform", "name the layers with layers_to_transform");
  choose_method(lora, c);
  return lora;
}

}  // namespace loraine
