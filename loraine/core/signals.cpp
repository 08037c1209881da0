// The thread that takes signals, and the stacks of SIGBUS.
#include "loraine/core/signals.h"

#include <poll.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <mutex>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr size_t kTakerStack = 256u << 10;  // a watch prints a line, no more

// All that comes from outside. What belongs to an instruction cannot wait, and job control has no handlers.
sigset_t outside_signals() {
  sigset_t set;
  sigfillset(&set);
  for (int signal : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGTSTP, SIGTTIN, SIGTTOU, SIGCONT})
    sigdelset(&set, signal);
  return set;
}

sigset_t set_of(std::initializer_list<int> signals) {
  sigset_t set;
  sigemptyset(&set);
  for (int signal : signals) sigaddset(&set, signal);
  return set;
}

void start_detached(void* (*run)(void*)) {
  pthread_attr_t attributes;
  pthread_attr_init(&attributes);
  pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
  pthread_attr_setstacksize(&attributes, kTakerStack);
  pthread_t thread;
  const int failed = pthread_create(&thread, &attributes, run, nullptr);
  pthread_attr_destroy(&attributes);
  if (failed)
    throw Error(ErrorKind::out_of_memory, std::string("the thread that takes signals cannot be started: ") + std::strerror(failed),
                "raise the limits of address space and of processes (ulimit -v, ulimit -u)");
}

struct Watch {
  const SignalWatch* owner;
  std::vector<int> signals;
  std::function<void(int)> on_signal;
};
// Never destroyed: the taker lives until the process ends.
struct Watches {
  std::mutex mutex;
  std::vector<Watch> all;
};
Watches& watches() {
  static auto* const kept = new Watches;
  return *kept;
}

bool ignored_at_start[NSIG] = {};

// What the signal would have done without us.
void by_default(int signal) {
  if (ignored_at_start[signal]) return;
  ::signal(signal, SIG_DFL);
  const sigset_t set = set_of({signal});
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal);
}

// The thread that waits in a read, while one does.
std::atomic<bool> read_interrupted{false}, reading{false};
pthread_t reader;

void* take(void*) {
  const sigset_t set = set_of({SIGINT, SIGTERM});
  sigset_t others = outside_signals();
  for (int signal : {SIGINT, SIGTERM}) sigdelset(&others, signal);
  pthread_sigmask(SIG_UNBLOCK, &others, nullptr);
  for (;;) {
    int signal = 0;
    if (sigwait(&set, &signal) != 0) continue;
    if (signal == SIGINT && reading) {
      pthread_kill(reader, SIGINT);
      continue;
    }
    auto& [mutex, all] = watches();
    const std::lock_guard lock(mutex);
    const auto watch =
        std::find_if(all.rbegin(), all.rend(), [&](const Watch& w) { return std::ranges::find(w.signals, signal) != w.signals.end(); });
    if (watch != all.rend()) watch->on_signal(signal);
    else by_default(signal);
  }
}

void* run_handlers(void*) {
  const sigset_t set = outside_signals();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  for (;;) pause();
}

// A child of fork has none of its parent's threads.
void start_handler_thread() {
  static std::mutex mutex;
  static pid_t started_in = 0;
  const std::lock_guard lock(mutex);
  if (started_in == getpid()) return;
  start_detached(run_handlers);
  started_in = getpid();
}

class SignalStack {
 public:
  SignalStack() {
    stack_t there;
    if (sigaltstack(nullptr, &there) == 0 && !(there.ss_flags & SS_DISABLE)) return;  // somebody else's, who also takes it away
    const long least = sysconf(_SC_MINSIGSTKSZ);                                      // it grows with the registers that a frame holds
    bytes_ = static_cast<size_t>(std::max(least, 0L)) + (32u << 10);
    memory_ = mmap(nullptr, bytes_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory_ == MAP_FAILED) return;
    stack_t ours{};
    ours.ss_sp = memory_;
    ours.ss_size = bytes_;
    sigaltstack(&ours, nullptr);
  }
  ~SignalStack() {
    detail::has_signal_stack = false;
    if (!memory_ || memory_ == MAP_FAILED) return;
    stack_t none{};
    none.ss_flags = SS_DISABLE;
    sigaltstack(&none, nullptr);
    munmap(memory_, bytes_);
  }

 private:
  void* memory_ = nullptr;
  size_t bytes_ = 0;
};

}  // namespace

void take_signals() {
  for (int signal : {SIGINT, SIGTERM}) {
    struct sigaction now {};
    ignored_at_start[signal] = sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
  }
  const sigset_t set = outside_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  have_signal_stack();
  start_detached(take);
}

SignalWatch::SignalWatch(std::initializer_list<int> signals, std::function<void(int)> on_signal) {
  auto& [mutex, all] = watches();
  const std::lock_guard lock(mutex);
  all.push_back({this, signals, std::move(on_signal)});
}

SignalWatch::~SignalWatch() {
  auto& [mutex, all] = watches();
  const std::lock_guard lock(mutex);
  std::erase_if(all, [&](const Watch& watch) { return watch.owner == this; });
}

InterruptibleRead::InterruptibleRead() {
  struct sigaction action {};
  action.sa_handler = +[](int) { read_interrupted = true; };
  sigemptyset(&action.sa_mask);
  sigaction(SIGINT, &action, nullptr);
  read_interrupted = false;
  reader = pthread_self();
  reading = true;
}

InterruptibleRead::~InterruptibleRead() {
  reading = false;
  const sigset_t set = set_of({SIGINT});
  constexpr timespec kNow{};
  sigtimedwait(&set, nullptr, &kNow);  // one that was passed on after the last wait
}

// The signal is let in while poll waits and at no other time, so that none can come between looking for it and waiting.
bool InterruptibleRead::wait(int fd) {
  sigset_t mask;
  pthread_sigmask(SIG_BLOCK, nullptr, &mask);
  sigdelset(&mask, SIGINT);
  pollfd input{fd, POLLIN, 0};
  while (ppoll(&input, 1, nullptr, &mask) < 0 && errno == EINTR)
    if (read_interrupted.exchange(false)) return false;
  return true;
}

void block_outside_signals() {
  const sigset_t set = outside_signals();
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
}

SignalsElsewhere::SignalsElsewhere() {
  start_handler_thread();
  const sigset_t set = outside_signals();
  pthread_sigmask(SIG_BLOCK, &set, &before_);
}

SignalsElsewhere::~SignalsElsewhere() { pthread_sigmask(SIG_SETMASK, &before_, nullptr); }

namespace detail {

constinit thread_local bool has_signal_stack = false;

void make_signal_stack() {
  static thread_local SignalStack stack;
  has_signal_stack = true;
}

}  // namespace detail
}  // namespace loraine
