// torch.randperm, numpy's PCG64 and MT19937 orders, repeated bit for bit. Called through orders.h.
#include "loraine/data/orders.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>
#include <random>
#include <utility>

#include "loraine/core/error.h"

namespace loraine {
namespace {

__extension__ typedef unsigned __int128 uint128;

std::vector<int64_t> ascending(int64_t n) {
  std::vector<int64_t> order(static_cast<size_t>(std::max<int64_t>(n, 0)));
  std::iota(order.begin(), order.end(), int64_t{0});
  return order;
}

// numpy.random.SeedSequence(entropy).generate_state(4, uint64)
std::array<uint64_t, 4> seed_sequence_state(uint64_t entropy) {
  std::array<uint32_t, 4> pool{};
  const std::array<uint32_t, 4> words = {static_cast<uint32_t>(entropy), static_cast<uint32_t>(entropy >> 32), 0, 0};
  uint32_t hash = 0x43b0d7e5u;
  const auto hash_mix = [&hash](uint32_t value) {
    value ^= hash;
    hash *= 0x931e8875u;
    value *= hash;
    return value ^ (value >> 16);
  };
  for (size_t i = 0; i < 4; ++i) pool[i] = hash_mix(words[i]);
  for (size_t source = 0; source < 4; ++source) {
    for (size_t target = 0; target < 4; ++target) {
      if (source == target) continue;
      const uint32_t mixed = 0xca01f9ddu * pool[target] - 0x4973f715u * hash_mix(pool[source]);
      pool[target] = mixed ^ (mixed >> 16);
    }
  }
  hash = 0x8b51f9ddu;
  std::array<uint64_t, 4> state{};
  for (size_t i = 0; i < 8; ++i) {
    uint32_t value = pool[i % 4] ^ hash;
    hash *= 0x58f38dedu;
    value *= hash;
    value ^= value >> 16;
    state[i / 2] |= static_cast<uint64_t>(value) << (32 * (i % 2));
  }
  return state;
}

// numpy's PCG64 (XSL-RR 128/64)
struct Pcg64 {
  explicit Pcg64(uint64_t seed) {
    const auto words = seed_sequence_state(seed);
    const uint128 start = (static_cast<uint128>(words[0]) << 64) | words[1];
    increment = (((static_cast<uint128>(words[2]) << 64) | words[3]) << 1) | 1;
    step();
    state += start;
    step();
  }
  void step() {
    const uint128 multiplier = (static_cast<uint128>(0x2360ed051fc65da4ull) << 64) | 0x4385df649fccf645ull;
    state = state * multiplier + increment;
  }
  uint64_t next64() {
    step();
    const uint64_t mixed = static_cast<uint64_t>(state >> 64) ^ static_cast<uint64_t>(state);
    const unsigned turn = static_cast<unsigned>(state >> 122);
    return (mixed >> turn) | (mixed << ((64 - turn) & 63));
  }
  uint32_t next32() {
    if (has_half) {
      has_half = false;
      return half;
    }
    const uint64_t value = next64();
    has_half = true;
    half = static_cast<uint32_t>(value >> 32);
    return static_cast<uint32_t>(value);
  }
  double next_double() { return static_cast<double>(next64() >> 11) * (1.0 / 9007199254740992.0); }
  // Lemire's method over [0, range], range < 2^32 - 1
  uint32_t bounded(uint32_t range) {
    if (range == 0) return 0;
    const uint32_t count = range + 1;
    uint64_t product = static_cast<uint64_t>(next32()) * count;
    if (static_cast<uint32_t>(product) < count) {
      const uint32_t threshold = (0xffffffffu - range) % count;
      while (static_cast<uint32_t>(product) < threshold) product = static_cast<uint64_t>(next32()) * count;
    }
    return static_cast<uint32_t>(product >> 32);
  }
  // numpy's random_interval: [0, range] by rejection under a mask of ones
  uint32_t interval(uint32_t range) {
    uint32_t mask = range, value = 0;
    for (int shift = 1; shift <= 16; shift *= 2) mask |= mask >> shift;
    do value = next32() & mask;
    while (value > range);
    return value;
  }
  uint128 state = 0, increment = 0;
  bool has_half = false;
  uint32_t half = 0;
};

void check_count(int64_t n, int64_t limit) {
  if (n < 0 || n >= limit)
    throw Error(ErrorKind::unsupported, fmt::format("data set: {} rows, at most {} can be shuffled as torch and numpy do", n, limit - 1));
}

}  // namespace

std::vector<int64_t> torch_randperm(int64_t n, uint64_t seed) {
  check_count(n, 0xffffffffll / 20);  // torch changes its method there
  std::mt19937 generator(static_cast<uint32_t>(seed));
  auto order = ascending(n);
  for (int64_t i = 0; i + 1 < n; ++i) {
    const int64_t other = i + static_cast<int64_t>(generator() % static_cast<uint32_t>(n - i));
    std::swap(order[static_cast<size_t>(i)], order[static_cast<size_t>(other)]);
  }
  return order;
}

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
                "choose a smaller val_size");
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
