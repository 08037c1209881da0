// The answers of a group share the pages of their prompt; each has a seed of its own.
#include "loraine/rollouts/engine_rollouts.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "loraine/core/error.h"
#include "loraine/model/load.h"
#include "loraine/train/config/grpo_options.h"

namespace loraine {
namespace {

constexpr int64_t kSequences = 32;  // as many as a step of decoding has rows

}  // namespace

EngineRollouts::EngineRollouts(const TrainConfig& config, const ModelFiles& files, const Tokenizer& tokenizer, const SpecialTokens& special,
                               std::vector<NamedCheck> checks)
    : config_(config), files_(files), tokenizer_(tokenizer), special_(special), checks_(std::move(checks)) {
  for (const NamedCheck& one : checks_) {
    names_.push_back(one.name);
    weights_.push_back(one.weight);
  }
  if (const std::vector<double> given = given_reward_weights(config); !given.empty()) {
    if (given.size() != checks_.size())
      throw Error(
          ErrorKind::usage,
          fmt::format("reward_weights has {} numbers, and {} has {} checks", given.size(), *config.grpo.reward_checks, checks_.size()),
          "give one for each check, in their order");
    weights_ = given;
  }
  const bool evaluates = config.val_size > 0 || !split_list(config.eval_dataset).empty();
  sequences_ = std::min(kSequences, std::max(generation_sizes(config).answers, evaluates ? config.per_device_eval_batch_size : 1));
  const RolloutSampling sampling = rollout_sampling(config);
  options_.max_new_tokens = config.grpo.max_completion_length;
  options_.do_sample = true;
  options_.temperature = sampling.temperature;
  options_.top_p = sampling.top_p;
  options_.top_k = sampling.top_k;
  options_.min_p = sampling.min_p;
  options_.repetition_penalty = sampling.repetition_penalty;
}

int64_t EngineRollouts::rows(int64_t longest_prompt) const { return longest_prompt + config_.grpo.max_completion_length + 1; }

size_t EngineRollouts::bytes(const Model& model, const AdapterSet& set, int64_t longest_prompt) const {
  size_t sum = engine_bytes(model, sequences_ * rows(longest_prompt), rank_columns(set), sequences_);
  for (const NamedCheck& one : checks_) sum += one.check->bytes(rows(longest_prompt));
  return sum;
}

void EngineRollouts::plan(const Model& model, const AdapterSet& set, int64_t longest_prompt) {
  set_ = &set;
  options_.stop_ids = eos_token_ids(files_, model.config);
  options_.stop_ids.insert(options_.stop_ids.end(), special_.stop.begin(), special_.stop.end());
  if (special_.eos) options_.stop_ids.push_back(*special_.eos);
  engine_ = std::make_unique<Engine>(model, sequences_ * rows(longest_prompt), rank_columns(set), sequences_);
}

void EngineRollouts::generate(Context& ctx, std::span<const AskedExample* const> asked, int64_t each, uint64_t seed,
                              std::vector<Rollout>& rollouts) {
  std::vector<int64_t> requests;
  try {
    for (const AskedExample* question : asked) {
      const TokenIds& ids = question->prompt.input_ids;
      int64_t first = 0;
      for (int64_t i = 0; i < each; ++i) {
        Request request{{ids.begin(), ids.end()}, set_, options_};
        request.options.seed = seed_of_answer(seed, requests.size() + 1);
        request.same_prompt_as = first;
        requests.push_back(engine_->submit(std::move(request)));
        if (i == 0) first = requests.back();
      }
    }
    while (engine_->step(ctx)) {}
    for (int64_t& request : requests) rollouts.push_back({engine_->take(std::exchange(request, 0))});
  } catch (...) {
    for (const int64_t request : requests)
      if (request != 0) engine_->take(request);
    throw;
  }
}

void EngineRollouts::judge(Context& ctx, std::span<const AskedExample* const> asked, int64_t each, std::vector<Rollout>& rollouts) {
  std::vector<JudgedAnswer> answers;
  for (size_t i = 0; i < rollouts.size(); ++i) {
    Rollout& one = rollouts[i];
    if (one.ids.empty()) throw Error(ErrorKind::internal, "an answer without a token");
    one.ended = std::ranges::find(options_.stop_ids, one.ids.back()) != options_.stop_ids.end();
    one.text = tokenizer_.decode(std::span(one.ids).first(one.ids.size() - (one.ended ? 1 : 0)), true);
    answers.push_back({asked[i / static_cast<size_t>(each)], one.text, one.ids});
  }
  for (const NamedCheck& check : checks_) {
    const std::vector<double> rewards = check.check->judge(ctx, answers);
    if (rewards.size() != rollouts.size())
      throw Error(ErrorKind::internal, fmt::format("check {}: {} rewards for {} answers", check.name, rewards.size(), rollouts.size()));
    for (size_t i = 0; i < rollouts.size(); ++i) rollouts[i].rewards.push_back(rewards[i]);
  }
}

std::vector<Rollout> EngineRollouts::answer(Context& ctx, std::span<const AskedExample* const> asked, int64_t each, uint64_t seed) {
  std::vector<Rollout> rollouts;
  generate(ctx, asked, each, seed, rollouts);
  judge(ctx, asked, each, rollouts);
  return rollouts;
}

std::unique_ptr<Rollouts> open_rollouts(const TrainConfig& config, const ModelFiles& files, const Tokenizer& tokenizer,
                                        const SpecialTokens& special) {
  return std::make_unique<EngineRollouts>(config, files, tokenizer, special, open_checks(*config.grpo.reward_checks, config));
}

}  // namespace loraine
