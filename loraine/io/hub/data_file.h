// One file of a data set at Hugging Face's hub: LLaMA-Factory's v1 lists of data. Called by cli/settings; written in hub.cpp.
#pragma once
#include <string>

#include "loraine/io/hub/hub.h"

namespace loraine {

// A file at the path `name`, else org/name/FILE of a data set, found and downloaded as find_place does (hub.h), with that one file alone.
// Throws MissingFile where there is neither.
FoundPlace find_data_file(const std::string& name, const HubAccess& access);

}  // namespace loraine
