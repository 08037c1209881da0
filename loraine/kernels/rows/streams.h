// Several residual streams beside each other (AltUp): rows mixed by a matrix of their own each, and brought to another row's size.
#pragma once
#include <cstdint>
#include <span>

#include "loraine/core/context.h"

namespace loraine {

constexpr size_t kMostStreams = 32;  // of one call, in and out each

// out[j][t] = Σ_i factors[t, j · n + i] · in[i][t], with n = in.size(). in and out [T, C] F32 or BF16 each by itself (arithmetic in f32,
// one rounding); rows may be strided; factors [T, out.size() · n] F32. An out may be one of the in, but none lie over another one in part.
void mix_streams(Context& ctx, std::span<const Tensor> out, std::span<const Tensor> in, const Tensor& factors);
// d_in[i][t] = Σ_j factors[t, j · n + i] · d_out[j][t], with n = d_in.size(): the same with each row's matrix transposed.
void mix_streams_backward(Context& ctx, std::span<const Tensor> d_in, std::span<const Tensor> d_out, const Tensor& factors);
// d_factors[t, j · n + i] = d_out[j][t] · in[i][t], a dot product.
void mix_streams_factors(Context& ctx, const Tensor& d_factors, std::span<const Tensor> d_out, std::span<const Tensor> in);

// y[t] = p[t] · sqrt(mean(x[t]²)) / sqrt(max(mean(p[t]²), least)): p with the size of x. y, p, x [T, C] F32 or BF16 each by itself; y may
// be p.
void match_size(Context& ctx, const Tensor& y, const Tensor& p, const Tensor& x, float least);
// d_p from d_y (may be the same), and d_x F32 += the gradient of x (none where it has no data, or where x is 0).
void match_size_backward(Context& ctx, const Tensor& d_p, const Tensor& d_x, const Tensor& d_y, const Tensor& p, const Tensor& x,
                         float least);

}  // namespace loraine
