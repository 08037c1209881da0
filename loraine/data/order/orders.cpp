// numpy's PCG64 and MT19937 orders, repeated bit for bit. Called through orders.h.
#include "loraine/data/order/orders.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include "loraine/core/error.h"
#include "loraine/data/order/pcg64.h"

namespace loraine {
namespace {

std::vector<int64_t> ascending(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(std::max<int64_t>(n, 0)));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

void check_count(int64_t n, int64_t limit) {
  if (n < 0 || n >= limit)
    throw Error(ErrorKind::unsupported, fmt::format("data set: {} rows, at most {} can be shuffled as numpy does", n, limit - 1));
}

}  // namespace

std::vector<int64_t> numpy_permutation(int64_t n, uint64_t seed) {
  check_count(n, 0xffffffffll);
  Pcg64 generator(seed);
  auto order = ascending(n);
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[static_cast<size_t>(i)], order[generator.interval(static_cast<uint32_t>(i))]);
  return order;
}

std::vector<int64_t> LegacySampler::draw(int64_t n, int64_t num_samples) {
  check_count(n, 0xffffffffll);
  if (n <= 0 || num_samples <= 0) return {};
  const auto masked = [this](uint32_t range) {  // [0, range] by rejection under a mask of ones
    if (range == 0) return uint32_t{0};
    uint32_t mask = range;
    for (int shift = 1; shift < 32; shift *= 2) mask |= mask >> shift;
    uint32_t value = 0;
    do { value = static_cast<uint32_t>(generator_()) & mask; } while (value > range);
    return value;
  };
  auto order = ascending(n);
  for (int64_t i = n - 1; i > 0; --i) std::swap(order[static_cast<size_t>(i)], order[masked(static_cast<uint32_t>(i))]);
  if (num_samples <= n) {
    order.resize(static_cast<size_t>(num_samples));
    return order;
  }
  order.reserve(static_cast<size_t>(num_samples));
  for (int64_t i = n; i < num_samples; ++i) order.push_back(masked(static_cast<uint32_t>(n - 1)));
  return order;
}

Split split_rows(int64_t n, double val_size, uint64_t seed) {
  if (!(val_size > 0))
    throw Error(ErrorKind::usage, fmt::format("val_size: {} is not positive", val_size), "use a share below 1 or a number of rows");
  const double wanted = val_size < 1 ? std::ceil(val_size * static_cast<double>(n)) : std::floor(val_size);
  if (!(wanted < static_cast<double>(n)) || wanted < 1)
    throw Error(ErrorKind::usage, fmt::format("val_size: {} of {} rows leaves nothing to train on or to evaluate", val_size, n),
                "choose a smaller val_size, or decision_holdout where it is taken of that");
  const auto order = numpy_permutation(n, seed);
  const auto cut = order.begin() + static_cast<int64_t>(wanted);
  return {std::vector<int64_t>(cut, order.end()), std::vector<int64_t>(order.begin(), cut)};
}

std::vector<SetRow> interleave_rows(const std::vector<int64_t>& sizes, const std::vector<double>& probabilities, Mixing mixing,
                                    uint64_t seed) {
  std::vector<SetRow> rows;
  const size_t sets = sizes.size();
  if (sets == 0 || *std::min_element(sizes.begin(), sizes.end()) <= 0) throw Error(ErrorKind::usage, "interleaving: a data set is empty");
  if (mixing == Mixing::concat) {
    for (size_t s = 0; s < sets; ++s)
      for (int64_t i = 0; i < sizes[s]; ++i) rows.push_back({static_cast<int64_t>(s), i});
    return rows;
  }
  const bool until_all = mixing != Mixing::interleave_under, once = mixing == Mixing::interleave_once;
  if (probabilities.empty()) {
    const int64_t rounds = until_all ? *std::max_element(sizes.begin(), sizes.end()) : *std::min_element(sizes.begin(), sizes.end());
    for (int64_t i = 0; i < rounds; ++i)
      for (size_t s = 0; s < sets; ++s)
        if (!once || i < sizes[s]) rows.push_back({static_cast<int64_t>(s), i % sizes[s]});
    return rows;
  }
  std::vector<double> cumulative(sets);
  double sum = 0;
  for (size_t s = 0; s < sets; ++s) {
    if (probabilities.size() != sets || !(probabilities[s] > 0))
      throw Error(ErrorKind::usage, fmt::format("interleave_probs: {} positive numbers are needed, one per data set", sets));
    cumulative[s] = sum += probabilities[s];
  }
  if (std::abs(sum - 1) > 1e-8)
    throw Error(ErrorKind::usage, fmt::format("interleave_probs: their sum is {}, and probabilities add up to 1", sum), "correct them");
  for (double& c : cumulative) c /= sum;
  Pcg64 generator(seed);
  std::vector<int64_t> next(sets, 0);
  std::vector<bool> used_up(sets, false);
  for (;;) {
    const double u = generator.next_double();
    const size_t s =
        std::min(static_cast<size_t>(std::upper_bound(cumulative.begin(), cumulative.end(), u) - cumulative.begin()), sets - 1);
    if (once && used_up[s]) continue;
    rows.push_back({static_cast<int64_t>(s), next[s]});
    if (++next[s] == sizes[s]) {
      next[s] = 0;
      used_up[s] = true;
      const bool all = std::find(used_up.begin(), used_up.end(), false) == used_up.end();
      if (!until_all || all) return rows;
    }
  }
}

// Matsumoto and Nishimura 1998: MT19937.
ShuffleSeeds::ShuffleSeeds(uint32_t seed) {
  state_[0] = seed;
  for (uint32_t i = 1; i < 624; ++i) state_[i] = 1812433253u * (state_[i - 1] ^ (state_[i - 1] >> 30)) + i;
}

void ShuffleSeeds::twist() {
  for (size_t i = 0; i < 624; ++i) {
    const uint32_t y = (state_[i] & 0x80000000u) | (state_[(i + 1) % 624] & 0x7fffffffu);
    state_[i] = state_[(i + 397) % 624] ^ (y >> 1) ^ (y & 1 ? 0x9908b0dfu : 0u);
  }
  place_ = 0;
}

uint32_t ShuffleSeeds::next() {
  const uint32_t seed = state_[place_ < 624 ? place_ : 0];
  if (place_ >= 624) twist();
  place_ += 2;  // one double takes two words
  return seed;
}

}  // namespace loraine
