// A mask over tokens on the logits of a step. Called by the engine, before anything else changes them.
#pragma once
#include <exception>
#include <span>

#include "loraine/core/token_mask.h"

namespace loraine {

// Logits [V] of what the mask does not allow become -infinity; the others stay as they are. What the mask throws is returned, so that it
// can be called in a parallel loop.
std::exception_ptr apply_mask(TokenMask& mask, std::span<float> logits) noexcept;

// Tells the mask of the token. Throws usage where it is not allowed: other limits of the request left nothing that is.
void accept_token(TokenMask& mask, int32_t id);

}  // namespace loraine
