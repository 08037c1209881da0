// Beam search over one request: which continuations go on and which answers are kept, as transformers' generate chooses them with
// num_beams, length_penalty, early_stopping false and num_return_sequences 1. The engine runs the beams' rows and gives their logits. Ids
// only.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <vector>

#include "loraine/generate/engine.h"

namespace loraine {

class BeamSearch {
 public:
  // limit: most tokens of the answer.
  BeamSearch(std::vector<int32_t> prompt, const GenerateOptions& options, int64_t limit);

  int64_t beams() const { return static_cast<int64_t>(running_.size()); }
  // Of each beam the token that runs next, once there is one.
  std::vector<int32_t> last_tokens() const;

  // Takes a step from the logits [beams, V] of the last tokens, [1, V] of the prompt's at first; they are changed. Gives for each beam the
  // one that it now goes on from. do_sample: the continuations are drawn without replacement.
  std::vector<int64_t> advance(std::span<float> logits, std::mt19937_64& random);
  bool finished() const { return finished_; }
  // The best of the answers that ended; where none has, the likeliest beam.
  std::vector<int32_t> answer() const;

 private:
  struct Beam {
    std::vector<int32_t> ids;  // prompt and answer
    float score = 0;           // sum of log-probabilities; of an answer divided by its length to the power of length_penalty
    bool ended = false;
  };
  struct Candidate {
    float score = 0;
    int64_t beam = 0;
    int32_t id = 0;
  };
  std::vector<Candidate> candidates(std::span<float> logits, std::mt19937_64& random) const;
  void keep_answers(std::span<const Candidate> best, std::span<const bool> ends);

  GenerateOptions options_;
  size_t prompt_length_, most_;  // ids of an answer with its prompt
  std::vector<Beam> running_, answers_;
  bool can_improve_ = true, finished_ = false;
};

}  // namespace loraine
