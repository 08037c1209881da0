// Ops with one factor for all elements, and soft caps: what models with multipliers (Granite, Cohere, MiniCPM) and capped logits (Gemma 2)
// need. Tensors [T, C]; rows may be strided.
#pragma once
#include "loraine/core/context.h"

namespace loraine {

// F32 or BF16 each by itself (arithmetic in f32, one rounding).
void scale(Context& ctx, const Tensor& y, const Tensor& x, float factor);                        // y = factor · x; y may be x
void add_scaled(Context& ctx, const Tensor& y, const Tensor& a, const Tensor& b, float factor);  // y = a + factor · b; y may be a or b
void add_rounded_scaled(Context& ctx, const Tensor& sum, const Tensor& rounded, const Tensor& x,
                        float factor);  // sum F32 += factor · x; rounded = sum in its type

// F32. y = cap · tanh(x / cap), cap > 0; y may be x.
void soft_cap(Context& ctx, const Tensor& y, const Tensor& x, float cap);
// d *= 1 − (y / cap)², with the y that soft_cap gave; d F32 or BF16.
void soft_cap_backward(Context& ctx, const Tensor& d, const Tensor& y, float cap);

}  // namespace loraine
