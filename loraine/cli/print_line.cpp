// Writes that wait a second at most, and no longer at all once nobody read for that long.
#include "loraine/cli/print_line.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <climits>
#include <map>
#include <mutex>

#include "loraine/cli/language/language.h"

namespace loraine {
namespace {

constexpr int kPatience = 1000;  // milliseconds

struct Stream {
  bool unread = false;  // nobody read for that long
  bool cut = false;     // the last line is there in part
};

// The same pipe or terminal opened anew, so that writing does not wait while for others that hold it nothing changes; -1 where it cannot
// be.
int opened_anew(int fd) {
  struct stat status {};
  if (::fstat(fd, &status) != 0 || !(S_ISFIFO(status.st_mode) || S_ISCHR(status.st_mode))) return -1;
  return ::open(fmt::format("/proc/self/fd/{}", fd).c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
}

ssize_t write_some(int fd, std::string_view text) {
  const ssize_t sent = ::send(fd, text.data(), text.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
  return sent < 0 && errno == ENOTSOCK ? ::write(fd, text.data(), text.size()) : sent;
}

}  // namespace

void print_line(int fd, std::string_view text) {
  using Clock = std::chrono::steady_clock;
  static std::mutex guard;
  static std::map<int, Stream> streams;
  const std::lock_guard<std::mutex> hold(guard);
  Stream& stream = streams[fd];
  const std::string mended = stream.cut ? "\n" + std::string(text) : std::string();
  if (stream.cut) text = mended;
  const int own = opened_anew(fd), out = own < 0 ? fd : own;
  const auto end = Clock::now() + std::chrono::milliseconds(stream.unread ? 0 : kPatience);
  const size_t whole = text.size();
  while (!text.empty()) {
    pollfd ready{out, POLLOUT, 0};
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count();
    const int polled = ::poll(&ready, 1, std::max(0, static_cast<int>(left)));
    if (polled < 0 && errno == EINTR) continue;
    stream.unread = polled == 0;
    if (polled <= 0) break;
    // As much as a pipe that is ready takes at once.
    const ssize_t written = write_some(out, text.substr(0, PIPE_BUF));
    stream.unread = written < 0 && errno == EAGAIN && Clock::now() >= end;
    if (written < 0 && (errno == EINTR || errno == EAGAIN) && !stream.unread) continue;
    if (written <= 0) break;  // full, or closed
    text.remove_prefix(static_cast<size_t>(written));
  }
  if (text.size() < whole) stream.cut = !text.empty();
  if (own >= 0) ::close(own);
}

void print_stderr(const std::string& text) { print_line(STDERR_FILENO, translated(text)); }

}  // namespace loraine
