// Encoded training examples, what every reader of data sets ends in.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "loraine/data/examples/token_ids.h"

namespace loraine {

struct Example {
  TokenIds input_ids;
  TokenIds labels;        // same length; kIgnoreLabel where nothing is trained; not shifted
  TokenIds starts;        // of the samples that were packed into one block: their first ids, from 0; empty: it is one sample
  int32_t padding = 0;    // ids at the end that only fill a block; nothing is computed for them
  bool sees_all = false;  // plain packing: a sample sees those before it in its block, too
  void let_go() const {   // it was read, and is not soon again
    for (const TokenIds* ids : {&input_ids, &labels, &starts}) ids->let_go();
  }
};

// Two answers to one question, of which the first is preferred. Both begin with the same prompt.
struct PairExample {
  Example chosen, rejected;
  void let_go() const { chosen.let_go(), rejected.let_go(); }
};

// An answer that was found good or not; `kl` is the same prompt with another row's answer.
struct FeedbackExample {
  Example example, kl;
  bool desirable = false;
  void let_go() const { example.let_go(), kl.let_go(); }
};

// The choices of a question with few answers; rows that have the same share them.
struct DecisionChoices {
  std::vector<std::vector<int32_t>> labels;  // ids of what the model answers with, in the order of the choices
  std::vector<std::string> names;            // the choices as the row has them
  std::vector<double> numbers;               // of scores
  bool operator==(const DecisionChoices&) const = default;
};

// A question with few answers, of which `label` is right. Every sample is the prompt with the beginning of labels behind it, so that each
// place at which a label goes on (data/decisions/label_tree.h) is in one of them; where all labels are one token there is one sample, the
// prompt. None has labels of its own.
struct DecisionExample {
  std::vector<Example> samples;
  std::shared_ptr<const DecisionChoices> choices;
  int32_t prompt = 0;  // tokens
  int32_t label = 0;   // place among the choices
  void let_go() const {
    for (const Example& sample : samples) sample.let_go();
  }
};

// What is known of an answer that a run generated itself (stage grpo): filled in when it is judged.
struct AnswerScore {
  double advantage = 0;
  double generation_tokens = 0;  // of all answers that were generated with it
  std::vector<double> old_logps,
      reference_logps;  // log p of its labels by the weights that generated it, and by the reference; empty: unused
};

// What a stage makes of rows. pairs: of ranking sets (stages rm and dpo); feedback: of sets with a tag per answer (stage kto); decisions:
// of sets of questions with few answers; prompts: of questions whose answers are generated (stage grpo).
enum class DataStage : uint8_t { sft, pretraining, pairs, feedback, decisions, prompts };

}  // namespace loraine
