// What a stage takes at a time, of whichever kind a set holds. Called by the training loop and by evaluation.
#pragma once
#include "loraine/data/dataset.h"

namespace loraine {

// An example, a pair, feedback, a question with few answers, or a prompt. It points into the set; an answer that a run
// generated, to where the run keeps it.
struct Item {
  const Example* example;          // of a pair the chosen answer; of feedback the answer that was judged; of a question its first sample
  const Example* other = nullptr;  // the rejected answer; the sample for KL
  bool desirable = false;          // of feedback
  const DecisionExample* decision = nullptr;
  const AnswerScore* score = nullptr;  // of a generated answer
  void let_go() const {
    if (decision) return decision->let_go();
    example->let_go();
    if (other) other->let_go();
  }
};

Item item_of(const Dataset& set, size_t i);  // i < set.size()

// As data_fingerprint of examples, of whichever kind the set holds.
uint64_t data_fingerprint(const Dataset& set);

}  // namespace loraine
