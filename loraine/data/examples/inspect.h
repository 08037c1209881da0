// What there is to say of encoded sets before they are trained on. Called by the command `data`.
#pragma once
#include <functional>
#include <span>
#include <vector>

#include "loraine/data/dataset.h"

namespace loraine {

// The samples of a set in turn: those of a block one by one, without its padding; of a pair the chosen and the rejected one; of feedback
// the sample itself, without the one for KL; of a question with few answers the first one.
void for_each_sample(const Dataset& set, const std::function<void(std::span<const int32_t> ids, std::span<const int32_t> labels)>& take);

struct LengthBin {
  int64_t from = 0, to = 0, count = 0;  // tokens [from, to]
};

struct Inspection {
  int64_t samples = 0;
  int64_t shortest = 0, median = 0, longest = 0;
  std::vector<LengthBin> lengths;
  int64_t repeated = 0;     // samples that are, token by token, one that came before
  int64_t ended = 0;        // samples whose last trained answer ends with a token that ends an answer
  int64_t unended = 0;      // those whose last answer is trained, and not its end
  int64_t doubled_bos = 0;  // samples that begin with the token of the beginning twice
};
Inspection inspect(const Dataset& set, const SpecialTokens& special);

}  // namespace loraine
