// Causal depthwise convolution over sequences laid end to end, a few taps per channel, as the recurrent blocks of hybrid models have it. In
// decoding the last inputs of each sequence are its state.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/batch.h"
#include "loraine/core/context.h"

namespace loraine {

inline constexpr int64_t kMaxConvTaps = 8;

// y[t, c] = act(bias[c] + Σ_k weight[c, k] · x[t − K + 1 + k, c]) for the rows of each sequence (others stay as they are); no tap crosses
// the start of its sequence. act is silu or nothing. x, y [T, C] F32 or BF16 each by itself (arithmetic in f32, one rounding); y may be x;
// rows may be strided. weight [C, K] F32, contiguous, K ≤ kMaxConvTaps; bias [C] f32 or nullptr. state [slots, (K−1) · C] F32 (data ==
// nullptr: none, then length == kv_length in all sequences): sequence i has row slots[i], no two the same. It holds the last K − 1 inputs,
// the oldest first; where length < kv_length they are read as the taps before the first row, else there are zeros; afterwards it holds
// those of the end. Any cut of a sequence into calls gives the same bits.
void causal_conv(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& weight, const float* bias,
                 std::span<const Sequence> sequences, const Tensor& state, std::span<const int64_t> slots, bool silu);
// Overwrites d_x (may be d_y or x) in the rows of the sequences, whole ones (length == kv_length). The sum before silu is rebuilt from x.
void causal_conv_backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& weight, const float* bias,
                          std::span<const Sequence> sequences, bool silu);
// d_weight [C, K] F32, contiguous, and d_bias [C] (may be nullptr) += their gradients, summed in double over the rows in their order.
void causal_conv_weight_gradient(Context& ctx, const Tensor& d_weight, float* d_bias, const Tensor& d_y, const Tensor& x,
                                 const Tensor& weight, const float* bias, std::span<const Sequence> sequences, bool silu);

}  // namespace loraine
