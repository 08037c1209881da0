// What `loraine bench` measures of several sequences and adapters at once: decoding in a batch, loading and switching. Called by bench.
#pragma once
#include <cstdint>

#include "loraine/model/model.h"

namespace loraine {

// Best of `repeats` rounds, the ways of decoding in turn within each.
struct BatchFigures {
  static constexpr int64_t kSequences = 8, kMost = 32;
  double one = 0, one_adapter = 0;               // seconds of a step with one sequence, without and with an adapter
  double many = 0, many_one = 0, many_each = 0;  // with kSequences: the base; one adapter for all; an adapter each
  double most = 0, most_each = 0;                // with kMost: the base; the adapters in turn
  double load_seconds = 0, switch_seconds = 0;   // an adapter from its files (in the page cache); to another one once loaded
  int64_t adapter_bytes = 0;                     // of its tensors
};

// Adapters of rank `rank` on all linear layers; `new_tokens` steps of decoding a round. Writes one adapter into a temporary folder.
BatchFigures bench_batch(Context& ctx, Model& model, int64_t rank, int64_t new_tokens, int64_t repeats);

}  // namespace loraine
