// See facts.h.
#include "loraine/adapters/stored/facts.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/core/error.h"
#include "loraine/core/lower_case.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/tensors/read_elements.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using AdapterJson = nlohmann::ordered_json;

constexpr std::string_view kPeftPrefix = "base_model.model.";
constexpr std::string_view kLowRankKinds[] = {
    ".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B",      ".lora_A",
    ".lora_B",        ".lora_E",        ".lora_B.bias",      ".lora_magnitude_vector", ".lora_magnitude_vector.weight"};

std::string text_at(const AdapterJson& config, const char* key) {
  const auto at = config.find(key);
  return at != config.end() && at->is_string() ? at->get<std::string>() : "";
}

std::vector<std::string> texts_at(const AdapterJson& config, const char* key) {
  std::vector<std::string> out;
  const auto at = config.find(key);
  if (at == config.end()) return out;
  if (at->is_string()) out.push_back(at->get<std::string>());
  if (at->is_array())
    for (const AdapterJson& item : *at)
      if (item.is_string()) out.push_back(item.get<std::string>());
  return out;
}

// The words of the method: what it is, then what changes it.
std::string method_words(const AdapterJson& config) {
  const std::string type = lower_case(text_at(config, "peft_type"));
  if (type != "lora") return type;
  std::vector<std::string> words;
  if (!is_switched_off(config, "use_dora")) words.push_back("dora");
  if (!is_switched_off(config, "use_rslora")) words.push_back("rslora");
  const std::string start = lower_case(text_at(config, "init_lora_weights"));
  for (const char* known : {"pissa", "olora", "loftq", "corda", "eva", "lora_ga"})
    if (start.starts_with(known)) words.push_back(known);
  for (const auto& [key, word] : {std::pair{"use_qalora", "qalora"},
                                  {"use_bdlora", "bdlora"},
                                  {"alora_invocation_tokens", "alora"},
                                  {"arrow_config", "arrow"},
                                  {"kasa_config", "kasa"},
                                  {"monteclora_config", "monteclora"},
                                  {"velora_config", "velora"}})
    if (!is_switched_off(config, key)) words.push_back(word);
  if (words.empty()) words.push_back("lora");
  return fmt::format("{}", fmt::join(words, ", "));
}

void read_tensor_facts(AdapterFacts& facts, const TensorSource& source) {
  const PeftMethodKind* method = find_peft_type(text_at(facts.config, "peft_type"));
  std::set<std::string> modules;
  for (const TensorInfo& info : source.tensors()) {
    facts.parameters += element_count(info);
    if (std::ranges::find(facts.dtypes, info.stored_as) == facts.dtypes.end()) facts.dtypes.push_back(info.stored_as);
    const auto [path, kind] = adapter_tensor_name(info.name);
    if (const size_t at = method ? path.rfind(method->tensors) : path.npos; at != path.npos) {
      if (info.name.starts_with(kPeftPrefix)) modules.insert(path.substr(0, at));  // not what all modules share
      continue;
    }
    if (kind.empty()) {
      if (path.ends_with(".trainable_tokens_delta")) facts.trained_tokens = true;
      else if (!path.ends_with(".base_layer.weight")) facts.whole.push_back(path);
      continue;
    }
    facts.magnitudes |= kind.starts_with("lora_magnitude_vector");
    facts.bias_of_b |= kind == "lora_B.bias";
    facts.embedding |= kind.starts_with("lora_embedding_");
    if (!kind.starts_with("lora_A") && kind != "lora_embedding_A") continue;
    facts.head |= path == "lm_head" || path.ends_with(".lm_head");
    modules.insert(path);
    if (path.ends_with(".experts") || path.ends_with(".experts.base_layer")) facts.experts.push_back(path);
    else if (!info.shape.empty()) {
      const int64_t r = info.shape[0];
      facts.least_rank = facts.largest_rank == 0 ? r : std::min(facts.least_rank, r);
      facts.largest_rank = std::max(facts.largest_rank, r);
    }
  }
  facts.modules = static_cast<int64_t>(modules.size());
}

}  // namespace

AdapterTensorName adapter_tensor_name(const std::string& name) {
  std::string path = name.starts_with(kPeftPrefix) ? name.substr(kPeftPrefix.size()) : name;
  for (const std::string_view kind : kLowRankKinds)
    if (path.ends_with(kind)) return {path.substr(0, path.size() - kind.size()), std::string(kind.substr(1))};
  return {std::move(path), ""};
}

bool is_switched_off(const nlohmann::ordered_json& config, const char* key) {
  const auto at = config.find(key);
  if (at == config.end() || at->is_null()) return true;
  if (at->is_boolean()) return !at->get<bool>();
  if (at->is_array() || at->is_object()) return at->empty();
  return at->is_string() && (at->get<std::string>().empty() || *at == "none");
}

AdapterFacts read_adapter_facts(const std::string& folder) {
  AdapterFacts facts;
  facts.folder = folder;
  const std::string config_file = folder + "/adapter_config.json";
  facts.config = parse_json_file_in_order(config_file);
  if (!facts.config.is_object() || text_at(facts.config, "peft_type").empty())
    throw Error(ErrorKind::bad_data, config_file + ": no peft_type, so this is not a PEFT adapter",
                facts.config.is_object() && facts.config.contains("lora_parameters")
                    ? "it is one of mlx-lm: loraine adapter convert --to peft"
                    : "");
  facts.method = method_words(facts.config);
  facts.base = text_at(facts.config, "base_model_name_or_path");
  facts.peft_version = text_at(facts.config, "peft_version");
  facts.task = text_at(facts.config, "task_type");
  if (const auto r = facts.config.find("r"); r != facts.config.end() && r->is_number_integer()) facts.r = r->get<int64_t>();
  if (const auto alpha = facts.config.find("lora_alpha"); alpha != facts.config.end() && alpha->is_number())
    facts.alpha = alpha->get<double>();
  if (facts.method == "adalora")
    if (const auto r = facts.config.find("init_r"); r != facts.config.end() && r->is_number_integer()) facts.r = r->get<int64_t>();
  facts.targets = texts_at(facts.config, "target_modules");
  facts.target_pattern = facts.config.contains("target_modules") && facts.config["target_modules"].is_string();
  std::ranges::sort(facts.targets);
  facts.target_parameters = texts_at(facts.config, "target_parameters");
  facts.modules_to_save = texts_at(facts.config, "modules_to_save");
  const AdapterFile file = open_adapter_file(folder);
  facts.file = file.path;
  std::error_code failed;
  facts.bytes = static_cast<int64_t>(fs::file_size(file.path, failed));
  if (failed) throw Error(ErrorKind::io, file.path + ": its size cannot be read: " + failed.message());
  read_tensor_facts(facts, *file.tensors);
  return facts;
}

std::vector<std::string> find_adapters(const std::string& root) {
  std::error_code failed;
  if (!fs::is_directory(root, failed)) throw Error(ErrorKind::bad_data, root + ": no such folder", "give a folder with adapters under it");
  std::vector<std::string> found;
  const auto look = [&](const fs::path& folder) {
    if (std::error_code absent; fs::is_regular_file(folder / "adapter_config.json", absent)) found.push_back(folder.string());
  };
  look(root);
  for (auto at = fs::recursive_directory_iterator(root, fs::directory_options::skip_permission_denied, failed);
       !failed && at != fs::recursive_directory_iterator(); at.increment(failed)) {
    if (!at->is_directory(failed)) {
      failed.clear();
      continue;
    }
    if (at->path().filename().string().starts_with(".")) at.disable_recursion_pending();
    else look(at->path());
  }
  if (failed) throw Error(ErrorKind::io, root + ": cannot be walked through: " + failed.message());
  std::ranges::sort(found);
  return found;
}

}  // namespace loraine
