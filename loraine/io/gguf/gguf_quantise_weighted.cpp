// Blocks whose errors are weighted by an importance matrix. The searches, and the order of what is added up, are ggml's
// (quantize_row_…_impl of ggml-quants.c), since bytes are compared.
#include <algorithm>
#include <cmath>
#include <cstring>

#include "loraine/io/gguf/gguf_quantise.h"

namespace loraine {
namespace {

constexpr float kNothingAtAll = 1e-15f;  // below which a group counts as zeros

// x [n] → codes 0 … 2 half − 1 about `half`; the scale by weighted least squares over 19 steps.
float weighted_scale(int n, int half, const float* x, const float* weights, signed char* codes) {
  float most = 0, value = 0;
  for (int i = 0; i < n; ++i)
    if (std::fabs(x[i]) > most) most = std::fabs(x[i]), value = x[i];
  if (most < kNothingAtAll) {
    std::fill_n(codes, n, static_cast<signed char>(0));
    return 0;
  }
  const auto code_at = [&](float step, int i) { return std::max(-half, std::min(half - 1, nearest_whole(step * x[i]))); };
  float step = static_cast<float>(-half) / value, sum_lx = 0, sum_l2 = 0;
  const auto add = [&](int code, int i) {
    const float l = static_cast<float>(code), w = weights[i];
    sum_lx += w * x[i] * l;
    sum_l2 += w * l * l;
  };
  for (int i = 0; i < n; ++i) {
    const int code = code_at(step, i);
    codes[i] = static_cast<signed char>(code + half);
    add(code, i);
  }
  float scale = sum_l2 != 0 ? sum_lx / sum_l2 : 0.0f, best = scale * sum_lx;
  for (int trial = -9; trial <= 9; ++trial) {
    if (trial == 0) continue;
    step = -(static_cast<float>(half) + 0.1f * static_cast<float>(trial)) / value;
    sum_lx = sum_l2 = 0;
    for (int i = 0; i < n; ++i) add(code_at(step, i), i);
    if (!(sum_l2 > 0 && sum_lx * sum_lx > best * sum_l2)) continue;
    for (int i = 0; i < n; ++i) codes[i] = static_cast<signed char>(code_at(step, i) + half);
    scale = sum_lx / sum_l2;
    best = scale * sum_lx;
  }
  return scale;
}

// x [32] → codes 0 … last, over ggml's 37 steps.
ScaleAndMinimum weighted_scale_minimum(int last, const float* x, const float* weights, unsigned char* codes) {
  return search_scale_minimum(32, last, x, weights, codes, -0.9f, 0.05f, 36);
}

// x [8], none below zero, → codes 0 … 63 and their scale, by weighted squares: first over 9 steps, then each code by itself.
float weighted_positive(const float* x, unsigned char* codes, const float* weights) {
  constexpr int n = 8, kLast = 63;
  float most = 0;
  for (int i = 0; i < n; ++i) most = std::max(most, x[i]);
  if (most < kNothingAtAll) {
    std::fill_n(codes, n, static_cast<unsigned char>(0));
    return 0;
  }
  float step = static_cast<float>(kLast) / most, best = 0;
  const float scale = 1 / step;
  for (int i = 0; i < n; ++i) {
    codes[i] = static_cast<unsigned char>(nearest_whole(step * x[i]));
    const float apart = x[i] - scale * static_cast<float>(codes[i]);
    best += weights[i] * apart * apart;
  }
  for (int trial = -4; trial <= 4; ++trial) {
    if (trial == 0) continue;
    const float this_step = (0.1f * static_cast<float>(trial) + static_cast<float>(kLast)) / most, this_scale = 1 / this_step;
    float error = 0;
    for (int i = 0; i < n; ++i) {
      const int code = std::min(kLast, nearest_whole(this_step * x[i]));
      const float apart = x[i] - this_scale * static_cast<float>(code);
      error += weights[i] * apart * apart;
    }
    if (!(error < best)) continue;
    best = error;
    step = this_step;
  }
  float sum_lx = 0, sum_l2 = 0;
  for (int i = 0; i < n; ++i) {
    const int code = std::min(kLast, nearest_whole(step * x[i]));
    codes[i] = static_cast<unsigned char>(code);
    const float w = weights[i], l = static_cast<float>(code);
    sum_lx += w * x[i] * l;
    sum_l2 += w * l * l;
  }
  for (int round = 0; round < 5; ++round) {
    bool changed = false;
    for (int i = 0; i < n; ++i) {
      const float w = weights[i], old = static_cast<float>(codes[i]);
      float lx = sum_lx - w * x[i] * old, l2 = sum_l2 - w * old * old;
      if (!(lx > 0 && l2 > 0)) continue;
      const int code = std::min(kLast, nearest_whole(x[i] * l2 / lx));
      if (code == codes[i]) continue;
      const float l = static_cast<float>(code);
      lx += w * x[i] * l;
      l2 += w * l * l;
      if (!(lx * lx * sum_l2 > sum_lx * sum_lx * l2)) continue;
      codes[i] = static_cast<unsigned char>(code);
      sum_lx = lx;
      sum_l2 = l2;
      changed = true;
    }
    if (!changed) break;
  }
  return sum_l2 > 0 ? sum_lx / sum_l2 : 0.0f;
}

// How much each error counts: its importance, by the size of the value beside that of the others.
void fill_weights(float* weights, const float* x, const float* importance, int n, float size2) {
  for (int i = 0; i < n; ++i) weights[i] = importance[i] * std::sqrt(size2 + x[i] * x[i]);
}

void weighted_block_of_32(unsigned char* out, Dtype dtype, const float* x, const float* importance, float size2) {
  float weights[32];
  unsigned char q[32];
  fill_weights(weights, x, importance, 32, size2);
  const bool five = dtype == Dtype::Q5_0 || dtype == Dtype::Q5_1;
  if (dtype == Dtype::Q4_0 || dtype == Dtype::Q5_0) {
    signed char codes[32];
    put_half(out, weighted_scale(32, five ? 16 : 8, x, weights, codes));
    std::copy_n(codes, 32, q);
    put_codes_of_32(out + (five ? 6 : 2), five ? out + 2 : nullptr, q);
    return;
  }
  const ScaleAndMinimum found = weighted_scale_minimum(five ? 31 : 15, x, weights, q);
  put_half(out, found.scale);
  put_half(out + 2, -found.minimum);
  put_codes_of_32(out + (five ? 8 : 4), five ? out + 4 : nullptr, q);
}

void weighted_super_block(unsigned char* out, Dtype dtype, const float* x, const float* importance) {
  if (dtype == Dtype::Q6_K) {
    signed char codes[256];
    float scales[16];
    for (int j = 0; j < 16; ++j) scales[j] = weighted_scale(16, 32, x + 16 * j, importance + 16 * j, codes + 16 * j);
    return put_super_block_q6(out, x, codes, scales);
  }
  float sum = 0, sums[8], scales[8], minima[8];
  for (int i = 0; i < 256; ++i) sum += x[i] * x[i];
  const float size2 = 2 * sum / 256;
  unsigned char codes[256], scale_codes[8], minimum_codes[8];
  for (int j = 0; j < 8; ++j) {
    float weights[32];
    fill_weights(weights, x + 32 * j, importance + 32 * j, 32, size2);
    sums[j] = 0;
    for (int i = 0; i < 32; ++i) sums[j] += weights[i];
    const ScaleAndMinimum found = weighted_scale_minimum(dtype == Dtype::Q5_K ? 31 : 15, x + 32 * j, weights, codes + 32 * j);
    scales[j] = found.scale;
    minima[j] = found.minimum;
  }
  const float d = weighted_positive(scales, scale_codes, sums), dmin = weighted_positive(minima, minimum_codes, sums);
  put_super_block_minima(out, x, dtype == Dtype::Q5_K ? 5 : 4, codes, scale_codes, minimum_codes, d, dmin);
}

}  // namespace

void quantise_weighted(void* blocks, Dtype dtype, const float* values, int64_t n, const float* importance) {
  auto* out = static_cast<unsigned char*>(blocks);
  const auto [elements, bytes] = block_of(dtype);
  float sum = 0;
  if (elements == 32)
    for (int64_t i = 0; i < n; ++i) sum += values[i] * values[i];
  const float size2 = sum / static_cast<float>(n);
  for (int64_t at = 0; at < n; at += elements, out += bytes) {
    if (elements == 32) weighted_block_of_32(out, dtype, values + at, importance + at, size2);
    else weighted_super_block(out, dtype, values + at, importance + at);
  }
}

}  // namespace loraine
