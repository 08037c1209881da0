// Random numbers that are a function of their place alone, for dropout and noise: the backward and a resumed run find the same ones.
#pragma once
#include <cstdint>

namespace loraine {

// SplitMix64's finaliser (Steele, Lea, Flood 2014): every input bit reaches every output bit.
__attribute__((always_inline)) inline uint64_t mix_bits(uint64_t z) {
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
  return z ^ (z >> 31);
}
constexpr uint64_t kGoldenRatio = 0x9e3779b97f4a7c15ull;

// The key of one op call; its i-th number comes from mix_bits(key + i · kGoldenRatio).
inline uint64_t random_key(uint64_t seed, uint64_t step, uint64_t site) {
  return mix_bits(mix_bits(mix_bits(seed + kGoldenRatio) + step * kGoldenRatio) + site * kGoldenRatio);
}

}  // namespace loraine
