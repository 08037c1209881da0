// Settings as JSON, brought to one form before they are compared.
#include "loraine/train/records/run_record.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/optimizers/recipe.h"
#include "loraine/train/records/python_number.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using Names = std::set<std::string>;

// Of this call alone, or of other commands.
const Names kOfTheCall = {"output_dir",
                          "overwrite_output_dir",
                          "do_train",
                          "resume_from_checkpoint",
                          "dry_run",
                          "strict",
                          "allow_data_change",
                          "memory_limit",
                          "infer_dtype",
                          "model_name_or_path",
                          "model_revision",
                          "cache_dir",
                          "push_to_hub",
                          "hub_model_id",
                          "hub_private_repo",
                          "hub_revision",
                          "hub_strategy",
                          "language",
                          "device"};
// What is logged, saved and evaluated, how long the run is, and what gives the same bits.
const Names kFree = {
    "max_steps",       "num_train_epochs",     "do_eval",          "per_device_eval_batch_size",    "gradient_checkpointing",
    "plot_loss",       "early_stopping_steps", "compute_accuracy", "include_num_input_tokens_seen", "pissa_convert",
    "log_completions", "num_generations_eval"};
// Of the group of answers, what stage grpo reads.
const Names kDrawn = {"temperature", "top_p", "top_k", "repetition_penalty"};
// Read only where another key has a value that is not this one: key, the other, the value (JSON).
struct Beside {
  Names keys;
  const char* other;
  const char* without;
};
const std::vector<Beside>& besides() {
  static const std::vector<Beside> all = {
      {{"init_r", "target_r", "tinit", "tfinal", "deltaT", "beta1", "beta2", "orth_reg_weight"}, "use_adalora", "false"},
      {{"pissa_iter", "pissa_convert"}, "pissa_init", "false"},
      {{"quant_aware_steps"}, "quant_aware", "null"},
      {{"loraplus_lr_embedding"}, "loraplus_lr_ratio", "null"},
      {{"quantization_type", "double_quantization", "quantization_method", "hqq_axis", "hqq_group_size"}, "quantization_bit", "null"},
      {{"hqq_axis", "hqq_group_size"}, "quantization_method", "\"bnb\""},
      {{"galore_target", "galore_rank", "galore_update_interval", "galore_scale", "galore_proj_type", "galore_layerwise"},
       "use_galore",
       "false"},
      {{"apollo_target", "apollo_rank", "apollo_update_interval", "apollo_scale", "apollo_proj", "apollo_proj_type", "apollo_scale_type",
        "apollo_layerwise", "apollo_scale_front"},
       "use_apollo",
       "false"},
      {{"badam_mode", "badam_start_block", "badam_switch_mode", "badam_switch_interval", "badam_update_ratio", "badam_mask_mode"},
       "use_badam",
       "false"},
  };
  return all;
}

std::string canonical(const std::string& path) {
  std::error_code failed;
  if (!fs::exists(path, failed)) return path;
  const fs::path whole = fs::canonical(path, failed);
  return failed ? path : whole.string();
}

// One form for settings that say the same.
Value in_one_form(Value s) {
  const auto null = [&](const char* key) { return !s.contains(key) || s[key].is_null(); };
  if (null("lora_alpha") && s["lora_rank"].is_number_integer()) s["lora_alpha"] = 2 * s["lora_rank"].get<int64_t>();
  if (null("data_seed")) s["data_seed"] = s["seed"];
  if (!null("warmup_ratio")) s["warmup_steps"] = s["warmup_ratio"];
  s.erase("warmup_ratio");
  if (s["optim"].is_string()) s["optim"] = optimizer_form(s["optim"].get<std::string>());
  for (auto& [key, value] : s.items())
    if (value.is_string()) {
      std::string text;
      for (const char c : value.get<std::string>())
        if (c != ' ' || text.empty() || text.back() != ',') text += c;
      value = text;
    }
  const std::string type = s["finetuning_type"].is_string() ? s["finetuning_type"].get<std::string>() : "";
  if (s["init_lora_weights"] != "loftq")
    for (const char* key : {"loftq_bits", "loftq_iter"}) s.erase(key);
  const std::string start = s["init_lora_weights"].is_string() ? s["init_lora_weights"].get<std::string>() : "";
  std::vector<std::string> of_other_starts;
  for (const auto& [key, value] : s.items())
    for (const char* own : {"eva", "corda", "lora_ga"})
      if (key.starts_with(std::string(own) + "_") && start != own) of_other_starts.push_back(key);
  if (start != "eva" && start != "corda" && start != "lora_ga") of_other_starts.push_back("start_samples");
  for (const std::string& key : of_other_starts) s.erase(key);
  std::vector<std::string> unread;
  for (const auto& [key, value] : s.items())
    if (!reads_key(type, key)) unread.push_back(key);
  for (const Beside& one : besides())
    if (s.contains(one.other) && s[one.other] == Value::parse(one.without)) unread.insert(unread.end(), one.keys.begin(), one.keys.end());
  for (const std::string& key : unread) s.erase(key);
  if (s["max_steps"].is_number() && s["max_steps"] > 0) s.erase("num_train_epochs");
  return s;
}

// What counts in stage grpo where it is not given, and the checks by what they say.
void note_rollouts(const TrainConfig& config, Value& settings) {
  if (config.stage != "grpo" || !config.grpo.reward_checks) return;
  const RolloutSampling sampling = rollout_sampling(config);
  settings["temperature"] = sampling.temperature;
  settings["top_p"] = sampling.top_p;
  settings["top_k"] = sampling.top_k;
  settings["repetition_penalty"] = sampling.repetition_penalty;
  settings["scale_rewards"] = reward_scale(config);
  const std::string text = read_file(*config.grpo.reward_checks, 1 << 24);
  settings["reward_checks"] = fmt::format("{} (crc32 {:08x})", fs::path(*config.grpo.reward_checks).filename().string(),
                                          crc32_z(0, reinterpret_cast<const Bytef*>(text.data()), text.size()));
}

std::string shown(const Value& value) {
  if (value.is_null()) return "not set";
  const std::string text = value.is_string() ? value.get<std::string>() : python_json(value, -1, false);
  return text.size() > 80 ? text.substr(0, 80) + "…" : text;
}

}  // namespace

std::string base_fingerprint(const ModelFiles& files) {
  constexpr std::streamoff kPiece = 4096;
  std::vector<fs::path> weights;
  std::error_code failed;
  if (fs::is_directory(files.path, failed)) {
    for (fs::directory_iterator it(files.path, failed), end; !failed && it != end; it.increment(failed))
      if (const std::string kind = it->path().extension().string(); kind == ".safetensors" || kind == ".bin" || kind == ".gguf")
        weights.push_back(it->path());
    std::ranges::sort(weights);
  } else {
    weights.emplace_back(files.path);
  }
  const std::string config = files.config.dump();
  uLong first = crc32_z(0, reinterpret_cast<const Bytef*>(config.data()), config.size()), second = 0;
  for (const fs::path& path : weights) {
    std::ifstream file(path, std::ios::binary | std::ios::ate);
    const std::streamoff size = file.tellg();
    second = crc32_z(second, reinterpret_cast<const Bytef*>(&size), sizeof size);
    for (const std::streamoff at : {std::streamoff{0}, size / 3, size / 3 * 2, size - kPiece}) {  // headers, and values
      char piece[kPiece];
      file.clear();
      file.seekg(std::max<std::streamoff>(0, at));
      file.read(piece, kPiece);
      second = crc32_z(second, reinterpret_cast<const Bytef*>(piece), static_cast<size_t>(file.gcount()));
    }
  }
  return fmt::format("{:08x}{:08x}", first, second);
}

RunRecord run_record(const TrainConfig& config, const std::string& base) {
  Value settings = Value::parse(config_json(config));
  std::string adapters;
  for (const std::string& path : split_list(config.adapter_name_or_path)) adapters += (adapters.empty() ? "" : ",") + canonical(path);
  if (!adapters.empty()) settings["adapter_name_or_path"] = adapters;
  note_rollouts(config, settings);
  return {settings.dump(-1, ' ', false, Value::error_handler_t::replace), base};
}

void write_run_record(const std::string& folder, const RunRecord& record) {
  const OrderedJson json = {{"format", 1}, {"base", record.base}, {"settings", OrderedJson::parse(record.settings)}};
  write_file(folder + "/" + kRunRecord, json.dump(2, ' ', false, OrderedJson::error_handler_t::replace) + "\n");
}

std::optional<RunRecord> read_run_record(const std::string& folder) {
  const std::string path = folder + "/" + kRunRecord;
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  const OrderedJson json = parse_json_file_in_order(path);
  if (!json.is_object() || !json.contains("settings") || !json["settings"].is_object() || !json.contains("base") ||
      !json["base"].is_string())
    throw Error(ErrorKind::bad_data, path + ": it is no record of a run, which has `settings` and `base`",
                "remove it to go on without a look at the settings");
  return RunRecord{json["settings"].dump(), json["base"]};
}

ChangedSettings changed_settings(const RunRecord& record, const TrainConfig& config) {
  Value before = Value::parse(config_json(TrainConfig()));  // an option that came later had its default
  before.update(Value::parse(record.settings));
  const Value was = in_one_form(before), now = in_one_form(Value::parse(run_record(config, "").settings));
  TrainConfig copy = config;
  // The rate follows the evaluations.
  const bool by_evaluations = config.lr_scheduler_type == "reduce_lr_on_plateau";
  ChangedSettings changed;
  for (const Option& option : options_of(copy)) {
    const std::string &key = option.name, &group = option.group;
    const bool drawn = config.stage == "grpo" && was["stage"] == "grpo" && kDrawn.contains(key);
    if (kOfTheCall.contains(key) || (group == "generation" && !drawn) || group == "export") continue;
    if (!was.contains(key) || !now.contains(key) || was[key] == now[key]) continue;  // one that is not read goes with one that is
    const std::string text = fmt::format("{} differs (was {}, now {})", key, shown(was[key]), shown(now[key]));
    const bool evaluation = by_evaluations && (key == "eval_strategy" || key == "eval_steps" || key.ends_with("_best_model"));
    if (group == "data" || key == "split_special_tokens") changed.data.push_back(text);
    else if (!evaluation && (kFree.contains(key) || group.starts_with("logging"))) changed.free.push_back(text);
    else changed.result.push_back(text);
  }
  return changed;
}

}  // namespace loraine
