// Examples to a Batch: laid end to end without padding, labels shifted. Called by the training loop and by trace.
#pragma once
#include <span>

#include "loraine/core/batch.h"
#include "loraine/data/examples/example.h"

namespace loraine {

// tokens, positions, labels [T]: T = sum of lengths; positions restart per example; labels[t] = label of the next token of the same
// example (kIgnoreLabel on its last row); one Sequence per example whose keys are its own rows. Empty examples are left out, and padding
// is. In a packed example positions restart with each sample, and each sample is a Sequence unless they see each other; the last row of one
// sample predicts the first token of the next where that has a label, as in LLaMA-Factory.
Batch make_batch(std::span<const Example* const> examples);

// Rows of a batch that the example takes: its tokens without padding.
int64_t example_rows(const Example& example);

// Labels that are not kIgnoreLabel, before the shift: LLaMA-Factory's divisor counts a labelled first token too.
int64_t count_labels(const Example& example);

}  // namespace loraine
