// A checkpoint-N that transformers' Trainer wrote (LLaMA-Factory's), to go on from: optimizer.pt and scheduler.pt are torch pickles, read
// without running anything (io/torch). Called by checkpoint.cpp and save.cpp.
#pragma once
#include <optional>
#include <string>

#include "loraine/train/config/config.h"
#include "loraine/train/optimizers/optimizer.h"
#include "loraine/train/records/metrics.h"
#include "loraine/train/saving/checkpoint.h"

namespace loraine {

// Whether the folder holds what the Trainer saves to resume from, and not this program's marker.
bool is_transformers_checkpoint(const std::string& folder);
// Why such a folder cannot be gone on from (a file is missing or no torch file), or nothing.
std::optional<std::string> transformers_checkpoint_damage(const std::string& folder);

// The place in the data and the schedule, as transformers finds it: from the number of updates alone.
TrainingState transformers_position(const std::string& folder, const TrainConfig& config, const TrainerState& state,
                                    int64_t updates_per_epoch);
// AdamW's moments, parameter by parameter in torch's order; that order, all shapes and counts are checked. Gives the number of updates that
// they have seen. Throws bad_data, or unsupported for another optimizer.
int64_t read_transformers_optimizer(const std::string& folder, const TrainConfig& config, const Optimizer& optimizer);

}  // namespace loraine
