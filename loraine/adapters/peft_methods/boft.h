// BOFT (Liu et al. 2024): y = s ∘ (W R x) + b, as OFT with R a product of n butterfly factors and with a trained factor for each output.
// A factor is blocks on the diagonal, each (I − Q)(I + Q)⁻¹ of Q = (M − Mᵀ) / 2, between columns that are put in another order and back.
// PEFT's boft_R [n, blocks, b, b] are the M, boft_s [out, 1]. W is only multiplied with, so that it may lie in any codes.
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_boft(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
