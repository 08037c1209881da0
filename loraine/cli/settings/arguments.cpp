// Files, overrides and flags to settings, and the help of a command. Called by every command.
#include "loraine/cli/settings/arguments.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/language/language.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/reference/reference.h"
#include "loraine/cli/settings/interpolation.h"
#include "loraine/cli/settings/v1_settings.h"
#include "loraine/cli/settings/yaml_values.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/config/other_words.h"

namespace loraine {
namespace {

Setting setting_of(const KeyValue& pair) {
  Setting setting{.key = pair.key, .text = {}, .typed = true, .bare = false, .where = pair.where, .source = pair.override_word ? 1 : 0};
  setting.word = pair.word;
  if (pair.plain) {
    setting.typed = false;
    setting.text = pair.value.get<std::string>();
  } else if (pair.value.is_number_float() && !std::isfinite(pair.value.get<double>())) {  // JSON text has no word for these
    double x = pair.value.get<double>();
    setting.typed = false;
    setting.text = std::isnan(x) ? "nan" : x > 0 ? "inf" : "-inf";
  } else {
    setting.text = pair.value.dump(-1, ' ', false, Value::error_handler_t::replace);
  }
  return setting;
}

bool ends_with_any(const std::string& text, std::initializer_list<const char*> ends) {
  return std::ranges::any_of(ends, [&](const char* end) { return text.ends_with(end); });
}

std::vector<KeyValue> read_settings_file(const std::string& path) {
  std::string text;
  try {
    text = read_file(path, 1 << 20);
  } catch (const Error& error) { throw Error(error.kind == ErrorKind::bad_data ? ErrorKind::usage : error.kind, error.what(), error.hint); }
  return path.ends_with(".json") ? json_pairs(text, path) : yaml_pairs(text, path);
}

bool is_flag(const std::string& word) { return word.size() > 2 && word.starts_with("--"); }

// The options that a command reads, in `loraine COMMAND --help`; for the others it says that it does not.
bool command_reads(const std::string& command, const Option& option) {
  using Names = std::set<std::string>;
  static const Names kModel = {"model_name_or_path",  "adapter_name_or_path", "model_revision", "quantization_bit", "quantization_type",
                               "double_quantization", "quantization_method",  "hqq_axis",       "hqq_group_size",   "strict",
                               "cache_dir",           "adapter_folder",       "hf_hub_token",   "ms_hub_token"};
  static const Names kTokens = {"resize_vocab", "add_tokens", "add_special_tokens", "new_special_tokens_config", "init_special_tokens"};
  static const Names kCompute = {"infer_dtype", "bf16", "frozen_matmul", "device"};
  static const Names kAnswers = {"split_special_tokens", "template", "default_system", "enable_thinking", "preserve_thinking",
                                 "tool_format",          "seed"};
  static const Names kNotEvaluated = {
      "dataset", "val_size", "allow_data_change", "streaming", "buffer_size", "dataloader_num_workers", "eval_on_each_dataset"};
  static const Names kEval = {"stage",
                              "output_dir",
                              "per_device_eval_batch_size",
                              "compute_accuracy",
                              "do_eval",
                              "memory_limit",
                              "use_dft_loss",
                              "use_asft_loss",
                              "asft_alpha",
                              "use_eaft_loss",
                              "eaft_alpha",
                              "label_smoothing_factor"};
  static const Names kUpload = {"hub_token", "hub_private_repo", "hub_revision"};
  static const Names kLoftqStart = {"lora_rank",  "lora_alpha",   "lora_target",         "init_lora_weights", "loftq_bits",
                                    "loftq_iter", "rank_pattern", "layers_to_transform", "layers_pattern",    "exclude_modules"};
  const std::string &name = option.name, &group = option.group;
  const bool generation = group == "generation";
  const bool changes_model = kTokens.contains(name) || name == "rope_scaling";  // of commands that answer with it or write it
  if (name == "language") return true;
  static const Names kDrawn = {"temperature", "top_p", "top_k", "repetition_penalty"};  // stage grpo
  if (command == "train" || command == "compare")
    return (!generation || kDrawn.contains(name)) && group != "export" && name != "infer_dtype";
  if (command == "chat") return kModel.contains(name) || kCompute.contains(name) || kAnswers.contains(name) || generation || changes_model;
  if (command == "serve" || command == "api")
    return kModel.contains(name) || kCompute.contains(name) || kAnswers.contains(name) || changes_model ||
           (generation && name != "num_beams" && name != "length_penalty");
  if (command == "eval")
    return changes_model || kModel.contains(name) || kCompute.contains(name) || kAnswers.contains(name) || kEval.contains(name) ||
           generation || group == "preferences" || (group == "data" && !kNotEvaluated.contains(name));
  if (command == "data")
    return group == "data" || kTokens.contains(name) || name == "model_name_or_path" || name == "model_revision" ||
           name == "adapter_name_or_path" || name == "strict" || name == "split_special_tokens" || name == "stage" || name == "seed" ||
           name == "max_steps" || name == "max_prompt_length";
  if (command == "trace") return kModel.contains(name) || kCompute.contains(name) || name == "max_new_tokens";
  if (command == "export")
    return changes_model || (kModel.contains(name) && !name.starts_with("hqq_")) || kLoftqStart.contains(name) || group == "export" ||
           kUpload.contains(name) || name == "infer_dtype" || name == "template" || name == "overwrite_output_dir";
  if (command == "upload") return kUpload.contains(name) || name == "hub_model_id" || name == "hf_hub_token" || name == "ms_hub_token";
  if (command == "bench")
    return (kModel.contains(name) && !name.starts_with("adapter_") && name != "strict") || name == "frozen_matmul" ||
           name == "gradient_checkpointing";
  return command == "tokenize" && (name == "model_name_or_path" || name == "model_revision" || name == "split_special_tokens" ||
                                   name == "cache_dir" || name == "hf_hub_token" || name == "ms_hub_token");
}

// Options that are known and given, and that the command does not read.
std::string unread_note(const std::string& command, std::span<const Setting> settings, std::span<const Option> own) {
  TrainConfig config;
  std::vector<std::string> unread;
  for (const Option& option : options_of(config)) {
    const auto names_it = [&](const Setting& setting) { return setting.key == option.name || setting.key == "no_" + option.name; };
    const auto same = [&](const Option& other) { return other.name == option.name; };
    if (!command_reads(command, option) && std::ranges::any_of(settings, names_it) && std::ranges::none_of(own, same))
      unread.push_back(option.name);
  }
  if (command == "data") return "";  // it is given the settings of a whole run
  return unread.empty() ? "" : fmt::format("{} does not read {}", command, fmt::join(unread, ", "));
}

bool help_as_words = false;

int screen_columns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

}  // namespace

std::vector<Setting> read_arguments(const std::vector<std::string>& args, bool training, std::vector<std::string>* notes) {
  std::vector<KeyValue> pairs;
  std::vector<Setting> settings, flags;
  size_t i = 0;
  bool file =
      !args.empty() && !is_flag(args[0]) && args[0].find('=') == std::string::npos && ends_with_any(args[0], {".yaml", ".yml", ".json"});
  if (file) pairs = read_settings_file(args[i++]);
  for (; i < args.size(); ++i) {
    const std::string& word = args[i];
    if (is_flag(word)) {
      size_t equals = word.find('=');
      std::string key = word.substr(2, equals == word.npos ? equals : equals - 2);
      std::ranges::replace(key, '-', '_');
      Setting setting{.key = key, .text = {}, .typed = false, .bare = false, .where = "--" + key, .source = 2};
      if (equals != word.npos) setting.text = word.substr(equals + 1);
      else if (i + 1 < args.size() && !is_flag(args[i + 1])) setting.text = args[++i];
      else setting.bare = true;
      flags.push_back(setting);
      continue;
    }
    if (word.find('=') == word.npos)
      throw Error(ErrorKind::usage, fmt::format("'{}' is neither --key value nor key=value", word),
                  i == 0 ? "the first argument may be a .yaml, .yml or .json file" : "write key=value, or --key value");
    KeyValue pair = override_pair(word);
    pair.override_word = true;
    auto same = std::ranges::find_if(pairs, [&](const KeyValue& p) { return p.key == pair.key; });
    if (same == pairs.end()) {
      pairs.push_back(pair);
    } else {
      merge_value(same->value, pair.value);
      same->where = pair.where;
      same->override_word = true;
    }
  }
  resolve_interpolations(pairs);
  std::vector<std::string> about_v1;
  translate_v1(pairs, training, notes ? *notes : about_v1);
  for (const KeyValue& pair : pairs) settings.push_back(setting_of(pair));
  settings.insert(settings.end(), flags.begin(), flags.end());
  return settings;
}

void give_help_as_words() { help_as_words = true; }

std::string command_help(const std::string& command, std::span<const Option> extra, const std::string& ending) {
  TrainConfig config;
  std::vector<Option> options(extra.begin(), extra.end());
  for (const Option& option : options_of(config))
    if (command_reads(command, option)) options.push_back(option);
  if (help_as_words) return completion_words(options);
  std::string text =
      example_text(command) + fmt::format(
                                  "usage: loraine {0} [FILE.yaml] [key=value ...]\n       loraine {0} --key value ...\n\n"
                                  "Keys and defaults are LLaMA-Factory's. A flag without a value is true; --no_KEY is false.\n",
                                  command);
  return text + options_help(options, screen_columns()) + ending;
}

bool read_config(const std::vector<std::string>& args, const std::string& command, TrainConfig& config, std::span<const Option> extra) {
  if (std::ranges::any_of(args, [](const std::string& word) { return word == "--help" || word == "-h"; })) {
    std::fputs(command_help(command, extra).c_str(), stdout);
    return false;
  }
  std::vector<std::string> words;
  const std::vector<Setting> given = read_arguments(args, command == "train" || command == "compare", &words);
  std::string language;  // before anything is said
  for (const Setting& setting : given)
    if (setting.key == "language") set_option({"language", "", &language, ""}, setting);
  if (!language.empty()) choose_language(language);
  const std::vector<Setting> settings = in_own_words(given, extra, words);
  for (const std::string& word : words) print_stderr("note: " + word + "\n");
  for (const SettingNote& note : apply_settings(config, settings, extra)) {
    if (note.warning) input_warning(note.text, config.strict, ErrorKind::usage);
    else print_stderr("note: " + note.text + "\n");
  }
  for (const std::string& note : config_notes(config)) print_stderr("note: " + note + "\n");
  if (const std::string note = unread_note(command, settings, extra); !note.empty()) print_stderr("note: " + note + "\n");
  check_hub_config(config);
  if (command == "train") check_train_config(config);
  if (command == "chat") check_chat_config(config);
  if (command == "export") check_export_config(config);
  return true;
}

}  // namespace loraine
