// Examples to a Batch: laid end to end without padding, labels shifted. Called by the training loop and by trace.
#pragma once
#include <span>

#include "loraine/core/batch.h"
#include "loraine/data/examples/example.h"

namespace loraine {

// Fewer rows than this are not worth being shared.
inline constexpr int64_t kLeastShared = 16;

// tokens, positions, labels [T]: T = sum of lengths; positions restart per example; labels[t] = label of the next token of the same
// example (kIgnoreLabel on its last row); one Sequence per example whose keys are its own rows. Empty examples are left out, and padding
// is. In a packed example positions restart with each sample, and each sample is a Sequence unless they see each other; the last row of one
// sample predicts the first token of the next where that has a label, as in LLaMA-Factory.
// share_up_to: a sample of at most so many tokens that begins with the tokens of an earlier one, of at most so many too, has them there:
// its Sequence has the other as its parent, and only the rows behind lie in the batch. What is shared ends before the sample's first
// labelled row, so that each label has a row of its own; what it has in common with several, it shares with the one that gives most. 0:
// none does.
Batch make_batch(std::span<const Example* const> examples, int64_t share_up_to = 0);

// Rows of that batch, each example cut to `cutoff` tokens.
int64_t batch_rows(std::span<const Example* const> examples, int64_t share_up_to, int64_t cutoff = INT64_MAX);

// The first rows of a batch, which end where a sequence does; one adapter goes over all of them.
Batch first_rows(const Batch& batch, int64_t rows);

// Rows of a batch that the example takes: its tokens without padding.
int64_t example_rows(const Example& example);

// Labels that are not kIgnoreLabel, before the shift: LLaMA-Factory's divisor counts a labelled first token too.
int64_t count_labels(const Example& example);

}  // namespace loraine
