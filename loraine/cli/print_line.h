// Words about a run for whoever watches it. A stream that nobody reads takes none: a line is dropped rather than waited for. What a command
// was asked for (an answer, a table of results) is not written this way.
#pragma once
#include <string>
#include <string_view>

namespace loraine {

void print_line(int fd, std::string_view text);  // one or more whole lines; errors are ignored
void print_stderr(const std::string& text);      // in the language of the screen

}  // namespace loraine
