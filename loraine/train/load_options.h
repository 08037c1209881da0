// The form that the settings give the base in memory. Called by every command that loads a model to train or to ask it.
#pragma once
#include <string>

#include "loraine/model/load.h"
#include "loraine/train/config.h"

namespace loraine {

LoadOptions load_options(const TrainConfig& config);
// A warning when the settings quantise a model that is stored quantised already, which stays as it is; else empty.
std::string quantised_already(const ModelFiles& files, const TrainConfig& config);

}  // namespace loraine
