// A program that is given a text and gives one back. Called by command_check.
#pragma once
#include <string>
#include <vector>

namespace loraine {

struct ChildResult {
  std::string out, errors;  // what it wrote
  bool timed_out = false;   // it was ended, with all that it started
  int code = 0;             // 128 + the signal that ended it
};

// Runs words[0], found as a shell finds it, with `input` on its standard input. It takes signals as any program does. io where it cannot be
// started. What it writes beyond `most` bytes ends it, as running out of time does.
ChildResult run_child(const std::vector<std::string>& words, const std::string& input, double seconds, size_t most);

}  // namespace loraine
