// Who answers the questions of stage grpo, and what the answers are worth. train/ knows neither generation nor text: it asks through this
// interface, and loraine/rollouts is behind it.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "loraine/data/dataset.h"
#include "loraine/model/decoder.h"

namespace loraine {

struct Rollout {
  std::vector<int32_t> ids;     // of the answer, its end among them
  bool ended = false;           // it came to an end by itself
  std::string text;             // without special tokens
  std::vector<double> rewards;  // of each check; NaN: it has nothing to say of this answer
};

class Rollouts {
 public:
  virtual ~Rollouts() = default;
  virtual const std::vector<std::string>& reward_names() const = 0;  // of the checks, in their order
  virtual const std::vector<double>& reward_weights() const = 0;

  // Of prompts of up to `longest_prompt` tokens: the bytes that generation takes beside training, and taking them. The set is the one that
  // trains; its values are those of the moment whenever it answers.
  virtual size_t bytes(const Model& model, const AdapterSet& set, int64_t longest_prompt) const = 0;
  virtual void plan(const Model& model, const AdapterSet& set, int64_t longest_prompt) = 0;

  // `each` answers to each question, those of one question side by side. What comes follows from the weights, the questions and the seed
  // alone: neither from threads nor from what was asked before.
  virtual std::vector<Rollout> answer(Context& ctx, std::span<const AskedExample* const> asked, int64_t each, uint64_t seed) = 0;
};

}  // namespace loraine
