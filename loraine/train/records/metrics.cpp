// The record of a run and its files; layouts as transformers' TrainerState and LLaMA-Factory's LogCallback write them.
#include "loraine/train/records/metrics.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstring>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

template <class T>
OrderedJson optional_json(const std::optional<T>& value) {
  return value ? OrderedJson(*value) : OrderedJson();
}

[[noreturn]] void bad_state(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {}", path, what), "resume from another checkpoint");
}

OrderedJson parse_object(const std::string& path) {
  const std::string text = read_file(path, 1ull << 30);
  // Depth is bounded first, as the parser below recurses; strings are skipped so that braces in them do not count.
  int depth = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      if (++depth > 100) bad_state(path, "nested deeper than 100 levels");
    } else if (c == '}' || c == ']') {
      --depth;
    }
  }
  OrderedJson value = OrderedJson::parse(text, nullptr, false);
  if (!value.is_object()) bad_state(path, "not a JSON object");
  return value;
}

OrderedJson callbacks_of(const TrainerState& state) {
  OrderedJson callbacks = OrderedJson::object();
  if (state.early_stopping.patience > 0)
    callbacks["EarlyStoppingCallback"] = {
        {"args",
         {{"early_stopping_patience", state.early_stopping.patience}, {"early_stopping_threshold", state.early_stopping.threshold}}},
        {"attributes", {{"early_stopping_patience_counter", state.early_stopping.counter}}}};
  callbacks["TrainerControl"] = {{"args",
                                  {{"should_epoch_stop", false},
                                   {"should_evaluate", false},
                                   {"should_log", false},
                                   {"should_save", state.should_save},
                                   {"should_training_stop", state.should_training_stop}}},
                                 {"attributes", OrderedJson::object()}};
  return callbacks;
}

}  // namespace

std::string trainer_state_text(const TrainerState& state) {
  const OrderedJson out = {{"best_global_step", optional_json(state.best_global_step)},
                           {"best_metric", optional_json(state.best_metric)},
                           {"best_model_checkpoint", optional_json(state.best_model_checkpoint)},
                           {"epoch", state.epoch},
                           {"eval_steps", state.eval_steps},
                           {"global_step", state.global_step},
                           {"is_hyper_param_search", false},
                           {"is_local_process_zero", true},
                           {"is_world_process_zero", true},
                           {"log_history", OrderedJson(state.log_history)},
                           {"logging_steps", state.logging_steps},
                           {"max_steps", state.max_steps},
                           {"num_input_tokens_seen", state.num_input_tokens_seen},
                           {"num_train_epochs", state.num_train_epochs},
                           {"save_steps", state.save_steps},
                           {"stateful_callbacks", callbacks_of(state)},
                           {"total_flos", state.total_flos},
                           {"train_batch_size", state.train_batch_size},
                           {"trial_name", nullptr},
                           {"trial_params", nullptr}};
  return python_json(out, 2, true) + "\n";
}

void write_trainer_state(const std::string& folder, const TrainerState& state) {
  write_file(folder + "/trainer_state.json", trainer_state_text(state));
}

TrainerState read_trainer_state(const std::string& folder) {
  const std::string path = folder + "/trainer_state.json";
  const OrderedJson json = parse_object(path);
  TrainerState state;
  try {
    for (const OrderedJson& entry : json.at("log_history")) {
      if (!entry.is_object()) bad_state(path, "log_history holds something that is not an object");
      state.log_history.push_back(entry);
    }
    state.epoch = json.at("epoch").get<double>();
    state.global_step = json.at("global_step").get<int64_t>();
    state.max_steps = json.at("max_steps").get<int64_t>();
    state.num_train_epochs = json.at("num_train_epochs").get<int64_t>();
    const auto given = [&](const char* key) { return json.contains(key) && !json[key].is_null(); };
    if (given("best_metric")) state.best_metric = json["best_metric"].get<double>();
    if (given("best_model_checkpoint")) state.best_model_checkpoint = json["best_model_checkpoint"].get<std::string>();
    if (given("best_global_step")) state.best_global_step = json["best_global_step"].get<int64_t>();
    state.num_input_tokens_seen = json.value("num_input_tokens_seen", int64_t{0});
    state.total_flos = json.value("total_flos", 0.0);
    for (const auto& [key, field] :
         {std::pair{"eval_steps", &state.eval_steps}, {"logging_steps", &state.logging_steps}, {"save_steps", &state.save_steps}})
      if (given(key) && json[key].is_number()) *field = json[key];
    state.train_batch_size = json.value("train_batch_size", int64_t{1});
    const OrderedJson callbacks = json.value("stateful_callbacks", OrderedJson::object());
    if (callbacks.contains("TrainerControl")) {
      const OrderedJson& control = callbacks["TrainerControl"].at("args");
      state.should_save = control.value("should_save", true);
      state.should_training_stop = control.value("should_training_stop", false);
    }
    if (callbacks.contains("EarlyStoppingCallback")) {
      const OrderedJson& stopping = callbacks["EarlyStoppingCallback"];
      state.early_stopping.patience = stopping.at("args").at("early_stopping_patience").get<int64_t>();
      state.early_stopping.threshold = stopping.at("args").at("early_stopping_threshold").get<double>();
      state.early_stopping.counter = stopping.at("attributes").at("early_stopping_patience_counter").get<int64_t>();
    }
  } catch (const nlohmann::json::exception& e) { bad_state(path, e.what()); }
  if (state.global_step < 0 || state.max_steps < 0) bad_state(path, "a number of steps below 0");
  return state;
}

int64_t epoch_count(int64_t max_steps, int64_t steps_per_epoch, double num_train_epochs) {
  if (max_steps > 0 && steps_per_epoch > 0) return (max_steps + steps_per_epoch - 1) / steps_per_epoch;
  return static_cast<int64_t>(std::ceil(num_train_epochs));
}

double training_flos(int64_t padded_tokens, int64_t parameters_without_embeddings) {
  return 6.0 * static_cast<double>(padded_tokens) * static_cast<double>(parameters_without_embeddings);
}

void add_speed(OrderedJson& metrics, const std::string& split, double seconds, std::optional<int64_t> samples, std::optional<int64_t> steps,
               std::optional<int64_t> tokens) {
  metrics[split + "_runtime"] = python_round(seconds, 4);
  if (!(seconds > 0)) return;
  if (samples) metrics[split + "_samples_per_second"] = python_round(static_cast<double>(*samples) / seconds, 3);
  if (steps) metrics[split + "_steps_per_second"] = python_round(static_cast<double>(*steps) / seconds, 3);
  if (tokens) metrics[split + "_tokens_per_second"] = python_round(static_cast<double>(*tokens) / seconds, 3);
}

const OrderedJson& append_log(TrainerState& state, OrderedJson values, bool count_tokens, double seconds) {
  values["epoch"] = state.epoch;
  if (count_tokens) {
    values["num_input_tokens_seen"] = state.num_input_tokens_seen;
    if (values.contains("loss")) add_speed(values, "train", seconds, {}, {}, state.num_input_tokens_seen);
  }
  values["step"] = state.global_step;
  return state.log_history.emplace_back(std::move(values));
}

std::string trainer_log_line(const TrainerState& state, double elapsed) {
  const OrderedJson empty = OrderedJson::object();
  const OrderedJson& last = state.log_history.empty() ? empty : state.log_history.back();
  OrderedJson line = {{"current_steps", state.global_step}, {"total_steps", state.max_steps}};
  const auto copy = [&](const char* name, const char* key) {
    if (last.contains(key) && !last[key].is_null()) line[name] = last[key];
  };
  copy("loss", "loss");
  copy("eval_loss", "eval_loss");
  copy("predict_loss", "predict_loss");
  copy("reward", "reward");
  copy("accuracy", "rewards/accuracies");
  copy("lr", "learning_rate");
  copy("epoch", "epoch");
  const double done = static_cast<double>(state.global_step), total = static_cast<double>(state.max_steps);
  line["percentage"] = state.max_steps > 0 ? OrderedJson(python_round(done / total * 100, 2)) : OrderedJson(100);
  line["elapsed_time"] = python_timedelta(elapsed);
  line["remaining_time"] = python_timedelta(state.global_step > 0 ? (total - done) * (elapsed / done) : 0.0);
  if (state.num_input_tokens_seen > 0) {
    if (elapsed > 0) line["throughput"] = python_round(static_cast<double>(state.num_input_tokens_seen) / elapsed, 2);
    line["total_tokens"] = state.num_input_tokens_seen;
  }
  return python_json(line, -1, false);
}

void append_trainer_log(const std::string& output_dir, const TrainerState& state, double elapsed) {
  // Appended, not rewritten: programs follow this file while it grows. One write per line; a cut-off last line is dropped on resume.
  const std::string path = output_dir + "/trainer_log.jsonl";
  const std::string line = trainer_log_line(state, elapsed) + "\n";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
  const ssize_t written = fd < 0 ? -1 : ::write(fd, line.data(), line.size());
  const int code = written < 0 ? errno : ENOSPC;
  if (fd >= 0) ::close(fd);
  if (written != static_cast<ssize_t>(line.size()))
    throw Error(ErrorKind::io, fmt::format("{}: cannot append a line: {}", path, std::strerror(code)), "check free space and permissions");
}

void begin_trainer_log(const std::string& output_dir, std::optional<int64_t> resume_step) {
  const std::string path = output_dir + "/trainer_log.jsonl";
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return;
  if (!resume_step) {
    if (std::error_code failed; !fs::remove(path, failed) && failed)
      throw Error(ErrorKind::io, fmt::format("{}: cannot remove the log of the last run: {}", path, failed.message()), "remove it by hand");
    return;
  }
  const std::string text = read_file(path, 1ull << 30);
  std::string kept;
  for (size_t start = 0; start < text.size();) {
    const size_t end = text.find('\n', start);
    if (end == std::string::npos) break;  // cut off while it was written
    const std::string line = text.substr(start, end - start);
    start = end + 1;
    if (line.size() > 100000 || line.find('[') != std::string::npos) continue;
    const OrderedJson entry = OrderedJson::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("current_steps") || !entry["current_steps"].is_number_integer()) continue;
    // The line without values that ends a run is dropped too: the run goes on.
    const bool summary = !entry.contains("loss") && !entry.contains("eval_loss") && !entry.contains("predict_loss");
    if (entry["current_steps"].get<int64_t>() <= *resume_step && !summary) kept += line + "\n";
  }
  write_file(path, kept);
}

void write_results(const std::string& output_dir, const std::string& split, const OrderedJson& metrics) {
  write_file(output_dir + "/" + split + "_results.json", python_json(metrics, 4, true));
  merge_results(output_dir, metrics);
}

void merge_results(const std::string& output_dir, const OrderedJson& metrics) {
  const std::string path = output_dir + "/all_results.json";
  OrderedJson all = OrderedJson::object();
  std::error_code ignored;
  if (fs::exists(path, ignored)) all = parse_object(path);
  for (auto it = metrics.begin(); it != metrics.end(); ++it) all[it.key()] = it.value();
  write_file(path, python_json(all, 4, true));
}

bool note_best(TrainerState& state, double metric, bool greater_is_better) {
  const bool better = !state.best_metric || (greater_is_better ? metric > *state.best_metric : metric < *state.best_metric);
  if (!better) return false;
  state.best_metric = metric;
  state.best_global_step = state.global_step;
  return true;
}

bool early_stop(TrainerState& state, double metric, bool greater_is_better) {
  EarlyStopping& stopping = state.early_stopping;
  if (stopping.patience <= 0) return false;
  const bool better = !state.best_metric || ((greater_is_better ? metric > *state.best_metric : metric < *state.best_metric) &&
                                             std::abs(metric - *state.best_metric) > stopping.threshold);
  stopping.counter = better ? 0 : stopping.counter + 1;
  return stopping.counter >= stopping.patience;
}

bool stopped_early(const TrainerState& state) {
  return state.should_training_stop && state.early_stopping.patience > 0 && state.early_stopping.counter >= state.early_stopping.patience;
}

}  // namespace loraine
