// Files, overrides and flags to settings, and the help of a command. Called by every command.
#include "loraine/cli/arguments.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

#include "loraine/cli/progress.h"
#include "loraine/cli/yaml_values.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

Setting setting_of(const KeyValue& pair) {
  Setting setting{.key = pair.key, .text = {}, .typed = true, .bare = false, .where = pair.where};
  if (pair.value.is_number_float() && !std::isfinite(pair.value.get<double>())) {  // JSON text has no word for these
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

// The groups of options that a command reads.
bool command_reads(const std::string& command, const Option& option) {
  const std::string& group = option.group;
  if (command == "train") return true;
  if (group == "model" || option.name == "finetuning_type") return true;
  if (option.name == "frozen_matmul") return command != "export";
  if (command == "chat")
    return group == "generation" || std::set<std::string>{"template", "default_system", "enable_thinking", "seed"}.contains(option.name);
  if (command == "eval")
    return group == "generation" || group == "data" ||
           std::set<std::string>{
               "output_dir",  "seed", "bf16", "do_eval", "per_device_eval_batch_size", "compute_accuracy", "label_smoothing_factor",
               "memory_limit"}
               .contains(option.name);
  if (command == "bench") return option.name == "gradient_checkpointing";
  if (command == "export") return group == "export" || option.name == "template";
  return false;
}

int screen_columns() {
  winsize size{};
  if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) return size.ws_col;
  return 100;
}

}  // namespace

std::vector<Setting> read_arguments(const std::vector<std::string>& args) {
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
      Setting setting{.key = key, .text = {}, .typed = false, .bare = false, .where = "--" + key};
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
    auto same = std::ranges::find_if(pairs, [&](const KeyValue& p) { return p.key == pair.key; });
    if (same == pairs.end()) {
      pairs.push_back(pair);
    } else {
      merge_value(same->value, pair.value);
      same->where = pair.where;
    }
  }
  for (const KeyValue& pair : pairs) settings.push_back(setting_of(pair));
  settings.insert(settings.end(), flags.begin(), flags.end());
  return settings;
}

std::string command_help(const std::string& command, std::span<const Option> extra) {
  TrainConfig config;
  std::vector<Option> options(extra.begin(), extra.end());
  for (const Option& option : options_of(config))
    if (command_reads(command, option)) options.push_back(option);
  std::string text = fmt::format(
      "usage: loraine {0} [FILE.yaml] [key=value ...]\n       loraine {0} --key value ...\n\n"
      "Keys and defaults are LLaMA-Factory's. A flag without a value is true; --no_KEY is false.\n",
      command);
  return text + options_help(options, screen_columns());
}

bool read_config(const std::vector<std::string>& args, const std::string& command, TrainConfig& config, std::span<const Option> extra) {
  if (std::ranges::any_of(args, [](const std::string& word) { return word == "--help" || word == "-h"; })) {
    std::fputs(command_help(command, extra).c_str(), stdout);
    return false;
  }
  std::vector<Setting> settings = read_arguments(args);
  for (const std::string& note : apply_settings(config, settings, extra)) print_stderr("note: " + note + "\n");
  for (const std::string& note : config_notes(config)) print_stderr("note: " + note + "\n");
  if (command == "train") check_train_config(config);
  if (command == "chat") check_chat_config(config);
  if (command == "export") check_export_config(config);
  return true;
}

}  // namespace loraine
