// The log of a run for other programs, as report_to asks: begin, log, end are called from the places where the run's own log is written.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/train/records/python_number.h"
#include "loraine/train/records/reports/event_file.h"
#include "loraine/train/records/reports/report_folder.h"

namespace loraine {

// "loss" → "train/loss", "eval_loss" → "eval/loss", "test_loss" → "test/loss": transformers' rewrite_logs.
std::string report_tag(const std::string& key);

class Reporters {
 public:
  // Opens what report_to names; nothing where it names nothing. resume_step: the same run goes on from there. model_config: config.json of
  // the base. Error::io.
  void begin(const TrainConfig& config, const OrderedJson& model_config, std::optional<int64_t> resume_step);
  // An entry of log_history: its step and its values. Error::io: a log that cannot be written ends the run as any record does.
  void log(const OrderedJson& entry);
  // Closes all; lines that say where the files are and what is to be done with them.
  std::vector<std::string> end();

 private:
  std::unique_ptr<EventFile> events_;
  std::unique_ptr<ReportFolder> folder_;
  std::string event_folder_;
  ReportTargets targets_;
};

}  // namespace loraine
