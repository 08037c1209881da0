// Keys of LLaMA-Factory without a field in TrainConfig. Used by train/config only.
#pragma once
#include <vector>

namespace loraine {

struct OtherKey {
  const char* name;
  bool changes_result;            // true: refused unless it has its default; false: accepted, with a note
  const char* default_value;      // JSON
  const char* instead = nullptr;  // accepted with a warning: it has no effect, and this is what does what others mean by it
};

const std::vector<OtherKey>& other_keys();

}  // namespace loraine
