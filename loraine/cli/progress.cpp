// Drawing of the progress line and of tables. Called by the commands; the library itself never prints.
#include "loraine/cli/progress.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <string_view>

#include "loraine/cli/language/language.h"
#include "loraine/cli/screen_width.h"
#include "loraine/core/count_text.h"

namespace loraine {
namespace {

size_t terminal_width(int fd) {
  winsize size{};
  return ioctl(fd, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

std::string bar(double share, size_t cells) {
  static const char* const kParts[] = {"", "▏", "▎", "▍", "▌", "▋", "▊", "▉"};
  size_t eighths = static_cast<size_t>(std::clamp(share, 0.0, 1.0) * static_cast<double>(cells * 8) + 0.5);
  std::string out;
  for (size_t i = 0; i < eighths / 8; ++i) out += "█";
  size_t used = eighths / 8;
  if (eighths % 8) out += kParts[eighths % 8], ++used;
  return out + std::string(cells - used, ' ');
}

bool looks_like_number(const std::string& cell) {
  return !cell.empty() && cell.find_first_not_of("0123456789.,+-% eE") == std::string::npos;
}

}  // namespace

Progress::Progress(std::string what, int fd, double seconds)
    : what_(std::move(what)),
      fd_(fd),
      terminal_(isatty(fd) != 0),
      seconds_(seconds),
      start_(std::chrono::steady_clock::now()),
      last_draw_(start_) {}

void Progress::update(const ProgressState& state) {
  auto now = std::chrono::steady_clock::now();
  bool first = !first_step_;
  if (first) { first_step_ = std::max<int64_t>(0, state.step - 1); }
  ProgressState merged = state;  // what a step did not measure keeps its last value
  if (!merged.loss) merged.loss = state_.loss;
  if (!merged.learning_rate) merged.learning_rate = state_.learning_rate;
  if (!merged.tokens_per_second) merged.tokens_per_second = state_.tokens_per_second;
  state_ = merged;
  drawn_ = false;
  double since = std::chrono::duration<double>(now - last_draw_).count();
  if (first || since >= (terminal_ ? 0.1 : seconds_)) draw(state_, false);
}

void Progress::message(const std::string& line) { print_line(fd_, (terminal_ ? "\r\x1b[K" : "") + translated(line) + "\n"); }

void Progress::finish() {
  if (first_step_ && (terminal_ || !drawn_)) draw(state_, true);
  first_step_.reset();
}

void Progress::draw(const ProgressState& state, bool last) {
  auto now = std::chrono::steady_clock::now();
  last_draw_ = now;
  drawn_ = true;
  double share = state.total > 0 ? static_cast<double>(state.step) / static_cast<double>(state.total) : 0;
  std::vector<std::string> parts;  // the most wanted first: the line is cut at the terminal's edge
  parts.push_back(fmt::format("{}/{}", state.step, state.total));
  if (state.loss) parts.push_back(fmt::format("loss {:.4f}", *state.loss));
  if (state.learning_rate) parts.push_back(fmt::format("lr {:.2e}", *state.learning_rate));
  if (state.tokens_per_second) parts.push_back(count_text(std::llround(*state.tokens_per_second)) + " tok/s");
  double passed = std::chrono::duration<double>(now - start_).count();
  int64_t done = state.step - first_step_.value_or(0);
  if (last) {
    parts.push_back(duration_text(passed));
  } else if (done > 0 && state.total >= state.step) {
    parts.push_back(duration_text(passed / static_cast<double>(done) * static_cast<double>(state.total - state.step)) + " left");
  }
  const int64_t memory = state.memory_bytes.value_or(resident_bytes());
  if (memory > 0 && !last) parts.push_back(memory_text(static_cast<double>(memory)));

  if (!terminal_) {
    print_line(fd_, fmt::format("{} {:3.0f}%  {}\n", what_, share * 100, fmt::join(parts, "  ")));
    return;
  }
  size_t width = terminal_width(fd_) - 1;
  std::string line = fmt::format("{} {:3.0f}%", what_, share * 100);
  size_t cells = width >= 90 ? 20 : width >= 60 ? 10 : 0;
  if (cells > 0) line += " ▕" + bar(share, cells) + "▏";
  for (const std::string& part : parts) {
    if (screen_width(line) + 2 + screen_width(part) > width) break;
    line += "  " + part;
  }
  print_line(fd_, "\r" + line + "\x1b[K" + (last ? "\n" : ""));
}

std::string table_text(const std::string& title, const std::vector<std::vector<std::string>>& english_rows, bool heading) {
  // Labels are in the language of the screen: the title, the heading and what stands first in a row.
  std::vector<std::vector<std::string>> rows = english_rows;
  for (size_t r = 0; r < rows.size(); ++r) {
    const size_t labels = heading && r == 0 ? rows[r].size() : std::min<size_t>(1, rows[r].size());
    for (size_t i = 0; i < labels; ++i) rows[r][i] = translated(rows[r][i]);
  }
  std::vector<size_t> widths;
  for (const auto& row : rows) {
    if (row.size() > widths.size()) widths.resize(row.size());
    for (size_t i = 0; i < row.size(); ++i) widths[i] = std::max(widths[i], screen_width(row[i]));
  }
  std::string out = title.empty() ? "" : translated(title) + "\n";
  for (size_t r = 0; r < rows.size(); ++r) {
    std::string line = " ";
    for (size_t i = 0; i < widths.size(); ++i) {
      std::string cell = i < rows[r].size() ? rows[r][i] : "";
      bool right = looks_like_number(cell) || (heading && r == 0 && rows.size() > 1 && i < rows[1].size() && looks_like_number(rows[1][i]));
      std::string fill(widths[i] - screen_width(cell), ' ');
      line += (i > 0 ? "  " : " ") + (right ? fill + cell : cell + fill);
    }
    line.erase(line.find_last_not_of(' ') + 1);
    out += line + "\n";
    if (heading && r == 0) {
      size_t total = 0;
      for (size_t w : widths) total += w + 2;
      out += "  ";
      for (size_t i = 2; i < total; ++i) out += "─";
      out += "\n";
    }
  }
  return out;
}

std::string bytes_text(double bytes) {
  static const char* const kUnits[] = {"B", "KiB", "MiB", "GiB", "TiB"};
  size_t unit = 0;
  while (bytes >= 1024 && unit < 4) bytes /= 1024, ++unit;
  return unit == 0 ? fmt::format("{:.0f} B", bytes) : fmt::format("{:.1f} {}", bytes, kUnits[unit]);
}

std::string memory_text(double bytes) {
  const double mib = bytes / (1 << 20);
  return mib < 10 ? fmt::format("{:.1f} MiB", mib) : fmt::format("{:.0f} MiB", mib);
}

std::string duration_text(double seconds) {
  if (!(seconds >= 0 && seconds < 1e9)) return "?";
  int64_t s = std::llround(seconds);
  if (s >= 3600) return fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
  return fmt::format("{}:{:02}", s / 60, s % 60);
}

int64_t resident_bytes() {
  std::FILE* file = std::fopen("/proc/self/statm", "r");
  if (!file) return 0;
  long long total = 0, resident = 0;
  int read = std::fscanf(file, "%lld %lld", &total, &resident);
  std::fclose(file);
  return read == 2 ? resident * sysconf(_SC_PAGESIZE) : 0;
}

}  // namespace loraine
