// The programs that a run's log is written for: `report_to` and `use_swanlab`. Called by the rules of settings and by
// train/records/reports.
#pragma once
#include <string>
#include <vector>

#include "loraine/train/config/config.h"

namespace loraine {

struct ReportTargets {
  bool tensorboard = false;           // event files
  bool jsonl = false;                 // the report folder without a program that it is for
  std::vector<std::string> trackers;  // of wandb, mlflow, swanlab, trackio, in this order: sent later from the report folder
  bool folder() const { return jsonl || !trackers.empty(); }
  bool any() const { return tensorboard || folder(); }
};

// Throws usage for an unknown name, unsupported for one of transformers that is not built.
ReportTargets report_targets(const TrainConfig& config);

// Keys that are given and that nothing of report_to reads: "logging_dir, run_name"; empty where all are read.
std::string unread_report_keys(const TrainConfig& config);

}  // namespace loraine
