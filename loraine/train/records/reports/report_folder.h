// output_dir/report: a run's log for trackers whose clients are Python programs. Nothing of it is sent by loraine: send.py, which lies in
// it, replays it through a tracker's own client, on this machine or on another one that the folder was copied to.
//   metrics.jsonl  one object per log entry: step, time (seconds since 1970), then the values under their names in trainer_state.json
//   config.json    every setting of the run
//   run.json       id, name, output_dir, trackers (each with its project and the like), model_config
//   send.py        the script; sent.json is its own note of what went where
#pragma once
#include <cstdint>
#include <optional>
#include <string>

#include "loraine/train/config/report_to.h"
#include "loraine/train/records/python_number.h"

namespace loraine {

class ReportFolder {
 public:
  // resume_step: the run goes on from there, under the id it had; what was logged past it is dropped. Without it an old report is replaced.
  // model_config: config.json of the base. Error::io.
  ReportFolder(const TrainConfig& config, const ReportTargets& targets, const OrderedJson& model_config,
               std::optional<int64_t> resume_step);
  void log(int64_t step, const OrderedJson& values);  // one line, on its way to the disk when this returns; Error::io
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace loraine
