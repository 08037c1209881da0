// A LoraConfig as adapter_config.json.
#include <nlohmann/json.hpp>

#include "loraine/adapters/adalora_files.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/adapters/start.h"

namespace loraine {
namespace {

nlohmann::ordered_json eva_json(const LoraConfig& config) {
  if (config.init_lora_weights != "eva") return nullptr;
  const EvaConfig& e = config.eva;
  return {{"adjust_scaling_factors", e.adjust_scaling_factors},
          {"label_mask_value", -100},
          {"rho", e.rho},
          {"tau", e.tau},
          {"use_label_mask", e.use_label_mask},
          {"whiten", e.whiten}};
}

nlohmann::ordered_json trainable_tokens_json(const LoraConfig& config) {
  if (config.trainable_tokens.empty()) return nullptr;
  if (config.trainable_tokens[0].first.empty()) return config.trainable_tokens[0].second;
  nlohmann::ordered_json map = nlohmann::ordered_json::object();
  for (const auto& [module, ids] : config.trainable_tokens) map[module] = ids;
  return map;
}

}  // namespace

nlohmann::ordered_json peft_config(const LoraConfig& config) {
  if (config.method) return peft_method_config(config);
  nlohmann::ordered_json targets =
      config.target_regex.empty() ? nlohmann::ordered_json(config.target_modules) : nlohmann::ordered_json(config.target_regex);
  auto list_or_null = [](const auto& list) { return list.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(list); };
  nlohmann::ordered_json ranks = nlohmann::ordered_json::object(), alphas = nlohmann::ordered_json::object();
  for (const auto& [name, r] : config.rank_pattern) ranks[name] = r;
  for (const auto& [name, alpha] : config.alpha_pattern) alphas[name] = alpha;
  bool whole_alpha = config.lora_alpha == static_cast<double>(static_cast<int64_t>(config.lora_alpha));
  const nlohmann::ordered_json none;
  const nlohmann::ordered_json empty = nlohmann::ordered_json::object();
  nlohmann::ordered_json json = {{"alora_invocation_tokens", list_or_null(config.alora_invocation_tokens)},
                                 {"alpha_pattern", alphas},
                                 {"arrow_config", none},
                                 {"auto_mapping", none},
                                 {"base_model_name_or_path", config.base_model_name_or_path},
                                 {"bias", config.bias},
                                 {"corda_config", none},
                                 {"ensure_weight_tying", config.ensure_weight_tying},
                                 {"eva_config", eva_json(config)},
                                 {"exclude_modules", config.exclude_regex.empty() ? list_or_null(config.exclude_modules)
                                                                                  : nlohmann::ordered_json(config.exclude_regex)},
                                 {"fan_in_fan_out", false},
                                 {"inference_mode", true},
                                 {"init_lora_weights", true},
                                 {"layer_replication", none},
                                 {"layers_pattern", list_or_null(config.layers_pattern)},
                                 {"layers_to_transform", list_or_null(config.layers_to_transform)},
                                 {"loftq_config", empty},
                                 {"lora_alpha", config.lora_alpha},
                                 {"lora_bias", config.lora_bias},
                                 {"lora_dropout", config.lora_dropout},
                                 {"megatron_config", none},
                                 {"megatron_core", "megatron.core"},
                                 {"modules_to_save", list_or_null(config.modules_to_save)},
                                 {"peft_type", "LORA"},
                                 {"peft_version", config.target_parameters.empty() ? "0.18.1" : "0.19.0"},
                                 {"qalora_group_size", 16},
                                 {"r", config.r},
                                 {"rank_pattern", ranks},
                                 {"revision", none},
                                 {"target_modules", targets},
                                 {"target_parameters", list_or_null(config.target_parameters)},
                                 {"task_type", "CAUSAL_LM"},
                                 {"trainable_token_indices", trainable_tokens_json(config)},
                                 {"use_dora", config.use_dora},
                                 {"use_qalora", false},
                                 {"use_rslora", config.use_rslora}};
  if (whole_alpha) json["lora_alpha"] = static_cast<int64_t>(config.lora_alpha);
  if (config.init_lora_weights == "false") json["init_lora_weights"] = false;
  else if (config.init_lora_weights != "true") json["init_lora_weights"] = config.init_lora_weights;
  if (quantises_base(config)) json["loftq_config"] = {{"loftq_bits", config.loftq_bits}, {"loftq_iter", config.loftq_iter}};
  if (config.adalora) {
    add_adalora_keys(json, *config.adalora);
    json = nlohmann::json(json);  // keys sorted, as PEFT writes them
  }
  return json;
}

}  // namespace loraine
