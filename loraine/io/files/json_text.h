// Small JSON and UTF-8 pieces shared by the readers and writers of this module.
#pragma once
#include <string>
#include <string_view>

namespace loraine {

void append_json_string(std::string& out, std::string_view text);  // quoted and escaped, non-ASCII kept as UTF-8
bool is_utf8(std::string_view text);
std::string in_quotes(std::string_view text, size_t limit = 120);  // for messages: printable, shortened

}  // namespace loraine
