// What is in the output folder already, and what follows from it.
#include "loraine/train/saving/run_folder.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/records/metrics.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

// "is finished", "is at update 5 of 12": of the run that a folder of records is of.
std::string state_text(const std::string& folder) {
  const TrainerState state = read_trainer_state(folder);
  if (state.global_step >= state.max_steps || state.should_training_stop) return "is finished";
  return fmt::format("is at update {} of {}", state.global_step, state.max_steps);
}

bool holds(const std::string& folder, const char* name) {
  std::error_code ignored;
  return fs::exists(folder + "/" + name, ignored);
}

void check_settings(const TrainConfig& c, RunFolder& folder) {
  const std::optional<RunRecord> record = read_run_record(folder.resume_from);
  if (!record) return;
  folder.changed = changed_settings(*record, c);
  if (folder.changed.result.empty()) return;
  throw Error(ErrorKind::usage,
              fmt::format("{}: its run {}, and {}", folder.resumes, state_text(folder.resume_from), fmt::join(folder.changed.result, ", ")),
              other_run_hint(c, folder));
}

// A finished run that kept no checkpoint cannot be looked at once more.
[[noreturn]] void finished_without_checkpoint(const TrainConfig& c) {
  std::string differs;
  if (const std::optional<RunRecord> record = read_run_record(c.output_dir))
    if (const ChangedSettings changed = changed_settings(*record, c); !changed.result.empty())
      differs = fmt::format("; {}", fmt::join(changed.result, ", "));
  throw Error(ErrorKind::usage,
              fmt::format("output_dir {}: its run is finished and kept no checkpoint to go on from{}", c.output_dir, differs),
              "set overwrite_output_dir: true to begin anew, or choose another output_dir");
}

}  // namespace

NewFolder::~NewFolder() {
  if (!made_.last_one()) return;
  std::error_code failed;
  for (fs::directory_iterator it(path_, failed), end; !failed && it != end; it.increment(failed))
    if (!counts_as_nothing(it->path().filename().string()) || it->path().filename() == "trainer_log.jsonl" ||
        it->path().filename() == "completions.jsonl")
      return;
  if (failed) return;
  fs::remove_all(path_, failed);
  made_.remove_empty();
}

std::string other_run_hint(const TrainConfig& c, const RunFolder& folder) {
  const bool in_output_dir = folder.resumes.starts_with("output_dir");
  std::string hint = in_output_dir
                         ? "give what the run began with, set overwrite_output_dir: true to begin anew, or choose another output_dir"
                         : "give what the run began with, or leave resume_from_checkpoint out to begin anew";
  if (trains_adapter(c))
    hint += fmt::format("; to train on from its adapter with other settings: adapter_name_or_path: {} and another output_dir",
                        folder.resume_from);
  return hint;
}

RunFolder open_run_folder(const TrainConfig& c) {
  RunFolder folder;
  const std::string asked = c.resume_from_checkpoint.value_or("");
  const bool newest_asked = asked == "true", none_asked = asked == "false", given = !asked.empty() && !newest_asked && !none_asked;
  if (given) folder.resume_from = asked;
  // A folder in use says so, whatever else is in it.
  if (!c.dry_run && holds(c.output_dir, ".loraine.lock")) {
    folder.lock = std::make_unique<OutputLock>(c.output_dir);
    settle_output_dir(c.output_dir);
  }
  std::vector<DamagedCheckpoint> damaged;
  std::optional<Checkpoint> newest;
  try {
    newest = check_output_dir(c.output_dir, (c.overwrite_output_dir && !newest_asked) || given, &damaged);
  } catch (const Error& error) {
    if (error.kind == ErrorKind::usage && damaged.empty() && holds(c.output_dir, "train_results.json")) finished_without_checkpoint(c);
    throw;
  }
  for (const DamagedCheckpoint& one : damaged) folder.warnings.push_back(fmt::format("{} is damaged: {}", one.path, one.reason));
  if (newest_asked && !newest)
    throw Error(ErrorKind::usage,
                fmt::format("resume_from_checkpoint is true, and output_dir {} holds no checkpoint to go on from", c.output_dir),
                "leave resume_from_checkpoint out, or name the folder of a checkpoint");
  if (none_asked && newest)
    throw Error(ErrorKind::usage,
                fmt::format("resume_from_checkpoint is false, and output_dir {} holds the checkpoints of a run", c.output_dir),
                "choose another output_dir, or set overwrite_output_dir: true to start anew in it");
  if (!given && newest) folder.resume_from = newest->path;
  folder.resumes = given ? "resume_from_checkpoint " + asked : "output_dir " + c.output_dir;
  if (!folder.resume_from.empty()) check_settings(c, folder);
  if (c.dry_run) return folder;
  folder.made = std::make_unique<NewFolder>(c.output_dir);
  make_folders(c.output_dir);
  if (!folder.lock) folder.lock = std::make_unique<OutputLock>(c.output_dir);
  DurableFile probe(c.output_dir + "/.loraine.probe");  // removed again: it is never committed
  const std::string bytes(1 << 16, '.');
  probe.write(bytes.data(), bytes.size());
  return folder;
}

}  // namespace loraine
