// numpy.random.default_rng(seed): its generator and what it draws, bit for bit. Used by orders.cpp and stream_order.cpp.
#pragma once
#include <array>
#include <cstdint>
#include <utility>
#include <vector>

namespace loraine {

__extension__ typedef unsigned __int128 uint128;

// numpy.random.SeedSequence(entropy).generate_state(4, uint64)
inline std::array<uint64_t, 4> seed_sequence_state(uint64_t entropy) {
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
  // Generator.shuffle of a list.
  template <class T>
  void shuffle(std::vector<T>& list) {
    for (size_t i = list.size(); i-- > 1;) std::swap(list[i], list[interval(static_cast<uint32_t>(i))]);
  }
  // Generator.integers(0, bound)
  uint32_t below(uint32_t bound) { return bounded(bound - 1); }
  uint128 state = 0, increment = 0;
  bool has_half = false;
  uint32_t half = 0;
};

}  // namespace loraine
