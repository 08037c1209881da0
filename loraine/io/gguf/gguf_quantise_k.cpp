// Super-blocks of 256: scales (and minima) of sub-blocks are searched for, rounded to 6 or 8 bits, and the codes made anew from what they
// became. The searches are ggml's: least squares over trial scales, so that bytes are equal.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/io/gguf/gguf_quantise.h"

namespace loraine {
namespace {

constexpr int kSuper = 256;
constexpr float kNothing = 1e-15f;  // below which a group counts as zeros

float half_k(const unsigned char* at) {
  f16 half;
  std::memcpy(&half, at, sizeof half);
  return f16_to_f32(half);
}

// Q4_K and Q5_K: 8 sub-blocks of 32, value = d · scale · code − dmin · minimum, scales and minima of 6 bits.
void super_block_minima(unsigned char* out, const float* x, int bits) {
  const int last = (1 << bits) - 1;
  unsigned char codes[kSuper];
  ScaleAndMinimum found[8];
  float largest_scale = 0, largest_minimum = 0;
  for (int j = 0; j < 8; ++j) {
    const float* part = x + 32 * j;
    float sum = 0, weights[32];
    for (int i = 0; i < 32; ++i) sum += part[i] * part[i];
    const float average = std::sqrt(sum / 32);
    for (int i = 0; i < 32; ++i) weights[i] = average + std::fabs(part[i]);
    found[j] = search_scale_minimum(32, last, part, weights, codes + 32 * j, bits == 4 ? -1.0f : -0.5f, 0.1f, bits == 4 ? 20 : 15);
    largest_scale = std::max(largest_scale, found[j].scale);
    largest_minimum = std::max(largest_minimum, found[j].minimum);
  }
  const float per_scale = largest_scale > 0 ? 63.0f / largest_scale : 0.0f,
              per_minimum = largest_minimum > 0 ? 63.0f / largest_minimum : 0.0f;
  unsigned char scales[8], minima[8];
  for (int j = 0; j < 8; ++j) {
    scales[j] = std::min<unsigned char>(63, static_cast<unsigned char>(nearest_whole(per_scale * found[j].scale)));
    minima[j] = std::min<unsigned char>(63, static_cast<unsigned char>(nearest_whole(per_minimum * found[j].minimum)));
  }
  put_super_block_minima(out, x, bits, codes, scales, minima, largest_scale / 63.0f, largest_minimum / 63.0f);
}

// x [16] → codes 0 … 63 about 32; the scale by least squares weighted with x², over 19 steps.
float search_scale(const float* x, signed char* codes) {
  constexpr int kHalf = 32, n = 16;
  float most = 0, value = 0;
  for (int i = 0; i < n; ++i)
    if (std::fabs(x[i]) > most) most = std::fabs(x[i]), value = x[i];
  if (most < kNothing) {
    std::fill_n(codes, n, static_cast<signed char>(0));
    return 0;
  }
  const auto code_at = [&](float step, int i) { return std::max(-kHalf, std::min(kHalf - 1, nearest_whole(step * x[i]))); };
  float step = static_cast<float>(-kHalf) / value, sum_lx = 0, sum_l2 = 0;
  const auto add = [&](float l, int i) {
    const float w = x[i] * x[i];
    sum_lx += w * x[i] * l;
    sum_l2 += w * l * l;
  };
  for (int i = 0; i < n; ++i) {
    const int code = code_at(step, i);
    codes[i] = static_cast<signed char>(code + kHalf);
    add(static_cast<float>(code), i);
  }
  float scale = sum_l2 != 0 ? sum_lx / sum_l2 : 0.0f, best = scale * sum_lx;
  for (int trial = -9; trial <= 9; ++trial) {
    if (trial == 0) continue;
    step = -(static_cast<float>(kHalf) + 0.1f * static_cast<float>(trial)) / value;
    sum_lx = sum_l2 = 0;
    for (int i = 0; i < n; ++i) add(static_cast<float>(code_at(step, i)), i);
    if (!(sum_l2 > 0 && sum_lx * sum_lx > best * sum_l2)) continue;
    for (int i = 0; i < n; ++i) codes[i] = static_cast<signed char>(code_at(step, i) + kHalf);
    scale = sum_lx / sum_l2;
    best = scale * sum_lx;
  }
  return scale;
}

// Q6_K: 16 sub-blocks of 16, value = d · scale · (code − 32), scales of 8 bits with a sign.
void super_block_q6(unsigned char* out, const float* x) {
  signed char codes[kSuper];
  float scales[16];
  for (int j = 0; j < 16; ++j) scales[j] = search_scale(x + 16 * j, codes + 16 * j);
  put_super_block_q6(out, x, codes, scales);
}

}  // namespace

// Adding 1.5 · 2^23 leaves the whole number in the mantissa.
int nearest_whole(float x) {
  const float shifted = x + 12582912.0f;
  int bits;
  std::memcpy(&bits, &shifted, sizeof bits);
  return (bits & 0x007fffff) - 0x00400000;
}

ScaleAndMinimum search_scale_minimum(int n, int last, const float* x, const float* weights, unsigned char* codes, float first, float by,
                                     int trials) {
  float least = x[0], most = x[0], sum_w = weights[0], sum_x = sum_w * x[0];
  for (int i = 1; i < n; ++i) {
    if (x[i] < least) least = x[i];
    if (x[i] > most) most = x[i];
    const float w = weights[i];
    sum_w += w;
    sum_x += w * x[i];
  }
  if (least > 0) least = 0;
  if (most == least) {
    std::fill_n(codes, n, static_cast<unsigned char>(0));
    return {0, -least};
  }
  float step = static_cast<float>(last) / (most - least), scale = 1 / step, best = 0;
  const auto code_at = [&](float inverse, float minimum, int i) {
    return std::max(0, std::min(last, nearest_whole(inverse * (x[i] - minimum))));
  };
  for (int i = 0; i < n; ++i) {
    codes[i] = static_cast<unsigned char>(code_at(step, least, i));
    const float apart = scale * static_cast<float>(codes[i]) + least - x[i];
    best += weights[i] * (apart * apart);
  }
  unsigned char tried[32];
  float minimum = least;
  for (int trial = 0; trial <= trials; ++trial) {
    // The range is measured from the best minimum so far, as ggml does.
    step = (first + by * static_cast<float>(trial) + static_cast<float>(last)) / (most - minimum);
    float sum_l = 0, sum_l2 = 0, sum_xl = 0;
    for (int i = 0; i < n; ++i) {
      const int code = code_at(step, minimum, i);
      tried[i] = static_cast<unsigned char>(code);
      const float w = weights[i], l = static_cast<float>(code);
      sum_l += w * l;
      sum_l2 += w * l * l;
      sum_xl += w * l * x[i];
    }
    const float determinant = sum_w * sum_l2 - sum_l * sum_l;
    if (!(determinant > 0)) continue;
    float this_scale = (sum_w * sum_xl - sum_x * sum_l) / determinant, this_minimum = (sum_l2 * sum_x - sum_l * sum_xl) / determinant;
    if (this_minimum > 0) {
      this_minimum = 0;
      this_scale = sum_xl / sum_l2;
    }
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const float apart = this_scale * static_cast<float>(tried[i]) + this_minimum - x[i];
      error += weights[i] * (apart * apart);
    }
    if (error < best) {
      std::copy_n(tried, n, codes);
      best = error;
      scale = this_scale;
      minimum = this_minimum;
    }
  }
  return {scale, -minimum};
}

void put_super_block_minima(unsigned char* out, const float* x, int bits, unsigned char* codes, const unsigned char* scales,
                            const unsigned char* minima, float d_of_scales, float d_of_minima) {
  const int last = (1 << bits) - 1;
  unsigned char* packed = out + 4;  // 12 bytes: 8 scales and 8 minima of 6 bits
  std::memset(packed, 0, 12);
  for (int j = 0; j < 8; ++j) {
    const int s = scales[j], m = minima[j];
    if (j < 4) {
      packed[j] = static_cast<unsigned char>(s);
      packed[j + 4] = static_cast<unsigned char>(m);
    } else {
      packed[j + 4] = static_cast<unsigned char>((s & 15) | (m & 15) << 4);
      packed[j - 4] = static_cast<unsigned char>(packed[j - 4] | (s >> 4) << 6);
      packed[j] = static_cast<unsigned char>(packed[j] | (m >> 4) << 6);
    }
  }
  put_half(out, d_of_scales);
  put_half(out + 2, d_of_minima);
  for (int j = 0; j < 8; ++j) {
    const float d = half_k(out) * static_cast<float>(scales[j]);
    if (d == 0) continue;
    const float m = half_k(out + 2) * static_cast<float>(minima[j]);
    for (int i = 32 * j; i < 32 * (j + 1); ++i)
      codes[i] = static_cast<unsigned char>(std::max(0, std::min(last, nearest_whole((x[i] + m) / d))));
  }
  unsigned char *fifths = out + 16, *low = bits == 5 ? out + 48 : out + 16;
  if (bits == 5) std::memset(fifths, 0, 32);
  for (int pair = 0; pair < 4; ++pair)
    for (int l = 0; l < 32; ++l) {
      const int upper = codes[64 * pair + l], lower = codes[64 * pair + 32 + l];
      low[32 * pair + l] = static_cast<unsigned char>((upper & 15) | (lower & 15) << 4);
      if (bits == 5) fifths[l] = static_cast<unsigned char>(fifths[l] | (upper >> 4) << (2 * pair) | (lower >> 4) << (2 * pair + 1));
    }
}

void put_super_block_q6(unsigned char* out, const float* x, signed char* codes, const float* scales) {
  float largest = 0, most = 0;
  for (int j = 0; j < 16; ++j)
    if (std::fabs(scales[j]) > most) most = std::fabs(scales[j]), largest = scales[j];
  unsigned char *low = out, *high = out + 128, *packed = out + 192;
  if (most < kNothing) {
    std::memset(out, 0, 210);
    return;
  }
  const float step = -128.0f / largest;
  put_half(out + 208, 1 / step);
  for (int j = 0; j < 16; ++j) {
    const int scale = std::min(127, nearest_whole(step * scales[j]));
    packed[j] = static_cast<unsigned char>(static_cast<signed char>(scale));
    const float d = half_k(out + 208) * static_cast<float>(static_cast<signed char>(packed[j]));
    if (d == 0) continue;
    for (int i = 16 * j; i < 16 * (j + 1); ++i)
      codes[i] = static_cast<signed char>(std::max(-32, std::min(31, nearest_whole(x[i] / d))) + 32);
  }
  for (int half = 0; half < 2; ++half)
    for (int l = 0; l < 32; ++l) {
      const signed char* q = codes + 128 * half + l;
      low[64 * half + l] = static_cast<unsigned char>((q[0] & 15) | (q[64] & 15) << 4);
      low[64 * half + 32 + l] = static_cast<unsigned char>((q[32] & 15) | (q[96] & 15) << 4);
      high[32 * half + l] = static_cast<unsigned char>((q[0] >> 4) | (q[32] >> 4) << 2 | (q[64] >> 4) << 4 | (q[96] >> 4) << 6);
    }
}

void quantise_k(void* blocks, Dtype dtype, const float* values, int64_t n) {
  auto* out = static_cast<unsigned char*>(blocks);
  for (int64_t at = 0; at < n; at += kSuper, out += block_of(dtype).bytes) {
    if (dtype == Dtype::Q6_K) super_block_q6(out, values + at);
    else super_block_minima(out, values + at, dtype == Dtype::Q5_K ? 5 : 4);
  }
}

}  // namespace loraine
