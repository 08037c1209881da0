// YAML as LLaMA-Factory's loader reads it (YAML 1.1 words, 2e-4 is a number, no dates), with places for messages. Called by cli/arguments.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loraine/core/describe.h"

namespace loraine {

struct KeyValue {
  std::string key;
  Value value;
  std::string where;           // "train.yaml:3:1"
  bool override_word = false;  // said on the command line
  bool plain = false;          // a text that may say a number or a yes: it came out of a variable
  std::string word = {};       // another program's word that it was given by
};

// A whole text as one value; `name` is put before line and column in messages. Throws Error::usage.
Value yaml_value(const std::string& text, const std::string& name);
// The top level of a YAML or JSON file's text, which must be a map; duplicate keys are refused.
std::vector<KeyValue> yaml_pairs(const std::string& text, const std::string& name);
std::vector<KeyValue> json_pairs(const std::string& text, const std::string& name);

// key=value, key.inner=value, or key alone (null): one nested map of one key.
KeyValue override_pair(const std::string& word);
// Maps are merged key by key, all else is replaced.
void merge_value(Value& into, const Value& from);

}  // namespace loraine
