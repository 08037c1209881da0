// FourierFT (Gao et al. 2024): y = W x + b + Δ x, Δ = s · Re(F⁻¹(S)), the inverse Fourier transform in two dimensions of a matrix S [out,
// in] of n_frequency trained numbers and else zeros. Their places are the first of torch's random order of out · in numbers for
// random_loc_seed, so that weights of one shape have the same. Trained per module: the numbers, `fourierft_spectrum` [n].
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_fourierft(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
