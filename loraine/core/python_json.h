// JSON text as Python's json.dumps writes it. Used where rows and tools become text.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

namespace loraine {

struct PythonJsonStyle {
  int indent = 0;      // 0: one line with ", " and ": "
  bool ascii = false;  // \u escapes outside ASCII
};
std::string python_json(const nlohmann::ordered_json& value, PythonJsonStyle style = {});

}  // namespace loraine
