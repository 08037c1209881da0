// What the CPU kernels need to be vectorised by the compiler: function clones per instruction set, and an exp without branches.
#pragma once
#include <bit>
#include <cstdint>

// One copy of the function per x86-64 level, picked when the program is loaded. Sanitizers run before that choice can be made.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define LORAINE_CLONES __attribute__((target_clones("arch=x86-64-v4", "arch=x86-64-v3", "default"), noinline, optimize("O3")))
#else
#define LORAINE_CLONES __attribute__((noinline))
#endif

namespace loraine {

// e^x to about 2 ulp; 0 below −87.3, e^88.3 above, NaN for NaN. Polynomial of Cephes' expf. The limits work on the bits of x, with integer
// minima and masks: with float comparisons the compiler makes branches and no longer vectorises the loop around.
__attribute__((always_inline)) inline float exp_f32(float in) {
  constexpr uint32_t kLowest = std::bit_cast<uint32_t>(-87.3f), kNan = 0xff000000u;
  constexpr int32_t kHighest = std::bit_cast<int32_t>(88.3f);
  uint32_t u = std::bit_cast<uint32_t>(in);
  uint32_t below = (u > kLowest ? u : kLowest) - kLowest;     // > 0 when in < −87.3: larger magnitude, larger bits, sign set
  uint32_t nan = ((u << 1) > kNan ? (u << 1) : kNan) - kNan;  // > 0 when in is NaN
  uint32_t limited = u < kLowest ? u : kLowest;
  int32_t bits = static_cast<int32_t>(limited);
  float x = std::bit_cast<float>(bits < kHighest ? bits : kHighest);
  constexpr float kRound = 12582912.0f;  // 1.5 · 2²³: adding it rounds to an integer
  float shifted = x * 1.44269504088896341f + kRound;
  float n = shifted - kRound;
  float r = x - n * 0.693359375f;
  r = r - n * -2.12194440e-4f;
  float p = 1.9875691500e-4f;
  p = p * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  p = p * r * r + r + 1.0f;
  uint32_t exponent = (std::bit_cast<uint32_t>(shifted) << 23) + 0x3f800000u;
  uint32_t y = std::bit_cast<uint32_t>(p * std::bit_cast<float>(exponent));
  uint32_t zero_mask = static_cast<uint32_t>(-static_cast<int32_t>(below) >> 31),
           nan_mask = static_cast<uint32_t>(-static_cast<int32_t>(nan) >> 31);
  return std::bit_cast<float>((y & ~zero_mask) | (nan_mask & 0x7fc00000u));
}

}  // namespace loraine
