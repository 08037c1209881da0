// What export wrote, looked at again: every tensor exactly, and what the rounding does to answers, as a figure. Called by loraine export.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loraine/export/merge.h"

namespace loraine {

// Reads the tensors of `folder` back. What is stored as it was has to have the same bytes; what was computed has to be the sum in double
// (Adapter::exact_merge), rounded once to the type that is written: no further from it than half a step of that type and the error of f32
// sums. Throws io or internal for another tensor, numeric for a value that the type cannot hold; each names the tensor.
void check_written(const Merge& merge, const std::string& folder, const std::function<bool()>& keep_going = {});

// How far two models are apart on the same tokens: the mean of KL(first ‖ second) in nats, and the share with the same most likely token.
struct Divergence {
  double mean_kl = 0, same_first = 0;
  bool finite = true;  // all logits of both
};

struct LogitsReport {
  int64_t tokens = 0;
  Divergence merged;  // base + adapter against what was written
  std::optional<Divergence>
      rounding;  // merged in f32 without the rounding, against what was written; none where all that is computed is written in f32
  std::string not_finite;  // of what was written: the tensor that holds such values, as not_finite_text says it
};

// texts: token ids, each text a sequence of its own.
LogitsReport compare_logits(const Merge& merge, const std::string& folder, const std::vector<std::vector<int32_t>>& texts);

// How many tokens are worth their time: fewer for a larger model.
int64_t compared_tokens(const Model& model);

}  // namespace loraine
