// Files of a folder into a repository of a hub (access.hub, else preferred_hub()), as one commit: made if need be, large files over git's
// LFS protocol, small ones in the commit itself. Called after training (push_to_hub) and by export (export_hub_model_id).
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "loraine/io/hub/hub.h"

namespace loraine {

struct UploadTarget {
  std::string id;                  // org/name; a name alone: of the token's account
  std::optional<bool> is_private;  // of a repository that is made; none: as the account makes them
  std::string branch = "main";     // made when it is not there; of ModelScope main means master, and none is made
  std::string message = "Upload";  // of the commit
};

// Before anything takes long: the token's account, the repository and the branch, made when they are not there. Gives the whole id. Throws
// usage without a token and offline; bad_data for what the hub refuses; io.
std::string prepare_upload(const UploadTarget& target, const HubAccess& access);

struct UploadResult {
  std::string url;   // of the commit; of the repository where nothing is new
  size_t files = 0;  // that were sent; those that lie there already in the same form are not
  uint64_t bytes = 0;
};
// `files`: paths within the folder, which are those in the repository. target.id: whole. The repository has all of them or, on any error,
// none but large contents that no commit names.
UploadResult upload_files(const UploadTarget& target, const std::string& folder, const std::vector<std::string>& files,
                          const HubAccess& access);

}  // namespace loraine
