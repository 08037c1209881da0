// Tool definitions and calls as text, in the format a named template uses. Called by encode.cpp.
#pragma once
#include <string>

namespace loraine {

std::string tools_text(const std::string& format, const std::string& tools_json);
std::string calls_text(const std::string& format, const std::string& calls_json);

}  // namespace loraine
