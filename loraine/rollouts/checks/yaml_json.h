// A YAML file as JSON; JSON is YAML. Called by open_checks.
#pragma once
#include <nlohmann/json.hpp>
#include <string>

namespace loraine {

// Plain words are null, true, false and numbers as in JSON, everything else is text; quoted words are text. usage naming file and line for
// what is no YAML, for a key that stands twice, and for nesting beyond 64.
nlohmann::ordered_json parse_yaml_file(const std::string& path);

}  // namespace loraine
