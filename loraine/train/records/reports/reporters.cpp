// Which files a run's log goes to.
#include "loraine/train/records/reports/reporters.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cstdlib>

namespace loraine {
namespace {

// "~" and "~/x": below the home folder, as transformers has it here.
std::string with_home(const std::string& path) {
  const char* home = std::getenv("HOME");
  return home && (path == "~" || path.starts_with("~/")) ? home + path.substr(1) : path;
}

// logging_dir, else TENSORBOARD_LOGGING_DIR, else a folder below output_dir/runs: that of the run that goes on, or a new one.
std::string event_folder(const TrainConfig& c, bool resumes) {
  if (c.logging_dir && !c.logging_dir->empty()) return with_home(*c.logging_dir);
  if (const char* given = std::getenv("TENSORBOARD_LOGGING_DIR"); given && *given) return with_home(given);
  const std::string runs = c.output_dir + "/runs", former = resumes ? newest_event_folder(runs) : "";
  return former.empty() ? runs + "/" + event_folder_name() : former;
}

}  // namespace

std::string report_tag(const std::string& key) {
  for (const char* split : {"eval", "test"})
    if (key.starts_with(split + std::string("_"))) return split + std::string("/") + key.substr(5);
  return "train/" + key;
}

void Reporters::begin(const TrainConfig& c, const OrderedJson& model_config, std::optional<int64_t> resume_step) {
  targets_ = report_targets(c);
  if (targets_.tensorboard) {
    event_folder_ = event_folder(c, resume_step.has_value());
    events_ = std::make_unique<EventFile>(event_folder_);
    if (resume_step) events_->purge_from(*resume_step + 1);
    events_->text("args", config_json(c));
    events_->text("model_config", python_json(model_config, 2, true) + "\n");
  }
  if (targets_.folder()) folder_ = std::make_unique<ReportFolder>(c, targets_, model_config, resume_step);
}

void Reporters::log(const OrderedJson& entry) {
  OrderedJson values = entry;
  const int64_t step = values.value("step", int64_t{0});
  values.erase("step");
  if (events_) {
    std::vector<std::pair<std::string, double>> scalars;
    for (const auto& [key, value] : values.items())
      if (value.is_number()) scalars.emplace_back(report_tag(key), value.get<double>());
    events_->scalars(step, scalars);
  }
  if (folder_) folder_->log(step, values);
}

std::vector<std::string> Reporters::end() {
  std::vector<std::string> lines;
  if (events_) {
    events_->close();
    lines.push_back(fmt::format("report: tensorboard --logdir {}", event_folder_));
  }
  if (folder_ && targets_.trackers.empty()) lines.push_back(fmt::format("report: {}/metrics.jsonl", folder_->path()));
  if (!targets_.trackers.empty() && folder_)
    lines.push_back(fmt::format("report: nothing was sent; to send it to {}, install its client and run: python3 {}/send.py",
                                fmt::join(targets_.trackers, ", "), folder_->path()));
  events_.reset();
  folder_.reset();
  return lines;
}

}  // namespace loraine
