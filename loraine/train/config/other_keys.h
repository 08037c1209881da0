// Keys of LLaMA-Factory without a field in TrainConfig. Used by train/config only.
#pragma once
#include <cstdint>
#include <vector>

namespace loraine {

enum class OtherKeyKind : uint8_t {
  no_effect,    // accepted, with one note for all such keys
  warned,       // accepted with a warning of its own: `text` says what does what others mean by it
  one_process,  // it spreads a run over processes or devices, of which there is one: accepted with a line; a file that it names must be
                // JSON
  not_built,    // refused unless it has its default
  refused       // the same, for good: `text` says why and what to do instead
};
struct OtherKey {
  const char* name;
  OtherKeyKind kind;
  const char* default_value;  // JSON
  const char* text = nullptr;
};

const std::vector<OtherKey>& other_keys();

}  // namespace loraine
