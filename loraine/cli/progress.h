// What the user sees while a run goes on: a bar on a terminal, else a plain line now and then; and tables. Writes to stderr, never fails.
#pragma once
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "loraine/cli/print_line.h"

namespace loraine {

struct ProgressState {
  int64_t step = 0, total = 0;
  std::optional<double> loss, learning_rate, tokens_per_second;
  std::optional<int64_t> memory_bytes;  // absent: the process's resident size is shown
};

class Progress {
 public:
  // fd: where to write; plain lines at most every `seconds` when it is not a terminal.
  explicit Progress(std::string what, int fd = 2, double seconds = 10.0);
  void update(const ProgressState& state);  // cheap; call it after every step
  void message(const std::string& line);    // a line of its own above the bar
  void finish();                            // last state, new line

 private:
  void draw(const ProgressState& state, bool last);
  std::string what_;
  int fd_;
  bool terminal_;
  double seconds_;
  bool drawn_ = false;
  ProgressState state_;
  std::optional<int64_t> first_step_;
  std::chrono::steady_clock::time_point start_, last_draw_;
};

// "| a | b |" tables with a title, columns aligned (numbers right). rows[0] is the heading when `heading`.
std::string table_text(const std::string& title, const std::vector<std::vector<std::string>>& rows, bool heading = true);

std::string bytes_text(double bytes);       // "1.2 GiB"
std::string memory_text(double bytes);      // "886 MiB", "0.4 MiB": the one unit of what a run needs and takes
std::string duration_text(double seconds);  // "1:02:03", "4:05"
int64_t resident_bytes();                   // of this process; 0 when unknown

}  // namespace loraine
