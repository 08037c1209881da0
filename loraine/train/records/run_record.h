// What a run was begun with, kept in its folder and in each checkpoint: its settings and a fingerprint of the base. Read where a run goes
// on, to tell what is not the same. Own to loraine.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "loraine/core/describe.h"
#include "loraine/io/model_files.h"
#include "loraine/train/config/config.h"

namespace loraine {

inline constexpr const char* kRunRecord = "loraine_run.json";

struct RunRecord {
  std::string settings;  // a JSON object, key to value
  std::string base;      // fingerprint of the base model's files
};

// Of the weights' files (sizes and some of their bytes) and config.json, wherever they lie: 16 hexadecimal digits.
std::string base_fingerprint(const ModelFiles& files);

RunRecord run_record(const TrainConfig& config, const std::string& base);
void write_run_record(const std::string& folder, const RunRecord& record);
std::optional<RunRecord> read_run_record(const std::string& folder);  // nothing where there is none; bad_data when it is not one

// Settings that are not those of the record, each as "learning_rate differs (was 5e-05, now 0.0001)". Those that mean nothing beside the
// others (use_adalora's keys without it), or nothing but to this call (dry_run), are left out.
struct ChangedSettings {
  std::vector<std::string> result;  // change what comes out
  std::vector<std::string> data;    // say which data and how they are read: whether they changed the data's hash tells
  std::vector<std::string> free;    // the length of the run, and what is logged, saved and evaluated
};
ChangedSettings changed_settings(const RunRecord& record, const TrainConfig& config);

}  // namespace loraine
