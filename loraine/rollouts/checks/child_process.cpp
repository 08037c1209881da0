// Three pipes and one poll: a program may write before it has read everything.
#include "loraine/rollouts/checks/child_process.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <poll.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <csignal>
#include <cstring>

#include "loraine/core/error.h"

namespace loraine {
namespace {

// A pipe whose ends close by themselves.
struct ChildPipe {
  std::array<int, 2> ends{-1, -1};
  ChildPipe() {
    if (pipe2(ends.data(), O_CLOEXEC) != 0) throw Error(ErrorKind::io, fmt::format("no pipe can be made: {}", std::strerror(errno)));
  }
  ~ChildPipe() { close_end(0), close_end(1); }
  ChildPipe(const ChildPipe&) = delete;
  void close_end(size_t which) {
    if (ends[which] >= 0) close(ends[which]);
    ends[which] = -1;
  }
};

// While it lives a pipe that nobody reads gives this thread EPIPE, and no signal.
class WithoutPipeSignal {
 public:
  WithoutPipeSignal() {
    sigemptyset(&pipe_);
    sigaddset(&pipe_, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe_, &before_);
  }
  ~WithoutPipeSignal() {
    if (sigismember(&before_, SIGPIPE) == 0) {
      const timespec now{0, 0};
      while (sigtimedwait(&pipe_, nullptr, &now) > 0) {}
    }
    pthread_sigmask(SIG_SETMASK, &before_, nullptr);
  }
  WithoutPipeSignal(const WithoutPipeSignal&) = delete;

 private:
  sigset_t pipe_, before_;
};

pid_t start_child(const std::vector<std::string>& words, const ChildPipe& in, const ChildPipe& out, const ChildPipe& errors) {
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, in.ends[0], 0);
  posix_spawn_file_actions_adddup2(&actions, out.ends[1], 1);
  posix_spawn_file_actions_adddup2(&actions, errors.ends[1], 2);
  posix_spawnattr_t attributes;
  posix_spawnattr_init(&attributes);
  sigset_t none, all;
  sigemptyset(&none);
  sigfillset(&all);
  posix_spawnattr_setsigmask(&attributes, &none);
  posix_spawnattr_setsigdefault(&attributes, &all);
  posix_spawnattr_setpgroup(&attributes, 0);
  posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF | POSIX_SPAWN_SETPGROUP);
  std::vector<std::string> kept = words;
  std::vector<char*> argv;
  for (std::string& word : kept) argv.push_back(word.data());
  argv.push_back(nullptr);
  pid_t child = 0;
  const int failed = posix_spawnp(&child, argv[0], &actions, &attributes, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  posix_spawnattr_destroy(&attributes);
  if (failed) throw Error(ErrorKind::io, fmt::format("{} cannot be started: {}", words[0], std::strerror(failed)));
  return child;
}

int code_of(int status) { return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status); }

}  // namespace

ChildResult run_child(const std::vector<std::string>& words, const std::string& input, double seconds, size_t most) {
  using Clock = std::chrono::steady_clock;
  const auto end = Clock::now() + std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  const auto left = [&] { return std::chrono::duration_cast<std::chrono::milliseconds>(end - Clock::now()).count(); };
  ChildPipe in, out, errors;
  const pid_t child = start_child(words, in, out, errors);
  in.close_end(0), out.close_end(1), errors.close_end(1);
  fcntl(in.ends[1], F_SETFL, O_NONBLOCK);
  const WithoutPipeSignal quiet;
  ChildResult result;
  size_t written = 0;
  if (input.empty()) in.close_end(1);
  const auto read_some = [&](ChildPipe& from, std::string& to) {
    char block[1 << 16];
    const ssize_t n = read(from.ends[0], block, sizeof block);
    if (n > 0) to.append(block, static_cast<size_t>(n));
    else if (n == 0 || (errno != EINTR && errno != EAGAIN)) from.close_end(0);
  };
  while (out.ends[0] >= 0 || errors.ends[0] >= 0) {
    std::array<pollfd, 3> ends{{{in.ends[1], POLLOUT, 0}, {out.ends[0], POLLIN, 0}, {errors.ends[0], POLLIN, 0}}};
    const auto wait = left();
    if (wait <= 0 || result.out.size() + result.errors.size() > most) {
      result.timed_out = true;
      break;
    }
    if (poll(ends.data(), ends.size(), static_cast<int>(std::min<int64_t>(wait, 1000))) <= 0) continue;
    if (ends[0].fd >= 0 && ends[0].revents != 0) {
      const ssize_t n = write(in.ends[1], input.data() + written, input.size() - written);
      if (n > 0) written += static_cast<size_t>(n);
      if (written == input.size() || (n < 0 && errno != EINTR && errno != EAGAIN)) in.close_end(1);  // it reads no more: that may be meant
    }
    if (ends[1].fd >= 0 && ends[1].revents != 0) read_some(out, result.out);
    if (ends[2].fd >= 0 && ends[2].revents != 0) read_some(errors, result.errors);
  }
  in.close_end(1);
  int status = 0;
  while (!result.timed_out) {  // it has closed what it writes to, and may go on
    const pid_t ended = waitpid(child, &status, WNOHANG);
    if (ended == child || (ended < 0 && errno != EINTR)) {
      result.code = code_of(status);
      return result;
    }
    if (left() <= 0) result.timed_out = true;
    else usleep(2000);
  }
  kill(-child, SIGKILL);
  while (waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  result.code = code_of(status);
  return result;
}

}  // namespace loraine
