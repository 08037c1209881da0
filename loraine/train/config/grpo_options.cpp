// What grpo is told, in trl's words, and what does not go together.
#include "loraine/train/config/grpo_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr const char* kGroup = "grpo";
const Limits kWeightOfTerm = {.lowest = 0, .highest = 1e6};
const Limits kCountOfAnswers = {.lowest = 1, .highest = 1e6};

[[noreturn]] void broken_grpo(const std::string& message, const std::string& hint) { throw Error(ErrorKind::usage, message, hint); }

void describe_rollouts(GrpoConfig& g, const OptionVisitor& visit) {
  visit({"reward_checks", kGroup, &g.reward_checks,
         "YAML or JSON file of the checks that give answers their rewards (docs/methods/grpo.md)"});
  visit({"reward_weights",
         kGroup,
         &g.reward_weights,
         "weights of the checks, comma separated; null: as their file says",
         {.comma_list = true}});
  visit({"num_generations",
         kGroup,
         &g.num_generations,
         "answers to a question: the group that rewards are compared within",
         {.lowest = 2, .highest = 1e6}});
  visit({"num_generations_eval", kGroup, &g.num_generations_eval, "the same in evaluations; null: num_generations", kCountOfAnswers});
  visit({"max_prompt_length",
         kGroup,
         &g.max_prompt_length,
         "longest prompt in tokens, longer ones are cut at the left; null: none is cut",
         {.lowest = 1, .highest = 1e6}});
  visit({"max_completion_length", kGroup, &g.max_completion_length, "longest answer in tokens", {.lowest = 1, .highest = 1e6}});
  visit({"steps_per_generation", kGroup, &g.steps_per_generation,
         "micro-batches that the answers generated at a time make; null: gradient_accumulation_steps", kCountOfAnswers});
  visit({"generation_batch_size", kGroup, &g.generation_batch_size,
         "answers generated at a time, instead of steps_per_generation; null: per_device_train_batch_size times that", kCountOfAnswers});
  visit({"min_p",
         kGroup,
         &g.min_p,
         "no token below this share of the likeliest one's probability is drawn; null: any may be",
         {.lowest = 0, .highest = 1}});
  visit({"log_completions", kGroup, &g.log_completions, "write every answer with its rewards to completions.jsonl in output_dir"});
}

}  // namespace

void describe_grpo(TrainConfig& c, const OptionVisitor& visit) {
  GrpoConfig& g = c.grpo;
  describe_rollouts(g, visit);
  visit({"num_iterations",
         kGroup,
         &g.num_iterations,
         "times that the answers of a generation are trained on",
         {.lowest = 1, .highest = 1000}});
  visit(
      {"beta", kGroup, &g.beta, "weight of the divergence (KL) from the base, or from ref_model; 0: there is no reference", kWeightOfTerm});
  visit({"epsilon", kGroup, &g.epsilon, "the ratio of new to old probability counts down to 1 - epsilon", {.lowest = 0, .highest = 1}});
  visit({"epsilon_high", kGroup, &g.epsilon_high, "and up to 1 + epsilon_high; null: epsilon", {.lowest = 0, .highest = 1e6}});
  visit({"delta",
         kGroup,
         &g.delta,
         "two-sided clipping: the ratio counts up to this in any case; null: no bound",
         {.lowest = 0, .highest = 1e6, .above_lowest = true}});
  visit({"importance_sampling_level",
         kGroup,
         &g.importance_sampling_level,
         "ratios by token, or one for each answer (GSPO)",
         {.choices = {"token", "sequence", "sequence_token"}, .built = {"token", "sequence"}}});
  visit({"scale_rewards",
         kGroup,
         &g.scale_rewards,
         "advantages are divided by the standard deviation of rewards: of the group (true), of all answers of a generation, or not (false)",
         {.choices = {"group", "batch", "none", "true", "false"}}});
  visit(
      {"loss_type",
       kGroup,
       &g.loss_type,
       "the mean over tokens: of each answer, then over answers (grpo); of the micro-batch (bnpo); over max_completion_length (dr_grpo); "
       "of "
       "the whole update (dapo)",
       {.choices = {"grpo", "bnpo", "dr_grpo", "dapo", "cispo", "sapo", "luspo", "vespo"}, .built = {"grpo", "bnpo", "dr_grpo", "dapo"}}});
  visit({"top_entropy_quantile",
         kGroup,
         &g.top_entropy_quantile,
         "only this share of tokens, those of the highest entropy, counts in the loss of the ratio; 1: all",
         {.lowest = 0, .highest = 1}});
  visit({"mask_truncated_completions", kGroup, &g.mask_truncated_completions, "answers that max_completion_length cut off train nothing"});
  visit({"disable_dropout", kGroup, &g.disable_dropout, "no dropout while training"});
}

RolloutSampling rollout_sampling(const TrainConfig& c) {
  RolloutSampling s;
  if (c.given.contains("temperature")) s.temperature = c.temperature;
  if (c.given.contains("top_p")) s.top_p = c.top_p;
  if (c.given.contains("top_k")) s.top_k = c.top_k;
  if (c.given.contains("repetition_penalty")) s.repetition_penalty = c.repetition_penalty;
  s.min_p = c.grpo.min_p.value_or(0);
  return s;
}

GenerationSizes generation_sizes(const TrainConfig& c) {
  GenerationSizes sizes;
  const int64_t batch = c.per_device_train_batch_size;
  sizes.steps = c.grpo.generation_batch_size ? *c.grpo.generation_batch_size / batch
                                             : c.grpo.steps_per_generation.value_or(c.gradient_accumulation_steps);
  sizes.answers = sizes.steps * batch;
  sizes.prompts = sizes.answers / c.grpo.num_generations;
  return sizes;
}

int64_t eval_generations(const TrainConfig& c) { return c.grpo.num_generations_eval.value_or(c.grpo.num_generations); }

std::string reward_scale(const TrainConfig& c) {
  if (c.grpo.scale_rewards == "true") return "group";
  return c.grpo.scale_rewards == "false" ? "none" : c.grpo.scale_rewards;
}

std::vector<double> given_reward_weights(const TrainConfig& c) {
  std::vector<double> weights;
  for (const std::string& word : split_list(c.grpo.reward_weights)) {
    char* end = nullptr;
    weights.push_back(std::strtod(word.c_str(), &end));
    if (*end || !std::isfinite(weights.back()))
      broken_grpo("reward_weights: '" + word + "' is not a number", "give one for each check, in the order of their file: 1,0.5");
  }
  return weights;
}

namespace {

void check_generation(const TrainConfig& c) {
  const GrpoConfig& g = c.grpo;
  const int64_t batch = c.per_device_train_batch_size;
  if (g.generation_batch_size && g.steps_per_generation)
    broken_grpo("generation_batch_size and steps_per_generation both say how many answers are generated at a time",
                "leave one of the two out");
  if (g.generation_batch_size && *g.generation_batch_size % batch != 0)
    broken_grpo(fmt::format("generation_batch_size is {}, no multiple of per_device_train_batch_size {}", *g.generation_batch_size, batch),
                "make it one");
  const GenerationSizes sizes = generation_sizes(c);
  if (sizes.answers % g.num_generations != 0)
    broken_grpo(
        fmt::format("{} answers are generated at a time (per_device_train_batch_size {} × {} micro-batches), and num_generations {} "
                    "does not divide them: a group has to be whole",
                    sizes.answers, batch, sizes.steps, g.num_generations),
        "choose num_generations, per_device_train_batch_size and gradient_accumulation_steps so that it does");
  const bool evaluates = c.val_size > 0 || !split_list(c.eval_dataset).empty();
  if (evaluates && c.per_device_eval_batch_size % eval_generations(c) != 0)
    broken_grpo(fmt::format("per_device_eval_batch_size is {}, no multiple of the {} answers to a question of an evaluation",
                            c.per_device_eval_batch_size, eval_generations(c)),
                "make it one, or set num_generations_eval");
}

// What has no meaning for answers that are generated, or would take the policy away from what generates them.
void refuse_with_grpo(const TrainConfig& c) {
  const std::pair<bool, const char*> all[] = {
      {c.streaming, "streaming"},
      {c.tokenized_path.has_value(), "tokenized_path"},
      {c.neftune_noise_alpha.has_value(), "neftune_noise_alpha"},
      {c.auto_find_batch_size, "auto_find_batch_size"},
      {c.group_by_length || c.train_sampling_strategy == "group_by_length", "group_by_length"},
      {c.compute_accuracy, "compute_accuracy"},
      {c.bf16_full_eval && !c.bf16, "bf16_full_eval without bf16"},
      {c.given.contains("do_sample") && !c.do_sample, "do_sample: false"},
      {c.given.contains("num_beams") && c.num_beams > 1, "num_beams"},
      {c.given.contains("max_new_tokens"), "max_new_tokens (max_completion_length is the longest answer)"},
      {c.given.contains("cutoff_len"), "cutoff_len (the longest prompt is max_prompt_length)"},
  };
  for (const auto& [given, what] : all)
    if (given) broken_grpo(fmt::format("stage grpo does not go with {}", what), "leave it out");
  if (rollout_sampling(c).temperature <= 0)
    broken_grpo("temperature is 0, and stage grpo compares answers that are drawn", "set temperature: 1");
}

}  // namespace

void check_grpo(const TrainConfig& c) {
  if (c.stage != "grpo") {
    TrainConfig copy = c;
    describe_grpo(copy, [&](const Option& option) {
      if (c.given.contains(option.name))
        broken_grpo(fmt::format("{} goes with stage grpo only, and it is {}", option.name, c.stage), "leave it out, or set stage: grpo");
    });
    return;
  }
  if (!c.grpo.reward_checks || c.grpo.reward_checks->empty())
    broken_grpo("stage grpo needs reward_checks, the file of checks that give answers their rewards",
                "write one (docs/methods/grpo.md): - {name: format, type: regex, pattern: \"<answer>.*</answer>\"}");
  given_reward_weights(c);
  check_generation(c);
  refuse_with_grpo(c);
}

}  // namespace loraine
