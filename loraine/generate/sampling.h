// From the logits of a step to its token: masks, bias, penalties, then greedy or drawn. Called by the engine; beam search shares the
// penalty.
#pragma once
#include <cstdint>
#include <random>
#include <span>
#include <utility>
#include <vector>

namespace loraine {

struct GenerateOptions {
  int64_t max_new_tokens = 1024;
  bool do_sample = false;
  double temperature = 0.95, top_p = 0.7, repetition_penalty = 1.0;
  int64_t top_k = 50;
  std::vector<int32_t> stop_ids;
  uint64_t seed = 42;
  int64_t num_beams = 1;  // above 1: beam search (beam_search.h)
  double length_penalty = 1.0;
  // Of sampling alone, beam search takes none of them.
  double min_p = 0;                                    // tokens below this share of the likeliest one's probability are left out
  double frequency_penalty = 0, presence_penalty = 0;  // subtracted per time, and once, for tokens that the answer has
  std::vector<std::pair<int32_t, float>> logit_bias;   // added to the logits of these ids
  std::vector<int32_t> allowed_ids;                    // not empty: nothing else is chosen
  std::vector<std::vector<int32_t>> bad_words;         // ids that the answer never has in a row; none is empty
  int64_t min_tokens = 0;                              // no stop id before the answer has as many tokens
  int64_t logprobs = -1, prompt_logprobs = -1;         // how many of the likeliest tokens to tell at each place; -1: nothing is told
};

// Of one place: the token there and the likeliest ones, by the model's logits as they are, before masks, penalties and temperature.
struct TokenLogprobs {
  int32_t id = 0;
  float logprob = 0;
  int64_t rank = 1;                            // 1: no token is likelier
  std::vector<std::pair<int32_t, float>> top;  // likeliest first; of equal ones the smallest id first
};
TokenLogprobs token_logprobs(std::span<const float> logits, int32_t id, int64_t count);

// transformers' repetition penalty on logits or log-probabilities [V] of what comes after `seen`; 1: none.
void penalise_repetition(std::span<float> logits, std::span<const int32_t> seen, double penalty);

// Next id from logits [V], which are changed in place. seen: the prompt, and from `prompt_length` on the answer. In this order: allowed
// ids, bad words, stop ids before min_tokens; bias; repetition penalty over `seen`; frequency and presence penalty over the answer; then
// the likeliest, or temperature → min_p → top_k → top_p → a draw.
int32_t sample(std::span<float> logits, std::span<const int32_t> seen, size_t prompt_length, const GenerateOptions& options,
               std::mt19937_64& random);

// The seed of answer `index` of several to one question: that of the first is `seed` itself, the others are as good as unrelated.
uint64_t seed_of_answer(uint64_t seed, uint64_t index);

}  // namespace loraine
