// The output folder of a run: made, probed with a write and locked before anything else is opened; where to go on from, and whether with
// these settings. Called by the command line before the model and the data are read.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/files/made_folders.h"
#include "loraine/train/config/config.h"
#include "loraine/train/records/run_record.h"
#include "loraine/train/saving/checkpoint.h"
#include "loraine/train/saving/output_lock.h"

namespace loraine {

// Takes a folder away again that a run made and left nothing of value in; what other programs put there stays.
class NewFolder {
 public:
  explicit NewFolder(const std::string& path) : path_(path), made_(path) {}  // before it is made
  ~NewFolder();
  NewFolder(const NewFolder&) = delete;
  NewFolder& operator=(const NewFolder&) = delete;

 private:
  std::string path_;
  MadeFolders made_;
};

struct RunFolder {
  std::unique_ptr<OutputLock> lock;
  std::unique_ptr<NewFolder> made;  // goes before the lock is let go of
  std::string resume_from;          // a checkpoint, or empty
  std::string resumes;              // how messages name the run it is of: "output_dir out"
  ChangedSettings changed;          // of that checkpoint's run
  std::vector<std::string> warnings;
};

// Throws usage when the folder is in use, holds something else, or a run with other settings; a dry run writes nothing.
RunFolder open_run_folder(const TrainConfig& config);

// What is to be done about a run that does not go on with what it began with.
std::string other_run_hint(const TrainConfig& config, const RunFolder& folder);

}  // namespace loraine
