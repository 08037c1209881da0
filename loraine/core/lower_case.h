// ASCII letters of a text in lower case. Called wherever words of settings, names of files and headers are compared without case.
#pragma once

#include <string>
#include <string_view>

namespace loraine {

// Bytes beyond ASCII stay as they are, whatever the locale.
std::string lower_case(std::string_view text);

}  // namespace loraine
