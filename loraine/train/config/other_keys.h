// Keys of LLaMA-Factory without a field in TrainConfig. Used by train/config only.
#pragma once
#include <vector>

namespace loraine {

struct OtherKey {
  const char* name;
  bool changes_result;        // true: refused unless it has its default; false: accepted, with a note
  const char* default_value;  // JSON
};

const std::vector<OtherKey>& other_keys();

}  // namespace loraine
