// The answers that a run is training on: generated, judged and cut into micro-batches, kept while they are used, and across a checkpoint.
// Called by the step loop.
#pragma once
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "loraine/data/examples/item.h"

namespace loraine {

struct Run;
class LoggedFigures;

// Prompt with answer, the answer labelled, and what it is worth.
struct ScoredAnswer {
  Example example;
  AnswerScore score;
};

class Generations {
 public:
  // The items of micro-batches [first, end) of an epoch, generated where they are not there yet. Good until the next call.
  std::vector<Item> items(Run& run, int64_t epoch, int64_t first, int64_t end);

  // What a checkpoint needs, where micro-batches to come are made of answers that older weights gave: rollouts.json.
  void write_files(const Run& run, const std::string& folder) const;
  void read_files(const Run& run, const std::string& folder);  // bad_data where it is not there and has to be

 private:
  struct Generation {
    int64_t epoch = -1, number = -1;
    std::vector<ScoredAnswer> answers;  // in the order of the micro-batches
  };
  const Generation& generation(Run& run, int64_t epoch, int64_t number);
  std::deque<Generation> kept_;  // of the last update
};

// Micro-batches of an epoch of n prompts: prompts that do not make a generation are left out, as in trl.
int64_t rollout_micro_batches(const Run& run, int64_t n);

// Answers to questions [first, first + count) of a set that is evaluated, with what they are worth; figures get their rewards and lengths.
std::vector<ScoredAnswer> answers_of_evaluation(Run& run, const Dataset& set, size_t first, size_t count, LoggedFigures& figures);

// Items that point to them.
std::vector<Item> items_of(std::span<const ScoredAnswer> answers);

}  // namespace loraine
