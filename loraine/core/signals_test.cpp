// Handlers and watches run on other threads than those that compute, and SIGBUS has a stack of its own.
#include "loraine/core/signals.h"

#include <gtest/gtest.h>
#include <pthread.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <thread>

namespace loraine::signals_test {
namespace {

bool soon(const std::function<bool()>& holds) {
  for (int i = 0; i < 5000 && !holds(); ++i) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  return holds();
}

bool blocked(int signal) {
  sigset_t now;
  pthread_sigmask(SIG_BLOCK, nullptr, &now);
  return sigismember(&now, signal) == 1;
}

void send(int signal) { kill(getpid(), signal); }

std::atomic<int> handled{0};
std::atomic<pthread_t> handled_by;
void handler(int) {
  handled_by = pthread_self();
  ++handled;
}

void ignore_one() {
  signal(SIGINT, SIG_IGN);
  take_signals();
  send(SIGINT);
  usleep(50000);
  _exit(7);
}

void call_the_newest_watch() {
  take_signals();
  const pthread_t here = pthread_self();
  std::atomic<int> outer{0}, inner{0}, wrong{0};
  const SignalWatch first({SIGINT, SIGTERM}, [&](int) { ++outer; });
  {
    const SignalWatch second({SIGINT}, [&](int signal) {
      inner += signal;
      wrong += pthread_equal(pthread_self(), here) != 0;
    });
    send(SIGINT);
    if (!soon([&] { return inner == SIGINT; })) _exit(1);
    send(SIGTERM);
    if (!soon([&] { return outer == 1; })) _exit(2);
  }
  send(SIGINT);
  if (!soon([&] { return outer == 2; })) _exit(3);
  if (!blocked(SIGINT) || !blocked(SIGALRM) || blocked(SIGSEGV) || blocked(SIGBUS) || blocked(SIGTSTP)) _exit(4);
  // A signal that nobody watches and that has a handler: the handler runs, but not here.
  signal(SIGALRM, handler);
  send(SIGALRM);
  if (!soon([] { return handled == 1; }) || pthread_equal(handled_by, here)) _exit(5);
  _exit(wrong ? 6 : 0);
}

void interrupt_a_read() {
  take_signals();
  const SignalWatch watch({SIGINT}, [](int) { _exit(1); });  // not its turn
  int ends[2];
  if (pipe(ends)) _exit(2);
  {
    InterruptibleRead reading;
    std::thread sender([] {
      usleep(50000);
      send(SIGINT);
    });
    if (reading.wait(ends[0])) _exit(3);
    sender.join();
    send(SIGINT);  // between two waits
    usleep(50000);
    if (reading.wait(ends[0])) _exit(4);
    if (write(ends[1], "x", 1) != 1 || !reading.wait(ends[0])) _exit(5);
    send(SIGINT);
    usleep(50000);
  }
  InterruptibleRead next;
  _exit(blocked(SIGINT) && next.wait(ends[0]) ? 0 : 6);
}

void run_handlers_elsewhere() {
  signal(SIGINT, handler);
  const pthread_t here = pthread_self();
  std::atomic<int> unprotected{0};
  {
    const SignalsElsewhere outer;
    {
      const SignalsElsewhere inner;
      send(SIGINT);
      if (!soon([] { return handled == 1; })) _exit(1);
      if (pthread_equal(handled_by, here)) _exit(2);
    }
    if (!blocked(SIGINT)) _exit(3);
#pragma omp parallel
    unprotected += !blocked(SIGINT);
  }
  if (blocked(SIGINT) || unprotected) _exit(4);
  _exit(0);
}

// In processes of their own, since they change what signals do.
TEST(SignalsDeathTest, NobodyWatches) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT((take_signals(), send(SIGTERM), pause()), testing::KilledBySignal(SIGTERM), "");
  EXPECT_EXIT((take_signals(), send(SIGINT), pause()), testing::KilledBySignal(SIGINT), "");
  EXPECT_EXIT((take_signals(), send(SIGHUP), pause()), testing::KilledBySignal(SIGHUP), "");
  EXPECT_EXIT(ignore_one(), testing::ExitedWithCode(7), "");
}

TEST(SignalsDeathTest, TheNewestWatchIsCalledOnAnotherThread) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(call_the_newest_watch(), testing::ExitedWithCode(0), "");
}

TEST(SignalsDeathTest, AReadIsInterrupted) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(interrupt_a_read(), testing::ExitedWithCode(0), "");
}

TEST(SignalsDeathTest, HandlersOfAnotherProgramRunElsewhere) {
  GTEST_FLAG_SET(death_test_style, "threadsafe");
  EXPECT_EXIT(run_handlers_elsewhere(), testing::ExitedWithCode(0), "");
}

std::atomic<bool> on_own_stack{false};

TEST(Signals, BusErrorsHaveAStackInEveryThread) {
  for (int round = 0; round < 3; ++round)  // threads come and go
    std::thread([] {
      have_signal_stack();
      have_signal_stack();
      stack_t stack{};
      ASSERT_EQ(sigaltstack(nullptr, &stack), 0);
      ASSERT_EQ(stack.ss_flags & SS_DISABLE, 0);
      ASSERT_GE(static_cast<long>(stack.ss_size), sysconf(_SC_MINSIGSTKSZ));
      struct sigaction action {
      }, before{};
      action.sa_handler = +[](int) {
        stack_t now{};
        sigaltstack(nullptr, &now);
        on_own_stack = (now.ss_flags & SS_ONSTACK) != 0;
      };
      action.sa_flags = SA_ONSTACK;
      sigaction(SIGUSR1, &action, &before);
      on_own_stack = false;
      pthread_kill(pthread_self(), SIGUSR1);
      EXPECT_TRUE(on_own_stack);
      sigaction(SIGUSR1, &before, nullptr);
    }).join();
}

}  // namespace
}  // namespace loraine::signals_test
