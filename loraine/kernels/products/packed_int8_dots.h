// Dot products of rows of packed weights (core/packed.h) with rows of activations that are rounded to 8 bits by blocks of 32, in integers.
// Called by packed_int8_products.
#pragma once
#include "loraine/core/packed_runs.h"
#include "loraine/core/tensor.h"

namespace loraine {

// Elements of a row of activations that share a scale: 32, which divides the blocks of every packed type.
inline constexpr int64_t kRoundedBlock = 32;

// x [rows, K] rounded: x ≈ scale · code. Sums are of codes, of each half of a block, of the whole one, and times its scale.
struct RoundedBlocks {
  int64_t rows = 0, K = 0;
  int8_t* codes = nullptr;                                // [rows, K], −127 to 127
  float* scales = nullptr;                                // [rows, K / 32]
  int32_t *minus_halves = nullptr, *minus_all = nullptr;  // −Σ code [rows, K / 16], [rows, K / 32]
  float *scaled_halves = nullptr, *scaled_all = nullptr;  // scale · Σ code

  int64_t blocks() const { return K / kRoundedBlock; }
  // Bytes of all of it, and the places in such a memory (aligned to 4).
  static size_t bytes(int64_t rows, int64_t K);
  static RoundedBlocks in(void* memory, int64_t rows, int64_t K);
  RoundedBlocks row_range(int64_t first, int64_t count) const;
};

// Row r of `to`: x [K], each block of 32 by its largest number: scale = largest / 127. A block that is all but 0 (below 1e-30) becomes
// zeros; the scale of one that holds a NaN or an infinity is NaN.
void round_blocks(const RoundedBlocks& to, int64_t r, const float* x);

// sums[m · sums_stride + r] = w[r] · x[m] for the rows of w [rows, K], of any block type of ggml (not those of bitsandbytes), and at most
// kMostRoundedRows of x. Of each block of 32 (or 16, where the type has a scale for so many) the whole sum of products of codes, exact in
// 32 bits, times its steps in f32; these are added up in the order of k. So no sum depends on the other rows of either side. Rows of w may
// be strided.
inline constexpr int64_t kMostRoundedRows = 64;
void packed_int8_dots(float* sums, int64_t sums_stride, const Tensor& w, const RoundedBlocks& x);

// The i-th run of a block of a type in core/packed_runs.h.
void packed_run(Dtype dtype, const unsigned char* block, int i, PackedRun& out);

// Whether vpdpbusd is used where AVX-512, or AVX2, is: what the processor has; tests turn it off.
struct Vnni {
  bool avx512, avx2;
};
Vnni& used_vnni();

}  // namespace loraine
