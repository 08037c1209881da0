// loraine compare: every combination of some settings, trained one after the other on the same data with the same seed; a table and a plot.
// Each run is a process of its own (`loraine train`), so that its peak memory is its own; finished ones are kept in table.json.
#include <fcntl.h>
#include <fmt/format.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <optional>
#include <set>

#include "loraine/cli/commands.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/cli/settings/yaml_values.h"
#include "loraine/core/count_text.h"
#include "loraine/core/error.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/train/config/other_words.h"
#include "loraine/train/records/metrics.h"
#include "loraine/train/records/plot.h"
#include "loraine/train/saving/checkpoint.h"
#include "loraine/train/saving/output_lock.h"

extern char** environ;

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::atomic<bool> stop_requested{false};

// One combination: what its run is given, and how it is called.
struct Combination {
  std::string name;    // "lora, lora_rank 8"
  std::string folder;  // "lora_lora_rank_8"
  Value settings = Value::object();
};

// The values of one key: a list in YAML, or for numbers and choices also a text with commas. Of a key whose value is a list by itself: a
// list of lists, or of lists and null.
struct Choice {
  std::string key;
  std::vector<Value> values;
};

// The key of `loraine train` that a word says something about.
std::string meant_key(const std::string& word) {
  const auto one = std::ranges::find(other_switches(), word, &OtherSwitch::word);
  return one == other_switches().end() ? own_key(word) : one->yes.key;
}

std::vector<Choice> choices_of(const std::vector<Setting>& settings) {
  TrainConfig config;
  std::set<std::string> lists, words;  // keys whose value is a list by itself; numbers and choices, which hold no comma
  for (const Option& option : options_of(config)) {
    const bool text =
        std::holds_alternative<std::string*>(option.field) || std::holds_alternative<std::optional<std::string>*>(option.field);
    if (option.limits.comma_list) lists.insert(option.name);
    else if (!text || !option.limits.choices.empty()) words.insert(option.name);
  }
  for (const OtherSwitch& one : other_switches()) words.insert(one.word);
  std::vector<Choice> choices;
  for (const Setting& setting : settings) {
    Choice choice{setting.key, {}};
    const std::string key = own_key(setting.key);
    const Value value = setting.bare ? Value(true) : setting.typed ? Value::parse(setting.text) : yaml_value(setting.text, setting.where);
    const bool several = std::any_of(value.begin(), value.end(), [](const Value& one) { return one.is_array() || one.is_null(); });
    if (lists.contains(key) && !(value.is_array() && several)) {
      choice.values = {value};
    } else if (value.is_array()) {
      choice.values.assign(value.begin(), value.end());
    } else if (value.is_string() && words.contains(key)) {
      for (const std::string& part : split_list(value.get<std::string>())) choice.values.push_back(yaml_value(part, setting.where));
    } else {
      choice.values = {value};
    }
    if (choice.values.empty()) throw Error(ErrorKind::usage, setting.where + ": " + setting.key + " has no value", "give one or several");
    std::erase_if(choices, [&](const Choice& earlier) { return earlier.key == choice.key; });  // later ones win
    choices.push_back(std::move(choice));
  }
  return choices;
}

std::string text_of(const Value& value) {
  if (!value.is_array()) return value.is_string() ? value.get<std::string>() : value.dump();
  std::string words;
  for (const Value& one : value) words += (words.empty() ? "" : ",") + text_of(one);
  return words;
}

std::vector<Combination> combinations_of(const std::vector<Choice>& choices, const std::string& output_dir) {
  std::vector<Combination> all;
  size_t count = 1;
  for (const Choice& choice : choices) {
    if (choice.values.size() > 1000 / count) throw Error(ErrorKind::usage, "more than 1000 combinations", "give fewer values");
    count *= choice.values.size();
  }
  for (size_t n = 0; n < count; ++n) {
    std::vector<size_t> index(choices.size());  // the last key runs fastest
    for (size_t i = choices.size(), rest = n; i-- > 0; rest /= choices[i].values.size()) index[i] = rest % choices[i].values.size();
    Combination one;
    std::string type = "lora";
    for (size_t i = 0; i < choices.size(); ++i)
      if (own_key(choices[i].key) == "finetuning_type") type = text_of(choices[i].values[index[i]]);
    for (size_t i = 0; i < choices.size(); ++i) {
      const std::string& word = choices[i].key;
      const std::string key = meant_key(word);
      const Value& value = choices[i].values[index[i]];
      if (!reads_key(type, key)) continue;
      if (choices[i].values.size() > 1)
        one.name += (one.name.empty() ? "" : ", ") + (key == "finetuning_type" ? type : word + " " + text_of(value));
      one.settings[word] = value;
    }
    if (one.name.empty()) one.name = type;
    for (char c : one.name) {
      const bool plain = std::isalnum(static_cast<unsigned char>(c)) || c == '.' || c == '-';
      if (plain || (!one.folder.empty() && one.folder.back() != '_')) one.folder += plain ? c : '_';
    }
    one.settings["do_train"] = one.settings["do_eval"] = true;
    const auto same = [&](const Combination& other) { return other.settings == one.settings; };
    if (std::ranges::any_of(all, same)) continue;  // differs in nothing that it reads
    for (int more = 2; std::ranges::any_of(all, [&](const Combination& other) { return other.folder == one.folder; }); ++more)
      one.folder += fmt::format("_{}", more);
    all.push_back(std::move(one));
  }
  for (Combination& one : all) one.settings["output_dir"] = output_dir + "/" + one.folder;
  return all;
}

// Each combination by the rules of `loraine train`, before anything runs. What is to be said about its settings.
std::vector<SettingNote> check_combination(const Combination& one) {
  TrainConfig config;
  std::vector<Setting> settings;
  for (const auto& [key, value] : one.settings.items())
    settings.push_back({.key = key, .text = value.dump(), .typed = true, .bare = false, .where = "combination '" + one.name + "'"});
  std::vector<SettingNote> notes = apply_settings(config, settings);
  try {
    check_train_config(config);
  } catch (const Error& error) { throw with_context(error, "combination '" + one.name + "'"); }
  return notes;
}

// What the newest line of progress in a run's log says, "train  40%  4/10  loss 1.2345  lr 1.00e-04 …". Nothing before the first.
std::optional<ProgressState> progress_in(const std::string& log) {
  constexpr std::streamoff kTail = 4096;
  std::ifstream file(log, std::ios::ate | std::ios::binary);
  if (!file) return {};
  file.seekg(std::max<std::streamoff>(0, file.tellg() - kTail));
  std::optional<ProgressState> newest;
  for (std::string line; std::getline(file, line) && !file.eof();) {
    long long step = 0, total = 0;
    double loss = 0, rate = 0;
    const int read = std::sscanf(line.c_str(), "train %*d%% %lld/%lld loss %lf lr %lf", &step, &total, &loss, &rate);
    if (read < 2) continue;
    newest = ProgressState{step, total, {}, {}, {}, 0};
    if (read > 2) newest->loss = loss;
    if (read > 3) newest->learning_rate = rate;
  }
  return newest;
}

// Runs the program itself; its words go to `log`, how far it is to `bar`. The exit code, or 128 + the signal that ended it.
int run_program(const std::vector<std::string>& words, const std::string& log, Progress& bar) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_addopen(&actions, 1, log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW, 0644);
  posix_spawn_file_actions_adddup2(&actions, 1, 2);
  posix_spawnattr_t attributes;  // the run takes its signals itself
  posix_spawnattr_init(&attributes);
  sigset_t none;
  sigemptyset(&none);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
  std::vector<char*> argv;
  std::vector<std::string> kept = words;
  for (std::string& word : kept) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawn(&child, "/proc/self/exe", &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed) throw Error(ErrorKind::internal, fmt::format("the run cannot be started: {}", std::strerror(failed)));
  bool passed_on = false;
  int64_t step = 0;
  const auto show_progress = [&] {
    const std::optional<ProgressState> now = progress_in(log);
    if (now && now->step != step) bar.update(*now);
    if (now) step = now->step;
  };
  for (int status = 0, turn = 0;; ++turn) {
    if (turn % 10 == 9) show_progress();
    if (stop_requested && !passed_on) {
      kill(child, SIGTERM);
      passed_on = true;
    }
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child) {
      show_progress();
      bar.finish();
      return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    }
    if (ended < 0 && errno != EINTR) throw Error(ErrorKind::internal, fmt::format("the run is lost: {}", std::strerror(errno)));
    usleep(20000);
  }
}

int64_t weight_file_bytes(const std::string& folder) {
  int64_t bytes = 0;
  std::error_code failed;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed))
    if (it->path().extension() == ".safetensors") bytes += static_cast<int64_t>(it->file_size(failed));
  return bytes;
}

// What the table shows of a finished run.
OrderedJson row_of(const Combination& one) {
  const std::string folder = one.settings["output_dir"];
  const Json results = parse_json_file(folder + "/all_results.json");
  OrderedJson row = {{"name", one.name}, {"settings", one.settings}};
  for (const char* key :
       {"trainable_parameters", "peak_memory_bytes", "train_tokens_per_second", "train_runtime", "train_loss", "eval_loss"})
    row[key] = results.contains(key) ? OrderedJson(results[key]) : OrderedJson();
  row["file_bytes"] = weight_file_bytes(folder);
  const Curve curve = curve_of(read_trainer_state(folder).log_history, "eval_loss");
  row["eval_steps"] = curve.steps;
  row["eval_losses"] = curve.values;
  if (curve.values.empty() && row["eval_loss"].is_number()) {  // evaluated at the end alone
    row["eval_steps"] = {read_trainer_state(folder).global_step};
    row["eval_losses"] = {row["eval_loss"]};
  }
  return row;
}

std::string number_text(const OrderedJson& row, const char* key, const std::function<std::string(double)>& text) {
  return row.contains(key) && row[key].is_number() ? text(row[key].get<double>()) : "";
}

void show(const std::vector<OrderedJson>& rows, const std::string& output_dir) {
  std::vector<std::vector<std::string>> lines = {{"run", "trainable", "peak memory", "tokens/s", "file", "eval loss"}};
  std::vector<NamedCurve> curves;
  const auto bytes = [](double n) { return bytes_text(n); };
  for (const OrderedJson& row : rows) {
    lines.push_back({row["name"], number_text(row, "trainable_parameters", [](double n) { return count_text(static_cast<int64_t>(n)); }),
                     number_text(row, "peak_memory_bytes", bytes),
                     number_text(row, "train_tokens_per_second", [](double n) { return fmt::format("{:.1f}", n); }),
                     number_text(row, "file_bytes", bytes),
                     number_text(row, "eval_loss", [](double n) { return fmt::format("{:.4f}", n); })});
    curves.push_back({row["name"], {row["eval_steps"].get<std::vector<double>>(), row["eval_losses"].get<std::vector<double>>()}});
  }
  if (curves.size() > kMostCurves) {
    print_stderr(fmt::format("note: the plot shows the first {} of {} runs\n", kMostCurves, curves.size()));
    curves.resize(kMostCurves);
  }
  for (const char* extension : {".png", ".svg"})
    plot_curves(output_dir + "/eval_loss" + extension, curves,
                "comparison in " + fs::path(output_dir).lexically_normal().filename().string(), "eval_loss");
  std::fputs(table_text("comparison", lines).c_str(), stdout);  // at the end: it may have to wait for a reader
  std::fflush(stdout);
}

// Rows of table.json whose settings are those asked for now.
std::vector<OrderedJson> finished_rows(const std::string& file) {
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  const OrderedJson table = parse_json_file_in_order(file);
  if (!table.is_object() || !table.contains("runs") || !table["runs"].is_array())
    throw Error(ErrorKind::bad_data, file + ": it has no list `runs`, so it is not a table of loraine compare",
                "choose another output_dir");
  std::vector<OrderedJson> rows;
  for (const OrderedJson& row : table["runs"])
    if (row.is_object() && row.contains("settings") && row.contains("name") && row["name"].is_string()) rows.push_back(row);
  return rows;
}

}  // namespace

int run_compare(const std::vector<std::string>& args) {
  if (std::ranges::any_of(args, [](const std::string& word) { return word == "--help" || word == "-h"; })) {
    std::fputs(
        command_help("compare", {},
                     "\nTrains every combination of the values given, like finetuning_type=full,lora lora_rank=8,64, and compares them.\n")
            .c_str(),
        stdout);
    return 0;
  }
  std::vector<Choice> choices = choices_of(read_arguments(args));
  std::string output_dir;
  std::erase_if(choices, [&](const Choice& choice) {
    if (own_key(choice.key) != "output_dir") return false;
    output_dir = text_of(choice.values[0]);
    return true;
  });
  if (output_dir.empty()) throw Error(ErrorKind::usage, "output_dir is not given", "name a folder for the comparison: output_dir=DIR");
  const std::vector<Combination> combinations = combinations_of(choices, output_dir);
  if (combinations.size() < 2)
    throw Error(ErrorKind::usage, "there is one combination of settings, and nothing to compare it with",
                "give several values to a key: lora_rank=8,64");
  for (const Combination& one : combinations)
    for (const SettingNote& note : check_combination(one))
      if (&one == &combinations.front()) print_stderr((note.warning ? "warning: " : "note: ") + note.text + "\n");
  const OutputLock lock(output_dir);
  make_folders(output_dir + "/settings");
  const std::string table = output_dir + "/table.json";
  const std::vector<OrderedJson> finished = finished_rows(table);
  std::optional<SignalWatch> watch(std::in_place, std::initializer_list<int>{SIGTERM, SIGINT}, [](int) { stop_requested = true; });
  std::vector<OrderedJson> rows;
  int failed = 0;
  for (const Combination& one : combinations) {
    const auto kept = std::ranges::find_if(finished, [&](const OrderedJson& row) { return row["settings"] == OrderedJson(one.settings); });
    if (kept != finished.end()) {
      print_stderr("kept: " + one.name + "\n");
      rows.push_back(*kept);
      continue;
    }
    if (stop_requested) return kExitStopped;
    const std::string settings = output_dir + "/settings/" + one.folder + ".json", log = output_dir + "/settings/" + one.folder + ".log";
    write_file(settings, one.settings.dump(2) + "\n");
    print_stderr(
        fmt::format("run {} of {}: {} (its words go to {})\n", &one - combinations.data() + 1, combinations.size(), one.name, log));
    Progress bar(fmt::format("run {} of {}", &one - combinations.data() + 1, combinations.size()));
    const int code = run_program({"loraine", "train", settings}, log, bar);
    if (stop_requested || code == kExitStopped) {
      print_stderr("stopped; the same command goes on from here\n");
      return kExitStopped;
    }
    if (code != 0) {
      std::string words = read_file(log);
      print_stderr(fmt::format("error: {} ended with {}: {}\n", one.name, code,
                               words.substr(words.find("error:") == words.npos ? 0 : words.find("error:"), 600)));
      failed = failed ? failed : code;
      continue;
    }
    rows.push_back(row_of(one));
    OrderedJson list = OrderedJson::array();
    for (const OrderedJson& row : rows) list.push_back(row);
    for (const OrderedJson& row : finished)  // of combinations whose turn is yet to come
      if (std::ranges::none_of(rows, [&](const OrderedJson& r) { return r["settings"] == row["settings"]; })) list.push_back(row);
    write_file(table, OrderedJson{{"runs", list}}.dump(2) + "\n");
  }
  watch.reset();  // nothing is left to be stopped but waiting for a reader
  show(rows, output_dir);
  return failed > 128 ? 1 : failed;
}

}  // namespace loraine
