// Names of trackers, as transformers spells them.
#include "loraine/train/config/report_to.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine {
namespace {

const std::vector<std::string> kTrackers = {"wandb", "mlflow", "swanlab", "trackio"};
const std::vector<std::string> kKnown = {"none", "all", "tensorboard", "jsonl", "wandb", "mlflow", "swanlab", "trackio"};
const std::vector<std::string> kNotBuilt = {"azure_ml", "clearml", "codecarbon", "comet_ml", "dagshub",
                                            "dvclive",  "flyte",   "kubeflow",   "neptune"};

bool has(const std::vector<std::string>& words, const std::string& word) { return std::ranges::find(words, word) != words.end(); }

void check_name(const std::string& name) {
  if (has(kKnown, name)) return;
  if (has(kNotBuilt, name))
    throw Error(ErrorKind::unsupported,
                fmt::format("report_to: {} is a tracker of transformers that loraine does not write for; it knows {}", name,
                            fmt::join(kKnown, ", ")),
                "report_to: tensorboard or jsonl writes files that the tracker's own client can import");
  const std::string near = nearest_word(name, kKnown);
  throw Error(ErrorKind::usage, fmt::format("report_to: '{}' is unknown, expected some of: {}", name, fmt::join(kKnown, ", ")),
              near.empty() ? "" : "did you mean '" + near + "'?");
}

}  // namespace

ReportTargets report_targets(const TrainConfig& c) {
  const std::vector<std::string> names = split_list(c.report_to);
  for (const std::string& name : names) check_name(name);
  if (has(names, "none") && names.size() > 1)
    throw Error(ErrorKind::usage, fmt::format("report_to: none stands beside other names ({})", fmt::join(names, ", ")),
                "leave none out, or the others");
  const bool all = has(names, "all");
  ReportTargets targets;
  targets.tensorboard = all || has(names, "tensorboard");
  targets.jsonl = all || has(names, "jsonl");
  for (const std::string& tracker : kTrackers)
    if (all || has(names, tracker) || (tracker == "swanlab" && c.use_swanlab)) targets.trackers.push_back(tracker);
  return targets;
}

std::string unread_report_keys(const TrainConfig& c) {
  const ReportTargets targets = report_targets(c);
  const bool swanlab = has(targets.trackers, "swanlab"), trackio = has(targets.trackers, "trackio");
  std::vector<std::string> unread;
  for (const std::string& key : c.given) {
    const bool swanlab_key = key.starts_with("swanlab_"), trackio_key = key.starts_with("trackio_") || key == "project";
    if ((key == "logging_dir" && !targets.tensorboard) || (swanlab_key && !swanlab) || (trackio_key && !trackio) ||
        (key == "run_name" && !targets.folder()))
      unread.push_back(key);
  }
  return fmt::format("{}", fmt::join(unread, ", "));
}

}  // namespace loraine
