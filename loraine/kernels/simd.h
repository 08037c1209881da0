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

// e^x to about 2 ulp; 0 below −87.3, e^88.3 above. Polynomial of Cephes' expf.
__attribute__((always_inline)) inline float exp_f32(float x) {
  float in = x;
  x = x > 88.3f ? 88.3f : x;
  x = x < -87.3f ? -87.3f : x;
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
  float y = p * std::bit_cast<float>(exponent);
  return in < -87.3f ? 0.0f : (in != in ? in : y);
}

}  // namespace loraine
