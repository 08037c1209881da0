// Codes that each stand for eight elements of a row, by code books of vectors: how AQLM checkpoints hold a weight. Filled by
// io/quantised/aqlm; multiplied by kernels/products/vector_rows.
#pragma once
#include <cstdint>

#include "loraine/core/dtype.h"

namespace loraine {

struct Tensor;

inline constexpr int64_t kVector = 8;  // elements of a code

// Elements 8 g + j of row r are scales[r] · books[0][code][j] (V1X16: a code of 16 bits, the low byte first) or scales[r] ·
// (books[0][first] [j] + books[1][second][j]) (V2X8: two codes of 8 bits), each operation rounded to f32. Rows of codes follow each other
// without gaps.
struct VectorCodes {
  const void* books = nullptr;                            // [65536, 8], or [2, 256, 8]
  const void* scales = nullptr;                           // [rows]
  Dtype book_type = Dtype::F16, scale_type = Dtype::F16;  // F32, F16, BF16

  float scale(int64_t row) const { return entry(scales, scale_type, row); }
  float book(int64_t element) const { return entry(books, book_type, element); }

 private:
  static float entry(const void* values, Dtype type, int64_t i) {
    if (type == Dtype::F16) return f16_to_f32(static_cast<const f16*>(values)[i]);
    if (type == Dtype::BF16) return bf16_to_f32(static_cast<const bf16*>(values)[i]);
    return static_cast<const float*>(values)[i];
  }
};

// Elements [0, numel) of a contiguous view, which begins at a multiple of eight, as f32. The reference for the kernels.
void dequantise_vectors(float* out, const Tensor& view);

}  // namespace loraine
