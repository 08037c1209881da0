// What a run or a merge left, to Hugging Face's hub or ModelScope's. Called by the commands train, export and upload.
#pragma once
#include <string>
#include <vector>

#include "loraine/io/hub/upload.h"
#include "loraine/train/config/config.h"

namespace loraine {

struct Push {
  UploadTarget target;
  HubAccess access;
  std::string folder;
};

// Account, repository and branch are looked at, and made if need be: what is wrong with them costs nobody a run. Null keys of the settings
// as their descriptions say; the name of `folder` where `id` is empty. Throws what prepare_upload throws.
Push prepare_push(const TrainConfig& config, const std::string& id, const std::string& folder);

// Uploads the folder's files but for checkpoints, hidden files and the record of the settings, which names paths of this machine. Gives a
// line about it. An error says that the folder is whole, and how to upload it again.
std::string push(const Push& push);

std::vector<std::string> pushed_files(const std::string& folder);  // in order

}  // namespace loraine
