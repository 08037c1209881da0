// Tool texts are not written yet: rows that need them are refused by name. Called by encode.cpp.
#include "loraine/data/tools.h"

#include <fmt/format.h>

#include "loraine/core/error.h"

namespace loraine {

std::string tools_text(const std::string& format, const std::string&) {
  throw Error(ErrorKind::unsupported, fmt::format("tools: the tool format `{}` of a named template is not built yet", format),
              "leave `template` out: the model's own chat template writes tools");
}

std::string calls_text(const std::string& format, const std::string&) { return tools_text(format, {}); }

}  // namespace loraine
