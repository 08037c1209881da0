// How settings are applied, and kept. Called by cli/arguments.
#include "loraine/train/config/config.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/json_file.h"
#include "loraine/train/config/other_keys.h"
#include "loraine/train/config/other_words.h"

namespace loraine {
namespace {

bool same_as_default(const Setting& setting, const OtherKey& key) {
  Value standard = Value::parse(key.default_value);
  if (setting.bare) return standard == Value(true);
  if (const std::optional<bool> yes = yes_or_no(setting); yes && standard.is_boolean()) return standard == Value(*yes);
  Value value;
  if (setting.typed) {
    value = Value::parse(setting.text);
  } else {
    std::string lower = setting.text;
    for (char& c : lower) c = static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    value = Value::parse(lower, nullptr, false);
    if (value.is_discarded() || standard.is_string()) value = setting.text;
    if (lower == "none" || lower == "no" || lower == "f" || lower == "n") value = standard.is_string() ? Value(setting.text) : Value(false);
  }
  if (value.is_null() || value == standard) return true;
  return standard.is_null() && (value == Value(false) || value == Value("") || value == Value("null"));
}

// "~" and "~/…" at the beginning of a path, or of each path of a comma list, behind its name=.
std::string with_home(const std::string& paths) {
  const char* home = std::getenv("HOME");
  if (!home || paths.find('~') == std::string::npos) return paths;
  std::string result;
  bool begins = true;
  for (size_t i = 0; i < paths.size(); ++i) {
    const bool tilde = begins && paths[i] == '~' && (i + 1 == paths.size() || paths[i + 1] == '/' || paths[i + 1] == ',');
    result += tilde ? home : std::string(1, paths[i]);
    begins = paths[i] == ',' || paths[i] == '=' || (begins && paths[i] == ' ');
  }
  return result;
}

// LLaMA-Factory (transformers) does so for output_dir alone, and does not find the others.
void put_home_in(TrainConfig& c) {
  for (std::string* path : {&c.model_name_or_path, &c.dataset_dir, &c.output_dir}) *path = with_home(*path);
  for (std::optional<std::string>* path : {&c.adapter_name_or_path, &c.dataset, &c.eval_dataset, &c.resume_from_checkpoint, &c.export_dir,
                                           &c.logging_dir, &c.new_special_tokens_config})
    if (*path) *path = with_home(**path);
}

[[noreturn]] void unknown_key(const Setting& setting, const std::vector<std::string>& known) {
  std::string near = nearest_word(setting.key, known);
  const char* extra = std::getenv("ALLOW_EXTRA_ARGS");  // LLaMA-Factory's switch for dropping such a key
  throw Error(ErrorKind::usage, fmt::format("{}: unknown key '{}'", setting.where, setting.key),
              (near.empty() ? "" : "did you mean '" + near + "'? ") + std::string("`loraine help train` lists all keys") +
                  (extra && *extra ? "; ALLOW_EXTRA_ARGS has no effect here: a key is never passed over, take it out" : ""));
}

[[noreturn]] void refuse(const Setting& setting, const OtherKey& key) {
  const std::string value = setting.bare ? "true" : setting.text;
  if (key.kind == OtherKeyKind::refused) {
    const std::string text = key.text;
    const size_t end = text.rfind(": ");
    throw Error(ErrorKind::unsupported, fmt::format("{}: {} is {}: {}", setting.where, setting.key, value, text.substr(0, end)),
                text.substr(end + 2));
  }
  throw Error(ErrorKind::unsupported,
              fmt::format("{}: {} is {}; loraine knows this key of LLaMA-Factory and does not do it yet, only its default ({})",
                          setting.where, setting.key, value, key.default_value),
              "leave the key out, or set it to its default");
}

// Values of LLaMA-Factory's that something else stands for.
void refuse_replaced(const Option& option, const Setting& setting) {
  struct Replaced {
    const char *key, *value, *why, *instead;
  };
  static constexpr Replaced kAll[] = {
      {"stage", "ppo", "LLaMA-Factory 0.9.5 refuses it too, with every trl that it can be installed with",
       "use stage: grpo, which trains on rewards of answers that it generates, by a reward model among others (reward_checks), and needs "
       "no "
       "value model; with preferences at hand stage: dpo does without a reward model and without sampling, of answers judged one by one "
       "stage: kto. A reward model by itself is stage: rm"},
      {"pref_loss", "kto_pair", "trl no longer has it, and LLaMA-Factory computes sigmoid in its place",
       "use pref_loss: sigmoid; of answers judged one by one, stage: kto"}};
  for (const Replaced& one : kAll)
    if (option.name == one.key && (setting.text == one.value || setting.text == fmt::format("\"{}\"", one.value)))
      throw Error(ErrorKind::unsupported,
                  fmt::format("{}: {} is {}, which loraine does not do; {}", setting.where, one.key, one.value, one.why), one.instead);
}

// The file of settings that a key of several processes names: a wrong name is a mistake whether the file is used or not.
void check_named_file(const Setting& setting) {
  Value value = setting.typed ? Value::parse(setting.text) : Value(setting.text);
  if (!value.is_string() || setting.key == "fsdp") return;
  const auto path = value.get<std::string>();
  if (path.starts_with("{") && Value::accept(path)) return;  // a flag with the settings themselves
  try {
    parse_json_file(with_home(path));
  } catch (const Error& error) {
    throw Error(ErrorKind::usage, fmt::format("{}: {}: {}", setting.where, setting.key, error.what()),
                "name a JSON file that is there, or leave the key out: there is one process, and nothing to shard");
  }
}

// A key in LLaMA-Factory's word and in another's, from one source, with two values.
class GivenTwice {
 public:
  void check(const Setting& setting, const std::string& value) {
    const std::string word = setting.word.empty() ? setting.key : setting.word;
    const auto [found, is_new] = given_.try_emplace(setting.key, Given{setting.source, word, setting.where, value});
    Given& former = found->second;
    if (is_new) return;
    if (former.source == setting.source && former.word != word && former.value != value)
      throw Error(ErrorKind::usage,
                  fmt::format("{}: `{}` makes {} {}, and `{}` ({}) makes it {}", setting.where, word, setting.key, value, former.word,
                              former.where, former.value),
                  "leave one of the two out");
    former = {setting.source, word, setting.where, value};
  }

 private:
  struct Given {
    int source;
    std::string word, where, value;
  };
  std::map<std::string, Given> given_;
};

// transformers' words for device: cpu.
bool asks_for_cpu(const Setting& setting) {
  return (setting.key == "use_cpu" || setting.key == "no_cuda") && yes_or_no(setting).value_or(false);
}

}  // namespace

std::vector<SettingNote> apply_settings(TrainConfig& config, std::span<const Setting> settings, std::span<const Option> extra) {
  std::vector<Option> options = options_of(config);
  options.insert(options.end(), extra.begin(), extra.end());
  std::vector<std::string> words, known, without_effect, of_several_processes;
  std::vector<SettingNote> notes;
  std::optional<Setting> for_cpu;
  GivenTwice given_twice;
  for (const Option& option : options) known.push_back(option.name);
  for (const OtherKey& key : other_keys()) known.push_back(key.name);
  for (const Setting& given : in_own_words(settings, extra, words)) {
    Setting setting = given;
    auto named = [&](const auto& option) { return option.name == setting.key; };
    auto option = std::ranges::find_if(options, named);
    auto other = std::ranges::find_if(other_keys(), named);
    if (option == options.end() && other == other_keys().end() && setting.key.starts_with("no_") && setting.bare) {  // --no_flag
      setting.key = setting.key.substr(3);
      setting.bare = false;
      setting.typed = true;
      setting.text = "false";
      option = std::ranges::find_if(options, named);
      other = std::ranges::find_if(other_keys(), named);
      if (option != options.end() && !is_switch(*option)) option = options.end();
      if (option == options.end() && other == other_keys().end()) unknown_key(given, known);
    }
    if (option != options.end()) {
      refuse_replaced(*option, setting);
      set_option(*option, setting);
      config.given.insert(option->name);
      given_twice.check(setting, value_text(*option));
    } else if (other == other_keys().end()) {
      unknown_key(setting, known);
    } else if (other->kind == OtherKeyKind::warned && setting.text != "null") {
      notes.push_back({fmt::format("{}: {} has no effect in loraine; {}", setting.where, setting.key, other->text), true});
    } else if (asks_for_cpu(setting)) {
      for_cpu = setting;
    } else if (other->kind == OtherKeyKind::no_effect || other->kind == OtherKeyKind::warned) {
      if (std::ranges::find(without_effect, setting.key) == without_effect.end()) without_effect.push_back(setting.key);
    } else if (!same_as_default(setting, *other)) {
      if (other->kind != OtherKeyKind::one_process) refuse(setting, *other);
      check_named_file(setting);
      if (std::ranges::find(of_several_processes, setting.key) == of_several_processes.end()) of_several_processes.push_back(setting.key);
    }
  }
  if (for_cpu && config.device == "cuda")
    throw Error(ErrorKind::usage, fmt::format("{}: {} is true, and device is cuda", for_cpu->where, for_cpu->key), "leave one of them out");
  if (for_cpu) config.device = "cpu";
  put_home_in(config);
  if (config.pure_bf16) config.bf16 = true;
  for (const std::string& word : words) notes.push_back({word});
  if (!of_several_processes.empty())
    notes.push_back({fmt::format("{}: there is one process, and nothing to shard", fmt::join(of_several_processes, ", "))});
  if (!without_effect.empty()) notes.push_back({fmt::format("accepted, without effect in loraine: {}", fmt::join(without_effect, ", "))});
  return notes;
}

bool reads_key(const std::string& finetuning_type, const std::string& key) {
  static const std::set<std::string> kLora = {"use_rslora",
                                              "use_dora",
                                              "use_adalora",
                                              "init_lora_weights",
                                              "init_r",
                                              "target_r",
                                              "tinit",
                                              "tfinal",
                                              "deltaT",
                                              "beta1",
                                              "beta2",
                                              "orth_reg_weight",
                                              "use_lorafa",
                                              "start_samples",
                                              "alora_invocation_tokens",
                                              "trainable_token_indices",
                                              "quant_aware",
                                              "quant_aware_steps"};
  static const std::set<std::string> kAdapters = {"additional_target",
                                                  "bias",
                                                  "create_new_adapter",
                                                  "rank_pattern",
                                                  "alpha_pattern",
                                                  "exclude_modules",
                                                  "layers_to_transform",
                                                  "layers_pattern",
                                                  "adapter_name_or_path",
                                                  "quantization_bit",
                                                  "quantization_type",
                                                  "double_quantization",
                                                  "frozen_matmul",
                                                  "quantization_method",
                                                  "hqq_axis",
                                                  "hqq_group_size"};
  if (key.starts_with("freeze_")) return finetuning_type == "freeze";
  if (key.starts_with("oft_") || key == "module_dropout") return finetuning_type == "oft";
  const bool adapter = finetuning_type != "full" && finetuning_type != "freeze";
  if (key == "adapter_args") return adapter && finetuning_type != "lora";
  if (kAdapters.contains(key)) return adapter;
  if (key == "lora_target") return adapter && finetuning_type != "oft";
  if (key.starts_with("lora") || key.starts_with("pissa") || key.starts_with("loftq") || key.starts_with("eva_") ||
      key.starts_with("corda_") || kLora.contains(key))
    return finetuning_type == "lora";
  return true;
}

std::vector<std::string> split_list(const std::optional<std::string>& text) {
  std::vector<std::string> items;
  if (!text) return items;
  size_t start = 0;
  while (start <= text->size()) {
    size_t end = std::min(text->find(',', start), text->size());
    size_t first = start, last = end;
    while (first < last && (*text)[first] == ' ') ++first;
    while (last > first && (*text)[last - 1] == ' ') --last;
    if (last > first) items.push_back(text->substr(first, last - first));
    start = end + 1;
  }
  return items;
}

std::string config_json(const TrainConfig& config) {
  TrainConfig copy = config;
  Value record = Value::object();
  describe(copy, [&](const Option& option) {
    if (option.limits.secret) return;
    std::visit(
        [&](auto* field) {
          using Field = std::remove_pointer_t<decltype(field)>;
          auto store = [&](const auto& x) {
            if constexpr (std::is_same_v<std::remove_cvref_t<decltype(x)>, std::string>) {
              record[option.name] = option.limits.json && x.starts_with('{') ? Value::parse(x) : Value(x);
            } else {
              record[option.name] = x;
            }
          };
          if constexpr (requires(Field f) { f.has_value(); }) {
            if (*field) store(**field);
            else record[option.name] = nullptr;
          } else {
            store(*field);
          }
        },
        option.field);
  });
  return record.dump(2, ' ', false, Value::error_handler_t::replace);
}

}  // namespace loraine
