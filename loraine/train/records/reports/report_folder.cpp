// Files of the report folder.
#include "loraine/train/records/reports/report_folder.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <random>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

// tools/send_report.py, copied into each report folder.
asm(".pushsection .rodata\n"
    "loraine_send_report_begin:\n"
    ".incbin \"" LORAINE_SEND_REPORT
    "\"\n"
    "loraine_send_report_end:\n"
    ".popsection\n");
extern "C" const char loraine_send_report_begin[], loraine_send_report_end[];

namespace loraine {
namespace {

namespace fs = std::filesystem;

std::optional<std::string> from_environment(const char* name) {
  const char* value = std::getenv(name);
  return value && *value ? std::optional<std::string>(value) : std::nullopt;
}

OrderedJson text_or_null(const std::optional<std::string>& text) { return text ? OrderedJson(*text) : OrderedJson(); }

// What all four trackers take as the id of a run: 21 small letters and digits.
std::string new_id() {
  static constexpr char kLetters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
  std::random_device device;
  std::uniform_int_distribution<size_t> draw(0, sizeof kLetters - 2);
  std::string id;
  for (int i = 0; i < 21; ++i) id += kLetters[draw(device)];
  return id;
}

// The id of the report that is there, or nothing where there is none to go on with.
std::string former_id(const std::string& path) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  const OrderedJson run = OrderedJson::parse(read_file(path, 1 << 24), nullptr, false);
  if (!run.is_object() || !run.contains("id") || !run["id"].is_string()) return {};
  const std::string id = run["id"].get<std::string>();
  return id.size() == 21 && id.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789") == std::string::npos ? id : "";
}

// Where a tracker's run belongs, as transformers and LLaMA-Factory have it. Keys to passwords stay out.
OrderedJson places(const TrainConfig& c, const std::vector<std::string>& trackers) {
  OrderedJson all = OrderedJson::object();
  for (const std::string& tracker : trackers) {
    if (tracker == "wandb") all[tracker] = {{"project", from_environment("WANDB_PROJECT").value_or("llamafactory")}};
    if (tracker == "mlflow") all[tracker] = {{"experiment", text_or_null(from_environment("MLFLOW_EXPERIMENT_NAME"))}};
    if (tracker == "swanlab")
      all[tracker] = {{"project", text_or_null(c.swanlab_project)},
                      {"workspace", text_or_null(c.swanlab_workspace)},
                      {"run_name", text_or_null(c.swanlab_run_name)},
                      {"mode", c.swanlab_mode},
                      {"logdir", text_or_null(c.swanlab_logdir)}};
    if (tracker == "trackio")
      all[tracker] = {
          {"project", c.project}, {"space_id", text_or_null(c.trackio_space_id)}, {"bucket_id", text_or_null(c.trackio_bucket_id)}};
  }
  return all;
}

// Lines up to `step`, those that summed up a run that now goes on left out.
std::string lines_until(const std::string& path, int64_t step) {
  std::error_code ignored;
  if (!fs::exists(path, ignored)) return {};
  const std::string text = read_file(path, 1ull << 30);
  std::string kept;
  for (size_t start = 0, end; (end = text.find('\n', start)) != std::string::npos; start = end + 1) {  // a cut-off last line goes
    const std::string line = text.substr(start, end - start);
    if (line.size() > 100000 || line.find('[') != std::string::npos) continue;
    const OrderedJson entry = OrderedJson::parse(line, nullptr, false);
    if (!entry.is_object() || !entry.contains("step") || !entry["step"].is_number_integer() || entry.contains("train_loss")) continue;
    if (entry["step"].get<int64_t>() <= step) kept += line + "\n";
  }
  return kept;
}

}  // namespace

ReportFolder::ReportFolder(const TrainConfig& c, const ReportTargets& targets, const OrderedJson& model_config,
                           std::optional<int64_t> resume_step)
    : path_(c.output_dir + "/report") {
  const std::string former = resume_step ? former_id(path_ + "/run.json") : "";
  const std::string kept = former.empty() ? "" : lines_until(path_ + "/metrics.jsonl", *resume_step);
  make_folders(path_);
  std::error_code ignored;
  if (former.empty()) fs::remove(path_ + "/sent.json", ignored);  // of another run
  fs::path output = fs::path(c.output_dir).lexically_normal();
  if (!output.has_filename()) output = output.parent_path();
  const OrderedJson run = {{"id", former.empty() ? new_id() : former},
                           {"name", c.run_name.value_or(output.filename().string())},
                           {"output_dir", c.output_dir},
                           {"trackers", places(c, targets.trackers)},
                           {"model_config", model_config}};
  write_file(path_ + "/metrics.jsonl", kept);
  write_file(path_ + "/config.json", config_json(c) + "\n");
  write_file(path_ + "/run.json", python_json(run, 2, false) + "\n");
  write_file(path_ + "/send.py", {loraine_send_report_begin, static_cast<size_t>(loraine_send_report_end - loraine_send_report_begin)});
}

void ReportFolder::log(int64_t step, const OrderedJson& values) {
  const double now = std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
  OrderedJson entry = {{"step", step}, {"time", python_round(now, 3)}};
  for (const auto& [key, value] : values.items()) entry[key] = value;
  const std::string path = path_ + "/metrics.jsonl", line = python_json(entry, -1, false) + "\n";
  const int fd = ::open(path.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NONBLOCK, 0666);
  const ssize_t written = fd < 0 ? -1 : ::write(fd, line.data(), line.size());
  const int code = written < 0 ? errno : ENOSPC;
  if (fd >= 0) ::close(fd);
  if (written != static_cast<ssize_t>(line.size()))
    throw Error(ErrorKind::io, fmt::format("{}: cannot append a line: {}", path, std::strerror(code)), "check free space and permissions");
}

}  // namespace loraine
