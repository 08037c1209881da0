// See apply_mask.h.
#include "loraine/generate/apply_mask.h"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {

std::exception_ptr apply_mask(TokenMask& mask, std::span<float> logits) noexcept {
  constexpr float kNever = -std::numeric_limits<float>::infinity();
  try {
    const size_t tokens = static_cast<size_t>(mask.tokens()), known = std::min(tokens, logits.size());
    std::vector<uint64_t> bits((tokens + 63) / 64);
    mask.fill(bits);
    for (size_t word = 0; word * 64 < known; ++word) {
      const size_t first = word * 64, end = std::min(first + 64, known);
      if (bits[word] == ~0ull) continue;
      for (size_t id = first; id < end; ++id)
        if ((bits[word] >> (id - first) & 1) == 0) logits[id] = kNever;
    }
    std::fill(logits.begin() + static_cast<ptrdiff_t>(known), logits.end(), kNever);
    return nullptr;
  } catch (...) { return std::current_exception(); }
}

void accept_token(TokenMask& mask, int32_t id) {
  if (!mask.accept(id))
    throw Error(ErrorKind::usage,
                "token " + std::to_string(id) + " is not allowed by the grammar, and nothing that is was left by the other limits",
                "leave out allowed_token_ids, bad_words or logit_bias");
}

}  // namespace loraine
