// Rows of f32 to ggml's blocks, byte for byte as ggml makes them, with an importance matrix or without. Called by export.
#pragma once
#include <cstdint>

#include "loraine/core/dtype.h"

namespace loraine {

bool can_quantise(Dtype dtype);  // Q8_0, Q4_0, Q4_1, Q5_0, Q5_1, Q4_K, Q5_K, Q6_K

// n values (a multiple of the type's block) to blocks. Values are finite. importance [n]: how much an error of each counts, or nullptr; n
// is a whole row then.
void quantise(void* blocks, Dtype dtype, const float* values, int64_t n, const float* importance = nullptr);

// The types with super-blocks of 256 (gguf_quantise_k.cpp).
void quantise_k(void* blocks, Dtype dtype, const float* values, int64_t n);
// Every type but Q8_0, whose blocks importance does not change (gguf_quantise_weighted.cpp).
void quantise_weighted(void* blocks, Dtype dtype, const float* values, int64_t n, const float* importance);

// What both search with. A half at `at`; to nearest even, for |x| < 2^22.
void put_half(unsigned char* at, float value);
int nearest_whole(float x);
struct ScaleAndMinimum {
  float scale = 0, minimum = 0;  // x ≈ scale · code − minimum
};
// x [n ≤ 32], weights [n] → codes 0 … last. Minimum and scale by weighted least squares for each of `trials` + 1 steps, the first of them
// `first` off and each `by` further; the smallest weighted square wins.
ScaleAndMinimum search_scale_minimum(int n, int last, const float* x, const float* weights, unsigned char* codes, float first, float by,
                                     int trials);

// How blocks are laid out, for both. Two codes of 4 bits in a byte: of value i and of value i + 16; the fifth bits, where there are any, in
// a word.
void put_codes_of_32(unsigned char* codes, unsigned char* fifths, const unsigned char* q);
// d, dmin; 8 scales and minima of 6 bits; the codes [256] made anew of what these became.
void put_super_block_minima(unsigned char* out, const float* x, int bits, unsigned char* codes, const unsigned char* scales,
                            const unsigned char* minima, float d, float dmin);
// Of 16 scales; codes [256] about 32.
void put_super_block_q6(unsigned char* out, const float* x, signed char* codes, const float* scales);

}  // namespace loraine
