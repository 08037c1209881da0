// Settings files of LLaMA-Factory's rewritten tree (USE_V1=1; examples/v1): nested keys, other names, other defaults. Called by
// read_arguments, after overrides are merged and ${…} is put in.
#pragma once
#include <string>
#include <vector>

#include "loraine/cli/settings/yaml_values.h"

namespace loraine {

// Where a key is one that only such files have, puts loraine's keys in the place of all, and with `training` the values that v1 has where
// nothing is given; one line about it goes to `notes`. Throws usage or unsupported for a key or value that has no counterpart, by its
// place.
void translate_v1(std::vector<KeyValue>& pairs, bool training, std::vector<std::string>& notes);

}  // namespace loraine
