// What the settings say about hubs. Called wherever something may be given by its id, and before an upload.
#pragma once
#include "loraine/io/hub/hub.h"
#include "loraine/train/config/config.h"

namespace loraine {

HubAccess hub_access(const TrainConfig& config);       // models and adapters
HubAccess data_hub_access(const TrainConfig& config);  // data sets: model_revision and adapter_folder say nothing of them

}  // namespace loraine
