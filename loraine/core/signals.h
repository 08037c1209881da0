// Who takes signals. A handler never runs on the stack of a thread that computes: the kernels that oneDNN generates keep values below the
// stack pointer, where the frame of a handler would be laid over them. So threads that compute block what comes from outside, and one
// thread of its own takes it. SIGBUS, which belongs to the access that caused it, gets a stack of its own in every such thread.
#pragma once
#include <csignal>
#include <functional>
#include <initializer_list>

namespace loraine {

// For the program: this thread and all that it starts block signals from outside; a thread is started that takes SIGINT and SIGTERM. As
// long as nobody watches they do what they do by default, or nothing where the program was started with them ignored. Once, before anything
// computes; throws out_of_memory when the thread cannot be started.
void take_signals();

// While it lives, the signals named call `on_signal` in the thread that takes them. That is no handler: it may lock, allocate and write.
// The newest watch of a signal counts. Does nothing before take_signals().
class SignalWatch {
 public:
  SignalWatch(std::initializer_list<int> signals, std::function<void(int)> on_signal);
  ~SignalWatch();
  SignalWatch(const SignalWatch&) = delete;
  SignalWatch& operator=(const SignalWatch&) = delete;
};

// While it lives, SIGINT is for this thread, which waits for input and does not compute meanwhile. One at a time.
class InterruptibleRead {
 public:
  InterruptibleRead();
  ~InterruptibleRead();
  InterruptibleRead(const InterruptibleRead&) = delete;
  InterruptibleRead& operator=(const InterruptibleRead&) = delete;
  bool wait(int fd);  // true when a read would not block; false when SIGINT came, since the last call or meanwhile
};

// For threads that compute.
void block_outside_signals();

// For threads of other programs, where handlers are those of the program: while it lives, this thread blocks signals from outside, as those
// that compute for it do, and the handlers run in a thread of our own. May be nested.
class SignalsElsewhere {
 public:
  SignalsElsewhere();
  ~SignalsElsewhere();
  SignalsElsewhere(const SignalsElsewhere&) = delete;
  SignalsElsewhere& operator=(const SignalsElsewhere&) = delete;

 private:
  sigset_t before_;
};

namespace detail {
extern constinit thread_local bool has_signal_stack;
void make_signal_stack();
}  // namespace detail

// Gives this thread a stack for the handler of SIGBUS, until it ends. Called by whatever reads mapped files on threads; costs a load.
inline void have_signal_stack() {
  if (!detail::has_signal_stack) detail::make_signal_stack();
}

}  // namespace loraine
