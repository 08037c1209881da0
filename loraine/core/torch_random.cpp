// MT19937, and a shuffle from the front.
#include "loraine/core/torch_random.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <random>
#include <unordered_map>

#include "loraine/core/error.h"

namespace loraine {
namespace {

void check_permutation(int64_t n) {
  constexpr int64_t kLimit = 0xffffffffll / 20;  // torch changes its method there
  if (n < 0 || n >= kLimit)
    throw Error(ErrorKind::unsupported,
                fmt::format("a random order of {} numbers: at most {} are put in order as torch does", n, kLimit - 1));
}

// swap(i, place) for the places that torch draws for the first `count`.
template <class Swap>
void shuffle_front(int64_t n, int64_t count, uint64_t seed, Swap&& swap) {
  std::mt19937 generator(static_cast<uint32_t>(seed));
  for (int64_t i = 0; i + 1 < n && i < count; ++i) swap(i, i + static_cast<int64_t>(generator() % static_cast<uint32_t>(n - i)));
}

}  // namespace

std::vector<int64_t> torch_randperm(int64_t n, uint64_t seed) {
  check_permutation(n);
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), int64_t{0});
  shuffle_front(n, n, seed, [&](int64_t i, int64_t place) { std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(place)]); });
  return order;
}

std::vector<int64_t> torch_randperm_first(int64_t n, int64_t count, uint64_t seed) {
  check_permutation(n);
  count = std::min(count, n);
  std::unordered_map<int64_t, int64_t> moved;  // what lies at a place that a swap has reached
  const auto at = [&](int64_t place) {
    const auto found = moved.find(place);
    return found == moved.end() ? place : found->second;
  };
  std::vector<int64_t> order;
  shuffle_front(n, count, seed, [&](int64_t i, int64_t place) {
    order.push_back(at(place));
    moved[place] = at(i);
  });
  if (static_cast<int64_t>(order.size()) < count) order.push_back(at(n - 1));  // the last of all is not drawn
  return order;
}

}  // namespace loraine
