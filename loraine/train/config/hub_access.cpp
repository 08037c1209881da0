#include "loraine/train/config/hub_access.h"

namespace loraine {

HubAccess hub_access(const TrainConfig& c) {
  HubAccess access;
  access.revision = c.model_revision;
  access.cache_dir = c.cache_dir.value_or("");
  access.token = c.hf_hub_token.value_or("");
  access.modelscope_token = c.ms_hub_token.value_or("");
  access.subfolder = c.adapter_folder.value_or("");
  while (access.subfolder.ends_with('/')) access.subfolder.pop_back();
  return access;
}

HubAccess data_hub_access(const TrainConfig& c) {
  HubAccess access = hub_access(c);
  access.revision = "main";
  access.subfolder.clear();
  return access;
}

}  // namespace loraine
