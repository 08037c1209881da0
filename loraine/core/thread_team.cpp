// One word says whether a job is open and how many threads are inside; who waits for it to change turns first and then sleeps on it
// (futex).
#include "loraine/core/thread_team.h"

#include <linux/futex.h>
#include <omp.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <climits>
#include <cstdint>
#include <system_error>
#include <thread>
#include <vector>

#include "loraine/core/context.h"
#include "loraine/core/signals.h"

namespace loraine {

constinit thread_local LoopCounts loop_counts;

namespace {

// Turns before a thread sleeps. Longer than most gaps between the loops of a step and shorter than what a busy machine gives a thread at a
// time, which is what a thread would turn away while the one that it waits for is put off.
constexpr std::chrono::microseconds kTurning(100);

inline void pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#endif
}

template <class Done>
bool turn_until(Done&& done) {
  const auto end = std::chrono::steady_clock::now() + kTurning;
  do {
    for (int i = 0; i < 32; ++i) {
      if (done()) return true;
      pause();
    }
  } while (std::chrono::steady_clock::now() < end);
  return false;
}

using Word = std::atomic<uint32_t>;
static_assert(Word::is_always_lock_free && sizeof(Word) == sizeof(uint32_t));

void sleep_while(Word& word, uint32_t value) { syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0); }
void wake(Word& word, int sleepers) { syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, sleepers, nullptr, nullptr, 0); }

thread_local bool inside_a_job = false;

class Team {
 public:
  ~Team() {
    stop_.store(true);
    next_job(0);
    wake(word_, INT_MAX);
    const bool copied = getpid() != owner_;  // by fork, which leaves the threads behind
    for (std::thread& thread : threads_) {
      if (copied) thread.detach();
      else thread.join();
    }
  }

  void grow(int threads) {
    while (static_cast<int>(threads_.size()) < threads - 1) threads_.emplace_back([this] { serve(); });
  }

  void run(int threads, void (*work)(const void*), const void* what) {
    try {
      if (!refused_) grow(threads);
    } catch (const std::system_error&) { refused_ = true; }  // those that there are do all of it
    work_ = work, what_ = what, limit_ = static_cast<uint32_t>(threads - 1);
    next_job(kOpen);
    if (sleepers_.load() > 0) wake(word_, threads - 1);
    inside_a_job = true;
    work(what);
    inside_a_job = false;
    word_.fetch_and(~kOpen);
    const auto all_left = [this] { return (word_.load() & kInside) == 0; };
    if (turn_until(all_left)) return;
    for (;;) {
      caller_sleeps_.store(1);
      if (all_left()) return;
      sleep_while(caller_sleeps_, 1);
    }
  }

 private:
  // The word: the number of the job, whether threads may still join it, how many are inside.
  static constexpr uint32_t kInside = 0x7fff, kOpen = 0x8000, kOneJob = 0x10000;
  static uint32_t job_of(uint32_t word) { return word / kOneJob; }

  void next_job(uint32_t open) { word_.store((job_of(word_.load()) + 1) * kOneJob | open); }

  void serve() {
    block_outside_signals();
    have_signal_stack();
    omp_set_num_threads(1);  // for libraries that would start threads of their own
    inside_a_job = true;
    for (uint32_t seen = 0;;) {
      uint32_t word = next_open_job(seen);
      if (stop_.load()) return;
      seen = job_of(word);
      while ((word & kOpen) && job_of(word) == seen && (word & kInside) < limit_.load()) {
        if (!word_.compare_exchange_weak(word, word + 1)) continue;
        work_.load()(what_.load());
        if ((word_.fetch_sub(1) & (kOpen | kInside)) == 1 && caller_sleeps_.exchange(0) == 1) wake(caller_sleeps_, 1);
        break;
      }
    }
  }

  uint32_t next_open_job(uint32_t seen) {
    uint32_t word = 0;
    const auto came = [&] {
      word = word_.load();
      return ((word & kOpen) && job_of(word) != seen) || stop_.load();
    };
    while (!turn_until(came)) {
      sleepers_.fetch_add(1);
      if (!came()) sleep_while(word_, word);
      sleepers_.fetch_sub(1);
    }
    return word;
  }

  alignas(64) Word word_{0};
  std::atomic<uint32_t> limit_{0};
  std::atomic<void (*)(const void*)> work_{nullptr};
  std::atomic<const void*> what_{nullptr};
  alignas(64) std::atomic<int> sleepers_{0};
  Word caller_sleeps_{0};
  std::atomic<bool> stop_{false};
  bool refused_ = false;
  const pid_t owner_ = getpid();
  std::vector<std::thread> threads_;
};

Team& team() {
  static thread_local Team own;
  return own;
}

}  // namespace

void start_team() { team().grow(thread_count()); }

void detail::run_in_team(int threads, void (*work)(const void*), const void* what) {
  if (threads <= 1 || inside_a_job) return work(what);
  team().run(threads, work, what);
}

}  // namespace loraine
