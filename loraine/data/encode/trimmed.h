// A text without the blanks around it. Used by encode.cpp and chat_encode.cpp.
#pragma once
#include <string>

namespace loraine {

inline std::string trimmed(const std::string& text) {
  const size_t first = text.find_first_not_of(" \t\r\n");
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(" \t\r\n") + 1 - first);
}

}  // namespace loraine
