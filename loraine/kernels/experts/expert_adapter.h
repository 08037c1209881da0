// LoRA on the matrices of experts, as PEFT's target_parameters makes it: every expert has low-rank factors of its own.
#pragma once
#include <span>

#include "loraine/kernels/experts/order.h"

namespace loraine {

// What expert e's product gains: scale · x down_eᵀ up_eᵀ. All F32, without gaps. Both are expert-major; PEFT's B is not, so that a run
// holds its parameters in this order and writes copies in PEFT's (below).
struct ExpertFactors {
  Tensor down;  // [E, r, in]
  Tensor up;    // [E, out, r]
  float scale = 1;
  int64_t experts() const { return down.rows(); }
  int64_t rank() const { return down.shape[1]; }
};

// saved [rows, r] = x down_eᵀ (kept for the backward), y [rows, out] += scale · saved up_eᵀ. y, x [rows, in] and saved F32 or BF16, x and
// saved of one type. A row's bits depend on its own x and its expert's factors alone.
void expert_adapter(Context& ctx, const Tensor& y, const Tensor& saved, const Tensor& x, const ExpertFactors& factors,
                    const ExpertOrder& order);

// The adapter of some tokens, which lie one after the other.
struct ExpertAdapterTokens {
  const ExpertFactors* factors = nullptr;
  int64_t first = 0, count = 0;
};
// The same for several adapters, each over tokens of its own; tokens without one get nothing. saved [rows, largest r].
void expert_adapters(Context& ctx, const Tensor& y, const Tensor& saved, const Tensor& x, std::span<const ExpertAdapterTokens> adapters,
                     const ExpertOrder& order);
// d_x [rows, in] += what comes back through the factors, unless its data is nullptr; the gradients of the factors (shapes of ExpertFactors,
// its scale is not read) are added to. d_saved [rows, r], F32 or of x's type, is scratch.
void expert_adapter_backward(Context& ctx, const Tensor& d_x, const ExpertFactors& gradients, const Tensor& d_saved, const Tensor& d_y,
                             const Tensor& x, const Tensor& saved, const ExpertFactors& factors, const ExpertOrder& order);

// PEFT's tensors of a parameter with E experts: A [E · r, a], rows e · r … e · r + r of expert e, and B [b, r · E], columns k · E + e of
// expert e; F32. As a rule a = in and b = out, and A_e is down_e, B_e is up_e. Swapped, a = out and b = in: A_e is up_eᵀ, B_e is down_eᵀ.
// That is so of a parameter stored [E, in, out] whose change is B_e A_e as stored (llama4), and of one stored [E, out, in] whose change is
// (B_e A_e)ᵀ (PEFT up to 0.18).
void expert_factors_from_peft(const ExpertFactors& factors, const Tensor& a, const Tensor& b, bool swapped);
void expert_factors_to_peft(const Tensor& a, const Tensor& b, const ExpertFactors& factors, bool swapped);

}  // namespace loraine
