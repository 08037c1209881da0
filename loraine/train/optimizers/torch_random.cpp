// The Mersenne twister, and Box and Muller's transformation in torch's order: 16 numbers at a time, the last 16 anew where n is no
// multiple.
#include "loraine/train/optimizers/torch_random.h"

#include <cmath>
#include <numbers>
#include <random>

namespace loraine {
namespace {

float uniform(std::mt19937& random) { return static_cast<float>(random() & 0xffffffu) * 0x1p-24f; }

uint64_t random64(std::mt19937& random) {
  const uint64_t high = random();
  return high << 32 | random();
}
double uniform64(std::mt19937& random) { return static_cast<double>(random64(random) & ((uint64_t{1} << 53) - 1)) * 0x1p-53; }

void transform(float* data) {
  for (int j = 0; j < 8; ++j) {
    const float radius = std::sqrt(-2 * std::log(1 - data[j])), angle = 2.0f * std::numbers::pi_v<float> * data[j + 8];
    data[j] = radius * std::cos(angle);
    data[j + 8] = radius * std::sin(angle);
  }
}

}  // namespace

void torch_normal(std::span<float> out, uint64_t seed) {
  std::mt19937 random(static_cast<uint32_t>(seed));
  const size_t n = out.size();
  if (n < 16) {  // one by one in double, in pairs
    for (size_t i = 0; i < n; i += 2) {
      const double angle = 2 * std::numbers::pi * uniform64(random), radius = std::sqrt(-2 * std::log1p(-uniform64(random)));
      out[i] = static_cast<float>(radius * std::cos(angle));
      if (i + 1 < n) out[i + 1] = static_cast<float>(radius * std::sin(angle));
    }
    return;
  }
  for (float& x : out) x = uniform(random);
  for (size_t i = 0; i + 15 < n; i += 16) transform(out.data() + i);
  if (n % 16 == 0) return;
  float* last = out.data() + n - 16;
  for (int i = 0; i < 16; ++i) last[i] = uniform(random);
  transform(last);
}

uint64_t next_torch_seed(uint64_t seed) {
  constexpr int kDraws = 15;
  std::mt19937 random(static_cast<uint32_t>(seed));
  uint64_t drawn = 0;
  for (int i = 0; i < kDraws; ++i) drawn = random64(random) % INT64_MAX;
  return drawn;
}

}  // namespace loraine
