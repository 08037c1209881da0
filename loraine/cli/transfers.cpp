#include "loraine/cli/transfers.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "loraine/cli/progress.h"
#include "loraine/cli/screen_width.h"
#include "loraine/io/hub/environment.h"

namespace loraine {
namespace {

size_t terminal_width() {
  winsize size{};
  return ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : 80;
}

void draw(const TransferState& state) {
  print_line(STDERR_FILENO, "\r" + transfer_line(state, terminal_width() - 1) + "\x1b[K" + (state.finished ? "\n" : ""));
}

}  // namespace

std::string transfer_line(const TransferState& state, size_t width) {
  const double total = static_cast<double>(state.total), done = state.finished ? total : static_cast<double>(state.done);
  std::string name = state.file;
  const bool whole = screen_width(name) + 2 <= width / 2;
  while (screen_width(name) + 3 > width / 2 && !whole && !name.empty()) {  // its end tells more
    do name.erase(0, 1);
    while (!name.empty() && (static_cast<unsigned char>(name[0]) & 0xc0) == 0x80);
  }
  std::string line = "  " + std::string(whole ? "" : "…") + name;
  std::vector<std::string> parts = {fmt::format("{:3.0f} %", total > 0 ? 100 * done / total : 100.0)};
  parts.push_back(state.finished ? bytes_text(total) : bytes_text(done) + " / " + bytes_text(total));
  if (state.bytes_per_second > 0) parts.push_back(bytes_text(state.bytes_per_second) + "/s");
  if (!state.finished && state.bytes_per_second > 0) parts.push_back(duration_text((total - done) / state.bytes_per_second) + " left");
  for (const std::string& part : parts) {
    if (screen_width(line) + 2 + screen_width(part) > width) break;
    line += "  " + part;
  }
  return line;
}

void show_transfers() {
  TransferScreen screen;
  screen.message = [](const std::string& line) { print_stderr(line + "\n"); };
  if (isatty(STDERR_FILENO) && !is_set("HF_HUB_DISABLE_PROGRESS_BARS")) screen.progress = draw;
  set_transfer_screen(std::move(screen));
}

}  // namespace loraine
