// Every item runs once, whoever takes it; exceptions, loops within loops, several callers, and threads that come and go in number.
#include "loraine/core/thread_team.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <stdexcept>
#include <thread>
#include <vector>

#include "loraine/core/parallel.h"

namespace loraine::thread_team_test {
namespace {

struct Threads {
  explicit Threads(int n) { omp_set_num_threads(n); }
  ~Threads() { omp_set_num_threads(before); }
  int before = omp_get_max_threads();
};

template <Take kTake>
void expect_each_once(int64_t n, int64_t chunk) {
  std::vector<std::atomic<int>> taken(static_cast<size_t>(n));
  parallel_for<kTake>(
      n, [&](int64_t i) { ++taken[static_cast<size_t>(i)]; }, chunk);
  for (int64_t i = 0; i < n; ++i) ASSERT_EQ(taken[static_cast<size_t>(i)], 1) << i << " of " << n << " by " << chunk;
}

TEST(ThreadTeam, RunsEveryItemOnce) {
  for (int threads : {1, 2, 5, 3}) {  // a team grows, and uses fewer than it has
    const Threads set(threads);
    for (int64_t n : {0, 1, 2, 7, 1000})
      for (int64_t chunk : {1, 3, 400}) {
        expect_each_once<Take::chunks>(n, chunk);
        expect_each_once<Take::shares>(n, chunk);
      }
  }
}

// Many short loops one after the other, with pauses after which threads sleep.
TEST(ThreadTeam, ManyShortLoops) {
  const Threads set(4);
  std::atomic<int64_t> sum{0};
  for (int64_t loop = 0; loop < 3000; ++loop) {
    parallel_for(8, [&](int64_t i) { sum += i; });
    ASSERT_EQ(sum, 28 * (loop + 1));
    if (loop % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
}

TEST(ThreadTeam, AtMostAsManyThreadsAsAskedFor) {
  {
    const Threads set(6);
    parallel_for(64, [](int64_t) {});
  }
  const Threads set(2);
  std::atomic<int> inside{0}, most{0};
  for (int loop = 0; loop < 50; ++loop)
    parallel_for(16, [&](int64_t) {
      const int now = ++inside;
      for (int seen = most; seen < now && !most.compare_exchange_weak(seen, now);) {}
      std::this_thread::yield();
      --inside;
    });
  EXPECT_LE(most, 2);
}

TEST(ThreadTeam, CarriesAnExceptionOutAndGoesOn) {
  const Threads set(3);
  for (int loop = 0; loop < 20; ++loop) {
    std::atomic<int> ran{0};
    EXPECT_THROW(parallel_for(100,
                              [&](int64_t i) {
                                ++ran;
                                if (i % 10 == 3) throw std::runtime_error("item");
                              }),
                 std::runtime_error);
    EXPECT_EQ(ran, 100);
  }
}

TEST(ThreadTeam, LoopsWithinLoopsRunOnTheirCaller) {
  const Threads set(3);
  std::vector<int> sums(40);
  std::atomic<int> strangers{0};
  parallel_for(40, [&](int64_t i) {
    const std::thread::id own = std::this_thread::get_id();
    parallel_for(50, [&](int64_t j) {
      sums[static_cast<size_t>(i)] += static_cast<int>(j);
      if (std::this_thread::get_id() != own) ++strangers;
    });
  });
  for (int sum : sums) EXPECT_EQ(sum, 1225);
  EXPECT_EQ(strangers, 0);
}

TEST(ThreadTeam, SeveralCallersHaveTheirOwn) {
  const Threads set(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  for (int caller = 0; caller < 4; ++caller)
    callers.emplace_back([&] {
      omp_set_num_threads(3);
      for (int loop = 0; loop < 200; ++loop) parallel_for(10, [&](int64_t i) { sum += i; });
    });
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 200 * 45);
}

TEST(ThreadTeam, CountsLoopsAndItems) {
  const LoopCounts before = loop_counts;
  parallel_for(10, [](int64_t) {});
  parallel_for(
      10, [](int64_t) {}, 10);  // one chunk is no loop
  EXPECT_EQ(loop_counts.loops, before.loops + 1);
  EXPECT_EQ(loop_counts.items, before.items + 10);
}

}  // namespace
}  // namespace loraine::thread_team_test
