// Reading and writing adapter_config.json and adapter_model.safetensors; adapter_model.bin is read too.
#include "loraine/adapters/peft_files.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/adapters/adalora_files.h"
#include "loraine/adapters/base_match.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/adapters/start.h"
#include "loraine/core/error.h"
#include "loraine/core/packed.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"

namespace loraine {
namespace {

using Ordered = nlohmann::ordered_json;  // the first pattern that matches counts

// Keys that change the forward pass or what is stored; a value other than "off" is refused by name.
constexpr const char* kNotBuilt[] = {"layer_replication", "use_qalora",        "arrow_config", "use_bdlora",
                                     "velora_config",     "monteclora_config", "kasa_config"};

// Keys that do not change what is computed, at any value. fan_in_fan_out is for layers that store their weight as [in, out]; over linear
// layers, which are all that loraine has, PEFT switches it off.
constexpr const char* kNoEffect[] = {"task_type",       "auto_mapping",   "peft_version",  "revision",     "inference_mode",
                                     "megatron_config", "megatron_core",  "eva_config",    "corda_config", "qalora_group_size",
                                     "lora_ga_config",  "runtime_config", "fan_in_fan_out"};
constexpr const char* kRead[] = {"peft_type",
                                 "r",
                                 "lora_alpha",
                                 "lora_dropout",
                                 "use_rslora",
                                 "use_dora",
                                 "lora_bias",
                                 "alora_invocation_tokens",
                                 "bias",
                                 "init_lora_weights",
                                 "loftq_config",
                                 "modules_to_save",
                                 "target_modules",
                                 "target_parameters",
                                 "exclude_modules",
                                 "layers_to_transform",
                                 "layers_pattern",
                                 "rank_pattern",
                                 "alpha_pattern",
                                 "ensure_weight_tying",
                                 "trainable_token_indices",
                                 "base_model_name_or_path"};

bool is_off(const Ordered& value) {
  return value.is_null() || (value.is_boolean() && !value.get<bool>()) || ((value.is_array() || value.is_object()) && value.empty()) ||
         (value.is_string() && (value.get<std::string>().empty() || value == "none"));
}

[[noreturn]] void wrong(const std::string& file, const char* key, const Ordered& value, const std::string& expected) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} is {}, expected {}", file, key, value.dump().substr(0, 80), expected));
}

template <class Number>
bool number_of(const Ordered& value) {
  if constexpr (std::is_integral_v<Number>) return value.is_number_integer();
  else return value.is_number() && std::isfinite(value.get<double>());
}

bool finite(const Tensor& t) {
  const float* x = t.f32();
  return std::all_of(x, x + t.numel(), [](float v) { return std::isfinite(v); });
}

// What follows the module's path in the name of an adapter's tensor, ".lora_A.weight"; empty for a tensor that is trained whole.
std::string tensor_kind(const std::string& name) {
  const size_t at = name.rfind(".lora_");
  return at == std::string::npos ? "" : name.substr(at);
}

}  // namespace

std::string vocabulary_text(const std::string& name, const std::vector<int64_t>& stored, const Tensor& model) {
  const bool embedding = name.find("embed_tokens.") != name.npos, head = name.find("lm_head.") != name.npos;
  const size_t at = name.ends_with(".lora_embedding_A") ? 1 : 0;  // [r, V]
  if (!(embedding || head) || stored.size() != 2 || model.rank != 2 || stored[1 - at] != model.shape[1 - at]) return "";
  return fmt::format(
      ": the adapter was trained over a vocabulary of {} tokens, and the model has {}; give it over a base whose vocabulary "
      "was enlarged in the same way",
      stored[at], model.shape[at]);
}

namespace {

Tensor unpacked(const Tensor& packed, Buffer& memory) {
  memory = Buffer(static_cast<size_t>(packed.numel()) * sizeof(float));
  const Tensor out(memory.data(), Dtype::F32, {packed.rows(), packed.cols()});
  unpack(out.f32(), packed);
  return out;
}

std::vector<std::string> names(const Ordered& value, const std::string& file, const char* key) {
  std::vector<std::string> out;
  for (const Ordered& item : value) {
    if (!item.is_string()) wrong(file, key, value, "a list of module names");
    out.push_back(item.get<std::string>());
  }
  return out;
}

// A list of ids is that of the embedding, whatever its name.
void read_trainable_tokens(const Ordered& value, const std::string& file, LoraConfig& config) {
  const auto add = [&](const std::string& module, const Ordered& list) {
    std::vector<int64_t> ids;
    for (const Ordered& id : list) {
      if (!id.is_number_integer()) wrong(file, "trainable_token_indices", value, "token ids");
      ids.push_back(id.get<int64_t>());
    }
    config.trainable_tokens.emplace_back(module, std::move(ids));
  };
  if (is_off(value)) return;
  if (value.is_array()) return add("", value);
  if (!value.is_object()) wrong(file, "trainable_token_indices", value, "a list of token ids, or an object of module: list");
  for (const auto& [module, list] : value.items()) {
    if (!list.is_array()) wrong(file, "trainable_token_indices", value, "an object of module: list of token ids");
    add(module, list);
  }
}

// With another start PEFT takes no notice of loftq_config.
void read_loftq_config(const Ordered& json, const std::string& file, LoraConfig& config) {
  const Ordered loftq = json.value("loftq_config", Ordered());
  if (config.adalora) wrong(file, "init_lora_weights", json["init_lora_weights"], "another start with AdaLoRA");
  for (const auto& [key, field] : {std::pair{"loftq_bits", &config.loftq_bits}, {"loftq_iter", &config.loftq_iter}}) {
    if (!loftq.is_object() || !loftq.contains(key) || !loftq[key].is_number_integer())
      wrong(file, "loftq_config", loftq, fmt::format("an object with the integer {}, which init_lora_weights loftq needs", key));
    *field = loftq[key].get<int64_t>();
  }
  if (config.loftq_bits != 4 && config.loftq_bits != 8) wrong(file, "loftq_bits", loftq["loftq_bits"], "4 or 8");
  if (config.loftq_iter < 1) wrong(file, "loftq_iter", loftq["loftq_iter"], "a number of iterations above 0");
}

}  // namespace

LoraConfig read_lora_config(const std::string& folder) {
  std::string file = folder + "/adapter_config.json";
  Ordered json = parse_json_file_in_order(file);
  if (!json.is_object() || !json.contains("peft_type"))
    throw Error(ErrorKind::bad_data, file + ": no peft_type, so this is not a PEFT adapter");
  const bool adalora = json["peft_type"] == "ADALORA";
  const PeftMethodKind* method = json["peft_type"].is_string() ? find_peft_type(json["peft_type"].get<std::string>()) : nullptr;
  if (json["peft_type"] == "LILY")
    wrong(file, "peft_type", json["peft_type"],
          "a method in which a token depends on itself and on those before it: Lily mixes its B by a mean over all tokens of a batch");
  if (json["peft_type"] != "LORA" && !adalora && !method)
    wrong(file, "peft_type", json["peft_type"], fmt::format("LORA, ADALORA or one of {}: others are not built", peft_type_names()));
  LoraConfig config;
  std::vector<std::string> own;  // the method's keys
  if (method) read_peft_method(*method, json, file, config, own);
  for (const auto& [key, value] : json.items()) {
    auto listed = [&key = key](const auto& list) { return std::find(std::begin(list), std::end(list), key) != std::end(list); };
    if (!listed(kNotBuilt) && !listed(kNoEffect) && !listed(kRead) && !(adalora && is_adalora_key(key)) && !listed(own) && !is_off(value))
      config.unknown_keys.push_back(fmt::format("{}: {}", key, value.dump().substr(0, 80)));
  }
  for (const char* key : kNotBuilt)
    if (!method && json.contains(key) && !is_off(json[key])) wrong(file, key, json[key], "it switched off: loraine does not build it yet");
  if (json.contains("bias") && config.bias == "none") {
    for (const char* known : {"none", "all", "lora_only"})
      if (json["bias"] == known) config.bias = known;
    if (json["bias"] != config.bias) wrong(file, "bias", json["bias"], "\"none\", \"all\" or \"lora_only\"");
  }
  if (const Ordered saved = json.value("modules_to_save", Ordered()); !saved.is_null()) {
    if (!saved.is_array()) wrong(file, "modules_to_save", saved, "a list of module names");
    config.modules_to_save = names(saved, file, "modules_to_save");
  }
  auto number = [&](const char* key, auto& field) {  // null is no number, and to PEFT neither
    if (!json.contains(key)) return;
    using Number = std::decay_t<decltype(field)>;
    if (!number_of<Number>(json[key])) wrong(file, key, json[key], std::is_integral_v<Number> ? "an integer" : "a number");
    field = json[key].get<Number>();
  };
  if (!method) {
    number("r", config.r);
    number("lora_alpha", config.lora_alpha);
    number("lora_dropout", config.lora_dropout);
  }
  if (config.r <= 0 || config.r > 65536) wrong(file, "r", json["r"], "a rank from 1 to 65536");
  if (!(config.lora_dropout >= 0 && config.lora_dropout < 1))
    wrong(file, "lora_dropout", json["lora_dropout"], "a share from 0 to below 1");
  auto boolean = [&](const char* key, bool& field) {
    if (!json.contains(key) || json[key].is_null()) return;
    if (!json[key].is_boolean()) wrong(file, key, json[key], "true or false");
    field = json[key].get<bool>();
  };
  if (!method) boolean("use_rslora", config.use_rslora);
  if (!method) boolean("use_dora", config.use_dora);
  if (!method) boolean("lora_bias", config.lora_bias);
  boolean("ensure_weight_tying", config.ensure_weight_tying);
  if (json.contains("trainable_token_indices")) read_trainable_tokens(json["trainable_token_indices"], file, config);
  if (const Ordered tokens = json.value("alora_invocation_tokens", Ordered()); !is_off(tokens)) {
    if (!tokens.is_array()) wrong(file, "alora_invocation_tokens", tokens, "a list of token ids");
    for (const Ordered& id : tokens) {
      if (!id.is_number_integer()) wrong(file, "alora_invocation_tokens", tokens, "a list of token ids");
      config.alora_invocation_tokens.push_back(id.get<int32_t>());
    }
  }
  if (adalora) config.adalora = read_adalora_config(json, file);
  if (adalora && config.use_dora) wrong(file, "use_dora", json["use_dora"], "false with AdaLoRA");
  if (!method && json.contains("init_lora_weights")) {
    const Ordered& init = json["init_lora_weights"];
    config.init_lora_weights = init.is_boolean()  ? (init.get<bool>() ? "true" : "false")
                               : init.is_string() ? init.get<std::string>()
                                                  : "true";
    if (!known_start(config.init_lora_weights))
      wrong(file, "init_lora_weights", init,
            "true, false, gaussian, orthogonal, olora, pissa, pissa_niter_N, loftq, eva or lora_ga: others may change the base model, and "
            "are not built yet");
    if (config.init_lora_weights == "corda")
      throw Error(ErrorKind::bad_data,
                  file +
                      ": it counts over a base that its start out of the data has changed (init_lora_weights corda), which nobody can find "
                      "again, PEFT neither",
                  "save it with PEFT's path_initial_model_for_weight_conversion, or, over the base as it was changed and saved, set "
                  "init_lora_weights to true in that file");
  }
  if (quantises_base(config)) read_loftq_config(json, file, config);
  if (const Ordered parameters = json.value("target_parameters", Ordered()); !parameters.is_null()) {
    if (!parameters.is_array()) wrong(file, "target_parameters", parameters, "a list of names of parameters");
    config.target_parameters = names(parameters, file, "target_parameters");
  }
  const Ordered targets = json.value("target_modules", Ordered());
  if (targets.is_string() && targets != "all-linear") config.target_regex = targets.get<std::string>();
  else if (targets.is_string()) set_targets(config, "all");
  else if (targets.is_array()) config.target_modules = names(targets, file, "target_modules");
  else if (targets.is_null() && config.target_parameters.empty()) config.target_modules = {"q_proj", "v_proj"};
  else if (!targets.is_null()) wrong(file, "target_modules", targets, "a list of names, a pattern or null");
  const Ordered exclude = json.value("exclude_modules", Ordered());
  if (exclude.is_string()) config.exclude_regex = exclude.get<std::string>();
  else if (exclude.is_array()) config.exclude_modules = names(exclude, file, "exclude_modules");
  const Ordered layers = json.value("layers_to_transform", Ordered());
  if (layers.is_number_integer()) config.layers_to_transform = {layers.get<int64_t>()};
  else if (layers.is_array())
    for (const Ordered& layer : layers) {
      if (!layer.is_number_integer()) wrong(file, "layers_to_transform", layers, "a list of layer numbers");
      config.layers_to_transform.push_back(layer.get<int64_t>());
    }
  const Ordered layers_pattern = json.value("layers_pattern", Ordered());
  if (layers_pattern.is_string() && layers_pattern != "") config.layers_pattern = {layers_pattern.get<std::string>()};
  else if (layers_pattern.is_array()) config.layers_pattern = names(layers_pattern, file, "layers_pattern");
  if (!config.layers_pattern.empty() && config.layers_to_transform.empty())
    wrong(file, "layers_pattern", layers_pattern, "none without layers_to_transform");
  if (!config.target_regex.empty() && !config.layers_to_transform.empty())
    wrong(file, "layers_to_transform", layers, "none where target_modules is a regular expression, which chooses the layers itself");
  auto pattern = [&](const char* key, auto& field) {
    const Ordered value = json.value(key, Ordered::object());
    if (!value.is_object()) wrong(file, key, value, "an object of name: number");
    for (const auto& [name, n] : value.items()) {
      using Number = typename std::decay_t<decltype(field)>::value_type::second_type;
      if (!number_of<Number>(n))
        wrong(file, key, value, std::is_integral_v<Number> ? "an object of name: integer" : "an object of name: number");
      field.emplace_back(name, n.template get<Number>());
    }
  };
  if (!adalora) pattern("rank_pattern", config.rank_pattern);
  pattern("alpha_pattern", config.alpha_pattern);
  if (json.contains("base_model_name_or_path") && json["base_model_name_or_path"].is_string())
    config.base_model_name_or_path = json["base_model_name_or_path"].get<std::string>();
  return config;
}

std::string adapter_file(const std::string& folder) {
  const std::string file = folder + "/adapter_model.safetensors";
  const std::string older = folder + "/adapter_model.bin";  // what PEFT wrote before it had safetensors
  return !std::filesystem::exists(file) && std::filesystem::exists(older) ? older : file;
}

namespace {

// Whether PEFT of 0.19 or later wrote the folder; the key is there since 0.18.
bool is_newer_peft(const std::string& folder) {
  const Ordered json = parse_json_file_in_order(folder + "/adapter_config.json");
  const Ordered version = json.value("peft_version", Ordered());
  int major = 0, minor = 0;
  if (!version.is_string() || std::sscanf(version.get<std::string>().c_str(), "%d.%d", &major, &minor) != 2) return false;
  return major > 0 || minor >= 19;
}

}  // namespace

AdapterFile open_adapter_file(const std::string& folder) {
  const std::string path = adapter_file(folder);
  return {path, open_tensor_source(path), is_newer_peft(folder)};
}

namespace {

// A and B of experts, in whichever of PEFT's two orders their shapes say they are. Gives what is wrong; the tensors' names leave `left`.
std::string read_experts(ExpertLora& lora, const TensorSource& source, bool newer, std::set<std::string>& left) {
  const ExpertLoraShape& shape = lora.shape();
  const std::vector<Parameter> own = lora.parameters();
  const TensorInfo* infos[2];
  for (size_t i = 0; i < 2; ++i) {
    infos[i] = source.find(own[i].name);
    if (!infos[i]) return own[i].name + ": missing, and the config targets these experts";
    left.erase(own[i].name);
    if (infos[i]->dtype != Dtype::F32 && infos[i]->dtype != Dtype::F16 && infos[i]->dtype != Dtype::BF16)
      return fmt::format("{}: stored as {}, expected F32, F16 or BF16", own[i].name, infos[i]->stored_as);
  }
  const int64_t ranks = shape.r * shape.experts;
  using Sizes = std::vector<int64_t>;
  const auto lies = [&](bool a_gives_output) {
    return infos[0]->shape == Sizes{ranks, a_gives_output ? shape.out : shape.in} &&
           infos[1]->shape == Sizes{a_gives_output ? shape.in : shape.out, ranks};
  };
  const bool same = lies(shape.a_gives_output), other = lies(!shape.a_gives_output);
  if (!same && !other)
    return fmt::format("{}: file has {} and B {}, model and config imply {} and {}", own[0].name,
                       Tensor(nullptr, Dtype::F32, infos[0]->shape).shape_text(), Tensor(nullptr, Dtype::F32, infos[1]->shape).shape_text(),
                       own[0].value.shape_text(), own[1].value.shape_text());
  if (same && !(other && shape.older_differs && !newer)) {
    source.read(*infos[0], own[0].value);
    source.read(*infos[1], own[1].value);
  } else {
    const Buffer a_memory(static_cast<size_t>(own[0].value.numel() / own[0].value.cols() * infos[0]->shape[1]) * sizeof(float)),
        b_memory(static_cast<size_t>(infos[1]->shape[0] * ranks) * sizeof(float));
    const Tensor a(a_memory.data(), Dtype::F32, infos[0]->shape), b(b_memory.data(), Dtype::F32, infos[1]->shape);
    source.read(*infos[0], a);
    source.read(*infos[1], b);
    lora.take_other_order(a, b);
  }
  for (const Parameter& p : own)
    if (!finite(p.value)) return p.name + ": holds values that are not finite numbers";
  return "";
}

}  // namespace

void read_lora_tensors(const AdapterSet& set, const AdapterFile& file) {
  const TensorSource* source = file.tensors.get();
  std::set<std::string> left;
  for (const TensorInfo& info : source->tensors()) left.insert(info.name);
  std::string problems;
  int count = 0;
  auto problem = [&](const std::string& text) {
    if (++count <= 5) problems += "\n  " + text;
  };
  std::multimap<std::string, const TensorInfo*> unwrapped;
  for (const TensorInfo& info : source->tensors()) unwrapped.emplace(without_wrapper(info.name), &info);
  std::set<std::string> of_experts;
  for (const auto& experts : set.experts) {
    if (!experts) continue;
    for (const Parameter& p : experts->parameters()) of_experts.insert(p.name);
    if (const std::string text = read_experts(*experts, *source, file.newer, left); !text.empty()) problem(text);
  }
  for (const Parameter& p : set.parameters()) {
    if (of_experts.contains(p.name)) continue;
    const TensorInfo* info = source->find(p.name);
    if (const std::string name = without_wrapper(p.name); !info && unwrapped.contains(name)) {
      info = unwrapped.find(name)->second;
      if (unwrapped.count(name) > 1) problem(fmt::format("{}: the file has it under two names, {} is one", p.name, info->name));
    }
    if (!info && tensor_kind(p.name) == ".lora_magnitude_vector") info = source->find(p.name + ".weight");  // the name in PEFT's memory
    if (!info) {
      const std::string kind = tensor_kind(p.name), module = p.name.substr(0, p.name.size() - kind.size());
      const bool is_a = kind.starts_with(".lora_A"), whole = kind.empty() || kind.starts_with(".lora_embedding_");
      const std::string other =
          std::string(is_a ? ".lora_B" : ".lora_A") + (kind.ends_with(".weight") || kind == ".lora_magnitude_vector" ? ".weight" : "");
      if (source->find(module + other)) problem(fmt::format("{}: missing, while its {} is there", p.name, other.substr(1, 6)));
      else if (is_a) problem(module + ": the config targets this module and the file has no tensors for it");
      else if (whole || kind == ".lora_B.bias") problem(p.name + ": missing");
      continue;
    }
    left.erase(info->name);
    Tensor stored(nullptr, info->dtype, info->shape);
    const std::string kind = tensor_kind(p.name);
    const bool is_a = kind.starts_with(".lora_A"), has_rank = is_a || (kind.starts_with(".lora_B") && kind != ".lora_B.bias");
    const int64_t r = is_a ? p.value.rows() : p.value.cols();
    const bool whole_numbers = p.value.dtype == Dtype::I32;
    if (whole_numbers ? info->dtype != Dtype::I32 : info->dtype != Dtype::F32 && info->dtype != Dtype::F16 && info->dtype != Dtype::BF16)
      problem(fmt::format("{}: stored as {}, expected {}", p.name, info->stored_as, whole_numbers ? "I32" : "F32, F16 or BF16"));
    else if (has_rank && info->shape.size() == 2 && info->shape[is_a ? 0 : 1] != r)
      problem(fmt::format("{}: has rank {}, adapter_config.json says {}", p.name, info->shape[is_a ? 0 : 1], r));
    else if (stored.shape_text() != p.value.shape_text())
      problem(fmt::format("{}: file has {}, model and config imply {}{}", p.name, stored.shape_text(), p.value.shape_text(),
                          vocabulary_text(p.name, info->shape, p.value)));
    else {
      source->read(*info, p.value);
      if (!whole_numbers && !finite(p.value)) problem(p.name + ": holds values that are not finite numbers");
    }
  }
  for (const Parameter& p : set.beside) left.erase(p.name);
  if (set.shared) std::erase_if(left, [&](const std::string& name) { return set.shared->repeats(name); });
  for (const std::string& name : left) {
    const TensorInfo* info = source->find(name);
    const bool empty = std::ranges::find(info->shape, 0) != info->shape.end();  // of a module whose ranks were all cut
    const bool as_layers = name.find("_projs.") != std::string::npos;           // Unsloth's gpt-oss in 4 bits
    if (!empty)
      problem(name + (as_layers ? ": is of experts that were layers of their own, which is not built"
                                : ": belongs to no module that the config targets in this model"));
  }
  if (count)
    throw Error(ErrorKind::bad_data, fmt::format("{} does not fit: {} of its tensors are wrong:{}", file.path, count, problems),
                "is the adapter for another model, or its file damaged?");
  Context ctx;
  set.refresh(ctx);
}

std::string random_start_text(const LoraConfig& config, const std::string& folder) {
  if (!searches_at_random(config)) return "";
  const std::string converted = folder + "/pissa_converted";
  return fmt::format(
      "{}: its base is the model less a start (init_lora_weights {}) that whoever loads it searches for anew. loraine finds "
      "that of its own runs again; PEFT finds another, without a word, and so does loraine where PEFT trained it. {}",
      folder, config.init_lora_weights,
      std::filesystem::exists(converted) ? "Elsewhere, use " + converted + ", which needs no start"
                                         : "pissa_convert and pissa_iter: -1 make adapters that all load alike");
}

std::vector<std::pair<ErrorKind, std::string>> adapter_warnings(const LoraConfig& config, const std::string& folder,
                                                                const ModelFiles& base) {
  std::vector<std::pair<ErrorKind, std::string>> all;
  if (std::string text = base_mismatch(config, folder, base); !text.empty()) all.emplace_back(ErrorKind::usage, std::move(text));
  if (!config.unknown_keys.empty())
    all.emplace_back(ErrorKind::bad_data,
                     fmt::format("{}/adapter_config.json: unknown keys are left out of account, as PEFT does with those of a later version "
                                 "than its own: {}",
                                 folder, fmt::join(config.unknown_keys, ", ")));
  if (std::string text = random_start_text(config, folder); !text.empty()) all.emplace_back(ErrorKind::bad_data, std::move(text));
  if (config.init_lora_weights == "lora_ga")
    all.emplace_back(ErrorKind::bad_data,
                     folder +
                         ": its start has changed its base (init_lora_weights lora_ga); as PEFT does it runs over the base that is given, "
                         "which is right over the one that was saved with it alone");
  return all;
}

void write_peft(const AdapterSet& set, const LoraConfig& config, const std::string& folder) {
  make_folders(folder);
  std::vector<std::pair<std::string, Tensor>> tensors;
  std::list<Buffer> memory;
  for (const Parameter& p : set.parameters())
    tensors.emplace_back(p.name,
                         config.adalora ? living_ranks(p.name, p.value, config.adalora->rank_pattern, memory.emplace_back()) : p.value);
  for (const Parameter& p : set.beside)
    tensors.emplace_back(p.name, is_packed(p.value.dtype) ? unpacked(p.value, memory.emplace_back()) : p.value);
  write_safetensors(folder + "/adapter_model.safetensors", tensors, {{"format", "pt"}});
  write_file(folder + "/adapter_config.json", peft_config(config).dump(2));
}

}  // namespace loraine
