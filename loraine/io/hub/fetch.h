// The download of a repository: ask what there is, choose what is needed, load what this machine lacks. Called by hub.cpp.
#pragma once
#include "loraine/io/hub/cache.h"

namespace loraine {

// The snapshot, whole for its kind. What it throws: see find_place.
Snapshot fetch_snapshot(Hub hub, const std::string& id, const HubAccess& access, HubKind kind);
// Of a data set at Hugging Face's hub, with that one file of it.
Snapshot fetch_data_file(const std::string& id, const std::string& path, const HubAccess& access);

}  // namespace loraine
