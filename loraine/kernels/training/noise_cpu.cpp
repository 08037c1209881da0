// Uniform noise on the CPU, row by row.
#include "loraine/core/tensor.h"
#include "loraine/kernels/base/parallel.h"
#include "loraine/kernels/base/random_bits.h"
#include "loraine/kernels/base/simd.h"

namespace loraine {
namespace {

// 24 random bits, which a float holds exactly, to the middle of 2²⁴ cells of (−size, size)
LORAINE_CLONES void noise_row(float* y, int64_t C, uint64_t key, uint64_t first, float size) {
  for (int64_t c = 0; c < C; ++c) {
    const uint64_t bits = mix_bits(key + (first + static_cast<uint64_t>(c)) * kGoldenRatio) >> 40;
    y[c] += (static_cast<float>(bits) + 0.5f) * (size * 0x1p-23f) - size;
  }
}

}  // namespace

void add_noise_cpu(const Tensor& y, float size, uint64_t seed, uint64_t step, uint64_t site) {
  const int64_t C = y.cols();
  const uint64_t key = random_key(seed, step, site);
  parallel_for(
      y.rows(), [&](int64_t t) { noise_row(y.f32() + t * y.row_stride, C, key, static_cast<uint64_t>(t * C), size); }, row_chunk(C));
}

}  // namespace loraine
