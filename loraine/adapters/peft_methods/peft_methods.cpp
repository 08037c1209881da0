// The list of PEFT's methods, and adapter_config.json of each.
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>

#include "loraine/adapters/peft_methods/boft.h"
#include "loraine/adapters/peft_methods/c3a.h"
#include "loraine/adapters/peft_methods/fourierft.h"
#include "loraine/adapters/peft_methods/gralora.h"
#include "loraine/adapters/peft_methods/hira.h"
#include "loraine/adapters/peft_methods/ia3.h"
#include "loraine/adapters/peft_methods/loha.h"
#include "loraine/adapters/peft_methods/lokr.h"
#include "loraine/adapters/peft_methods/miss.h"
#include "loraine/adapters/peft_methods/oft.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/adapters/peft_methods/randlora.h"
#include "loraine/adapters/peft_methods/shira.h"
#include "loraine/adapters/peft_methods/vera.h"
#include "loraine/core/describe.h"
#include "loraine/core/error.h"

namespace loraine {

const std::vector<PeftMethodKind>& peft_methods() {
  // peft_type, setting, names of tensors, bias word, chooses layers, has patterns, trains, its reader; false where it excludes no modules
  static const std::vector<PeftMethodKind> all = {
      {"BOFT", "boft", ".boft_", "boft_only", true, false, true, read_boft},
      {"C3A", "c3a", ".c3a_", "c3a_only", true, false, true, read_c3a, false},
      {"FOURIERFT", "fourierft", ".fourierft_", "fourier_only", true, false, true, read_fourierft},
      {"GRALORA", "gralora", ".gralora_", "gralora_only", true, false, true, read_gralora, false},
      {"HIRA", "hira", ".hira_", nullptr, true, false, true, read_hira},
      {"IA3", "ia3", ".ia3_", nullptr, false, false, true, read_ia3},
      {"LOHA", "loha", ".hada_", nullptr, true, true, true, read_loha},
      {"LOKR", "lokr", ".lokr_", nullptr, true, true, true, read_lokr},
      {"MISS", "miss", ".miss_", "MiSS_only", true, false, true, read_miss},
      {"OFT", "oft", ".oft_", "oft_only", true, false, true, read_oft},
      {"RANDLORA", "randlora", ".randlora_", "randlora_only", true, false, true, read_randlora, false},
      {"SHIRA", "shira", ".shira_", nullptr, false, false, true, read_shira, false},
      {"VERA", "vera", ".vera_", "vera_only", true, false, true, read_vera, false},
  };
  return all;
}

const PeftMethodKind* find_peft_type(const std::string& peft_type) {
  const auto found = std::ranges::find(peft_methods(), peft_type, &PeftMethodKind::peft_type);
  return found == peft_methods().end() ? nullptr : &*found;
}

const PeftMethodKind* find_peft_setting(const std::string& finetuning_type) {
  const auto found = std::ranges::find(peft_methods(), finetuning_type, &PeftMethodKind::setting);
  return found == peft_methods().end() ? nullptr : &*found;
}

std::string peft_type_names() {
  std::vector<std::string> names;
  for (const PeftMethodKind& kind : peft_methods()) names.emplace_back(kind.peft_type);
  return fmt::format("{}", fmt::join(names, ", "));
}

namespace {

std::vector<std::string> read_method_keys(const PeftMethodKind& kind, const nlohmann::ordered_json& json, const std::string& where,
                                          ErrorKind error, LoraConfig& config) {
  MethodKeys keys(json, where, error);
  config.r = 1;  // for a method that has no rank
  config.lora_alpha = 1;
  config.lora_dropout = 0;
  const std::shared_ptr<PeftMethod> method = kind.read(keys, config);
  method->kind = &kind;
  config.method = method;
  return keys.known();
}

}  // namespace

void read_peft_method(const PeftMethodKind& kind, const nlohmann::ordered_json& json, const std::string& file, LoraConfig& config,
                      std::vector<std::string>& known) {
  known = read_method_keys(kind, json, file, ErrorKind::bad_data, config);
  if (kind.bias_word) known.emplace_back("bias");
  if (kind.bias_word && json.contains("bias") && json["bias"] == kind.bias_word) config.bias = "lora_only";
}

void set_peft_method(const PeftMethodKind& kind, const nlohmann::ordered_json& json, const std::string& where, LoraConfig& config) {
  const std::vector<std::string> known = read_method_keys(kind, json, where, ErrorKind::usage, config);
  const auto refuse = [&](const char* key) {
    throw Error(ErrorKind::usage,
                fmt::format("finetuning_type: {} has no {}: PEFT's config of {} does not know it", kind.setting, key, kind.peft_type),
                "leave it out");
  };
  if (!kind.chooses_layers && !config.layers_to_transform.empty()) refuse("layers_to_transform");
  if (!kind.has_patterns && !config.rank_pattern.empty()) refuse("rank_pattern");
  if (!kind.has_patterns && !config.alpha_pattern.empty()) refuse("alpha_pattern");
  if (!kind.excludes && !(config.exclude_modules.empty() && config.exclude_regex.empty())) refuse("exclude_modules");
  if (!kind.bias_word && config.bias != "none") refuse("bias");
  for (const auto& [key, value] : json.items()) {
    if (std::ranges::find(known, key) != known.end()) continue;
    const std::string near = nearest_word(key, known);
    throw Error(ErrorKind::usage,
                fmt::format("{}: finetuning_type {} has no key '{}'{}", where, kind.setting, key,
                            near.empty() ? "" : "; did you mean '" + near + "'?"),
                fmt::format("it has {}", fmt::join(known, ", ")));
  }
}

nlohmann::ordered_json peft_method_config(const LoraConfig& config) {
  const PeftMethodKind& kind = *config.method->kind;
  const auto list_or_null = [](const auto& list) { return list.empty() ? nlohmann::json() : nlohmann::json(list); };
  nlohmann::json json = {
      {"auto_mapping", nullptr},
      {"base_model_name_or_path", config.base_model_name_or_path},
      {"inference_mode", true},
      {"modules_to_save", list_or_null(config.modules_to_save)},
      {"peft_type", kind.peft_type},
      {"peft_version", "0.18.1"},
      {"revision", nullptr},
      {"target_modules", config.target_regex.empty() ? nlohmann::json(config.target_modules) : nlohmann::json(config.target_regex)},
      {"task_type", "CAUSAL_LM"}};
  if (kind.excludes || !config.exclude_modules.empty() || !config.exclude_regex.empty())
    json["exclude_modules"] = config.exclude_regex.empty() ? list_or_null(config.exclude_modules) : nlohmann::json(config.exclude_regex);
  if (kind.bias_word) json["bias"] = config.bias == "lora_only" ? kind.bias_word : config.bias;
  if (kind.chooses_layers) {
    json["layers_to_transform"] = list_or_null(config.layers_to_transform);
    json["layers_pattern"] = list_or_null(config.layers_pattern);
  }
  if (kind.has_patterns) {
    json["rank_pattern"] = json["alpha_pattern"] = nlohmann::json::object();
    for (const auto& [name, r] : config.rank_pattern) json["rank_pattern"][name] = r;
    for (const auto& [name, alpha] : config.alpha_pattern) json["alpha_pattern"][name] = alpha;
  }
  config.method->write_keys(json, config);
  return nlohmann::ordered_json(json);
}

}  // namespace loraine
