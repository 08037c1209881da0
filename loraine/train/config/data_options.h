// What data/ takes, from the settings of a run. Called by train and eval.
#pragma once
#include "loraine/data/dataset.h"
#include "loraine/train/config/config.h"

namespace loraine {

DataOptions data_options(const TrainConfig& config);

}  // namespace loraine
