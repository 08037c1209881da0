// MiSS (Kang & Yin 2024): a matrix M of r rows is added to each piece of r columns of the weight. y = W x + b + Mᵀ Σ_j x_j, x_j the pieces
// of dropout(x), M [r, out]; `mini`: the columns of M [r, mini_r] repeat; `bat`: M [out / r, r, r], and each square block W_oj of the
// weight becomes W_oj + W_oj M_o + M_o. M starts at 0 (init_weights false: as nn.Linear's weight).
#pragma once
#include "loraine/adapters/peft_methods/peft_method.h"

namespace loraine {

std::shared_ptr<PeftMethod> read_miss(MethodKeys& keys, LoraConfig& config);

}  // namespace loraine
