// loraine.json, beside an adapter or a model that was trained: what whoever loads it has to know and no file of others says. Written by
// train and export, read by whoever opens an adapter.
#pragma once
#include <optional>
#include <string>

namespace loraine {

struct TrainingRecord {
  std::optional<std::string> template_name;   // a named chat template; none: the one that comes with the model
  std::optional<std::string> default_system;  // given beside it
  std::optional<bool> enable_thinking = true;
  std::string base_fingerprint;            // weights_fingerprint of the model below it; empty: unknown, or a model itself
  std::optional<std::string> tool_format;  // of the named template, where it is not its own
  bool preserve_thinking = false;
};

// None where the folder has no such file. bad_data for one that is broken.
std::optional<TrainingRecord> read_training_record(const std::string& folder);
void write_training_record(const TrainingRecord& record, const std::string& folder);  // durably

}  // namespace loraine
