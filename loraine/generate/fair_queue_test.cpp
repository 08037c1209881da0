// Turns by cost, order within a flow, and nobody passed over for long.
#include "loraine/generate/fair_queue.h"

#include <gtest/gtest.h>

#include <vector>

namespace loraine::fair_queue_test {
namespace {

const FairQueue::Flow kA{nullptr, "a"}, kB{nullptr, "b"}, kC{nullptr, "c"};

std::vector<int64_t> serve_all(FairQueue& queue) {
  std::vector<int64_t> order;
  while (const auto number = queue.next()) {
    EXPECT_EQ(queue.next(), number);  // asking changes nothing
    queue.serve(*number);
    order.push_back(*number);
  }
  return order;
}

TEST(FairQueue, OneFlowIsServedInOrder) {
  FairQueue queue(100);
  for (int64_t i = 1; i <= 5; ++i) queue.push(i, kA, 1000 * i);
  EXPECT_EQ(serve_all(queue), (std::vector<int64_t>{1, 2, 3, 4, 5}));
  EXPECT_TRUE(queue.empty());
  EXPECT_EQ(queue.next(), std::nullopt);
}

TEST(FairQueue, FlowsTakeTurnsWhoeverAsksMore) {
  FairQueue queue(100);
  for (int64_t i = 1; i <= 6; ++i) queue.push(i, kA, 100);
  queue.push(7, kB, 100);
  queue.push(8, kB, 100);
  EXPECT_EQ(serve_all(queue), (std::vector<int64_t>{1, 7, 2, 8, 3, 4, 5, 6}));
}

// A flow of long requests gets as much as one of short ones, not as many.
TEST(FairQueue, TurnsAreMeasuredByCost) {
  FairQueue queue(100);
  for (int64_t i = 1; i <= 4; ++i) queue.push(i, kA, 100);
  for (int64_t i = 5; i <= 12; ++i) queue.push(i, kB, 50);
  int64_t a = 0, b = 0;
  for (int served = 0; served < 12; ++served) {
    const int64_t number = *queue.next();
    (number <= 4 ? a : b) += number <= 4 ? 100 : 50;
    queue.serve(number);
    EXPECT_LE(std::abs(a - b), 100) << served;
  }
  EXPECT_EQ(a, b);
}

TEST(FairQueue, NobodyIsPassedOverMoreThanEightTimes) {
  FairQueue queue(100);
  queue.push(1, kA, 1'000'000);
  for (int64_t i = 2; i <= 40; ++i) queue.push(i, i % 2 ? kB : kC, 10);
  const std::vector<int64_t> order = serve_all(queue);
  EXPECT_EQ(order[8], 1);
}

TEST(FairQueue, WhoComesBackIsNext) {
  FairQueue queue(100);
  for (int64_t i = 1; i <= 4; ++i) queue.push(i, i % 2 ? kA : kB, 60);
  queue.serve(*queue.next());
  queue.serve(*queue.next());
  queue.push_back_again(2, kB);
  EXPECT_EQ(queue.next(), 2);
  queue.remove(2);
  queue.remove(2);  // it does not wait
  EXPECT_EQ(serve_all(queue).size(), 2u);
}

}  // namespace
}  // namespace loraine::fair_queue_test
