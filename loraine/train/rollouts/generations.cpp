// From questions to micro-batches: answers, rewards, advantages, and log-probabilities of the weights that gave the answers.
#include "loraine/train/rollouts/generations.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/data/examples/batcher.h"
#include "loraine/data/order/orders.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/objectives/grpo_objective.h"
#include "loraine/train/objectives/label_logps.h"
#include "loraine/train/rollouts/completions_log.h"
#include "loraine/train/run.h"
#include "loraine/train/sampling.h"

namespace loraine {
namespace {

constexpr const char* kRolloutsFile = "rollouts.json";
constexpr uint64_t kOfEvaluations = 0x6576616cull;

// As good as unrelated to the seeds of other places.
uint64_t seed_at(uint64_t seed, uint64_t place) {
  uint64_t x = seed + (place + 1) * 0x9e3779b97f4a7c15ull;  // splitmix64
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}

Example with_answer(const Example& prompt, const Rollout& rollout, bool trained) {
  std::vector<int32_t> ids(prompt.input_ids.begin(), prompt.input_ids.end()), labels(ids.size(), kIgnoreLabel);
  ids.insert(ids.end(), rollout.ids.begin(), rollout.ids.end());
  for (const int32_t id : rollout.ids) labels.push_back(trained ? id : kIgnoreLabel);
  Example example;
  example.input_ids = std::move(ids);
  example.labels = std::move(labels);
  return example;
}

void add_lengths(std::span<const Rollout> rollouts, LoggedFigures& figures) {
  double all = 0, least = 1e18, most = 0, ended = 0, of_ended = 0, least_ended = 1e18, most_ended = 0;
  for (const Rollout& one : rollouts) {
    const auto length = static_cast<double>(one.ids.size());
    all += length, least = std::min(least, length), most = std::max(most, length);
    if (!one.ended) continue;
    ended += 1, of_ended += length, least_ended = std::min(least_ended, length), most_ended = std::max(most_ended, length);
  }
  const auto n = static_cast<double>(rollouts.size());
  figures.add("completions/mean_length", all / n);
  figures.add("completions/min_length", least);
  figures.add("completions/max_length", most);
  figures.add("completions/clipped_ratio", 1 - ended / n);
  figures.add("completions/mean_terminated_length", ended > 0 ? of_ended / ended : 0);
  figures.add("completions/min_terminated_length", ended > 0 ? least_ended : 0);
  figures.add("completions/max_terminated_length", most_ended);
}

// Rewards of each check, and their weighted sum for each answer: what a check says nothing of counts as 0.
std::vector<double> summed_rewards(const Rollouts& source, std::span<const Rollout> rollouts, LoggedFigures& figures) {
  std::vector<double> sums(rollouts.size());
  for (size_t check = 0; check < source.reward_names().size(); ++check) {
    std::vector<double> own;
    for (size_t i = 0; i < rollouts.size(); ++i) {
      own.push_back(rollouts[i].rewards.at(check));
      if (!std::isnan(own.back())) sums[i] += source.reward_weights()[check] * own.back();
    }
    const Spread spread = spread_of(own);
    const std::string name = "rewards/" + source.reward_names()[check];
    if (!std::isnan(spread.mean)) figures.add(name + "/mean", spread.mean);
    if (!std::isnan(spread.deviation)) figures.add(name + "/std", spread.deviation);
  }
  return sums;
}

// log p by the weights as they are, and by the reference, `batch` answers at a time.
void add_logps(Run& run, std::span<ScoredAnswer> answers, size_t batch, bool old, double temperature) {
  const bool reference = compares_with_reference(run.config);
  for (size_t first = 0; first < answers.size() && (old || reference); first += batch) {
    const std::span<ScoredAnswer> picked = answers.subspan(first, std::min(batch, answers.size() - first));
    std::vector<const Example*> samples;
    for (const ScoredAnswer& one : picked) samples.push_back(&one.example);
    const Batch laid = make_batch(samples, run.objective->share_up_to());
    const auto spread = [&](const LossSums& sums, std::vector<double> AnswerScore::*to) {
      size_t i = 0;
      for (const AnswerLogp& one : answer_logps(samples, sums))
        for (std::vector<double>& logps = picked[i++].score.*to; static_cast<int64_t>(logps.size()) < one.labels;)
          logps.push_back(-sums.tokens[static_cast<size_t>(one.first) + logps.size()]);
    };
    if (old) spread(run.side->label_losses(run.ctx, laid, true, temperature), &AnswerScore::old_logps);
    if (!reference) continue;
    spread(run.reference ? run.reference->pass().label_losses(run.ctx, laid, true, temperature)
                         : run.side->label_losses(run.ctx, laid, false, temperature),
           &AnswerScore::reference_logps);
  }
}

// `each` answers to every question, scored; figures get rewards and lengths.
std::vector<ScoredAnswer> scored_answers(Run& run, std::span<const AskedExample* const> asked, int64_t each, uint64_t seed,
                                         LoggedFigures& figures) {
  const GrpoConfig& g = run.config.grpo;
  const std::vector<Rollout> rollouts = run.input.rollouts->answer(run.ctx, asked, each, seed);
  if (rollouts.size() != asked.size() * static_cast<size_t>(each))
    throw Error(ErrorKind::internal, fmt::format("{} answers to {} questions, {} each", rollouts.size(), asked.size(), each));
  add_lengths(rollouts, figures);
  const Advantages advantages = advantages_of(summed_rewards(*run.input.rollouts, rollouts, figures), each, reward_scale(run.config));
  figures.add("reward", advantages.reward);
  figures.add("reward_std", advantages.reward_std);
  figures.add("frac_reward_zero_std", advantages.zero_std);
  double tokens = 0;
  for (const Rollout& one : rollouts) tokens += static_cast<double>(one.ids.size());
  std::vector<ScoredAnswer> answers;
  for (size_t i = 0; i < rollouts.size(); ++i)
    answers.push_back(
        {with_answer(asked[i / static_cast<size_t>(each)]->prompt, rollouts[i], rollouts[i].ended || !g.mask_truncated_completions),
         {advantages.values[i], tokens}});
  if (g.log_completions && &figures == &run.figures)
    log_completions(run.config.output_dir, run.state.global_step + 1, asked, rollouts, run.input.rollouts->reward_names(),
                    advantages.values);
  return answers;
}

std::vector<const AskedExample*> asked_of(const Dataset& set, const std::vector<int64_t>& order, size_t first, size_t count) {
  std::vector<const AskedExample*> asked;
  for (size_t i = first; i < first + count; ++i) asked.push_back(&set.asked[order.empty() ? i : static_cast<size_t>(order[i])]);
  return asked;
}

// Micro-batches for which the answers of one generation last.
int64_t micro_batches_of(const TrainConfig& c) { return generation_sizes(c).steps * c.grpo.num_iterations; }

}  // namespace

int64_t rollout_micro_batches(const Run& run, int64_t n) {
  const int64_t prompts = generation_sizes(run.config).prompts;
  if (n < prompts)
    throw Error(ErrorKind::usage,
                fmt::format("the training data hold {} prompts, and a generation takes {} ({} answers, num_generations {})", n, prompts,
                            generation_sizes(run.config).answers, run.config.grpo.num_generations),
                "lower per_device_train_batch_size or gradient_accumulation_steps, or give more data");
  return n / prompts * micro_batches_of(run.config);
}

std::vector<Item> items_of(std::span<const ScoredAnswer> answers) {
  std::vector<Item> items;
  for (const ScoredAnswer& one : answers) items.push_back({.example = &one.example, .score = &one.score});
  return items;
}

const Generations::Generation& Generations::generation(Run& run, int64_t epoch, int64_t number) {
  const auto found = std::ranges::find_if(kept_, [&](const Generation& one) { return one.epoch == epoch && one.number == number; });
  if (found != kept_.end()) return *found;
  const TrainConfig& c = run.config;
  const GenerationSizes sizes = generation_sizes(c);
  const Dataset& set = run.input.data.train;
  const uint64_t seed = seed_at(seed_at(static_cast<uint64_t>(c.seed), static_cast<uint64_t>(epoch)), static_cast<uint64_t>(number));
  const auto count = static_cast<size_t>(sizes.prompts);
  const std::vector<const AskedExample*> asked = asked_of(set, epoch_order(c, set, epoch), static_cast<size_t>(number) * count, count);
  std::vector<ScoredAnswer> answers = scored_answers(run, asked, c.grpo.num_generations, seed, run.figures);
  for (const ScoredAnswer& one : answers) run.state.num_input_tokens_seen += example_rows(one.example);  // as trl counts them
  Generation made{epoch, number, {}};
  for (const int64_t place : torch_randperm(sizes.answers, seed & 0xffffffffu))  // groups are spread over the micro-batches
    made.answers.push_back(std::move(answers[static_cast<size_t>(place)]));
  add_logps(run, made.answers, static_cast<size_t>(c.per_device_train_batch_size), needs_old_logps(c), rollout_sampling(c).temperature);
  return kept_.emplace_back(std::move(made));
}

std::vector<Item> Generations::items(Run& run, int64_t epoch, int64_t first, int64_t end) {
  const int64_t lasts = micro_batches_of(run.config), steps = generation_sizes(run.config).steps;
  std::erase_if(kept_, [&](const Generation& one) { return one.epoch != epoch || one.number < first / lasts; });
  std::vector<Item> items;
  const auto size = static_cast<size_t>(run.config.per_device_train_batch_size);
  for (int64_t micro = first; micro < end; ++micro) {
    const std::vector<ScoredAnswer>& answers = generation(run, epoch, micro / lasts).answers;
    for (const Item& item : items_of(std::span(answers).subspan(static_cast<size_t>(micro % steps) * size, size))) items.push_back(item);
  }
  return items;
}

void Generations::write_files(const Run& run, const std::string& folder) const {
  const int64_t lasts = micro_batches_of(run.config), done = run.position.batch_in_epoch;
  if (done % lasts == 0) return;
  for (const Generation& one : kept_) {
    if (one.epoch != run.position.epoch || one.number != done / lasts) continue;
    nlohmann::json answers = nlohmann::json::array();
    for (const auto& [example, score] : one.answers)
      answers.push_back({{"ids", std::vector<int32_t>(example.input_ids.begin(), example.input_ids.end())},
                         {"labels", std::vector<int32_t>(example.labels.begin(), example.labels.end())},
                         {"advantage", score.advantage},
                         {"generation_tokens", score.generation_tokens},
                         {"old_logps", score.old_logps},
                         {"reference_logps", score.reference_logps}});
    write_file(folder + "/" + kRolloutsFile, nlohmann::json{{"epoch", one.epoch}, {"number", one.number}, {"answers", answers}}.dump());
    return;
  }
  throw Error(ErrorKind::internal, "the answers that the run is at are not there to be saved");
}

void Generations::read_files(const Run& run, const std::string& folder) {
  kept_.clear();
  const int64_t lasts = micro_batches_of(run.config), done = run.position.batch_in_epoch;
  if (done % lasts == 0) return;
  const std::string path = folder + "/" + kRolloutsFile;
  std::error_code ignored;
  if (!std::filesystem::exists(path, ignored))
    throw Error(ErrorKind::bad_data, path + ": is not there, and the run is in the midst of the answers of a generation",
                "resume from another checkpoint");
  const nlohmann::json json = parse_json_file(path);
  try {
    Generation one{json.at("epoch").get<int64_t>(), json.at("number").get<int64_t>(), {}};
    for (const auto& answer : json.at("answers")) {
      ScoredAnswer& made = one.answers.emplace_back();
      made.example.input_ids = answer.at("ids").get<std::vector<int32_t>>();
      made.example.labels = answer.at("labels").get<std::vector<int32_t>>();
      made.score = {answer.at("advantage").get<double>(), answer.at("generation_tokens").get<double>(),
                    answer.at("old_logps").get<std::vector<double>>(), answer.at("reference_logps").get<std::vector<double>>()};
    }
    if (one.epoch != run.position.epoch || one.number != done / lasts ||
        static_cast<int64_t>(one.answers.size()) != generation_sizes(run.config).answers)
      throw Error(
          ErrorKind::bad_data,
          fmt::format("{}: holds {} answers of generation {} of epoch {}, and {} of generation {} of epoch {} are needed", path,
                      one.answers.size(), one.number, one.epoch, generation_sizes(run.config).answers, done / lasts, run.position.epoch),
          "resume from another checkpoint");
    kept_.push_back(std::move(one));
  } catch (const nlohmann::json::exception& e) {
    throw Error(ErrorKind::bad_data, path + ": " + e.what(), "resume from another checkpoint");
  }
}

std::vector<ScoredAnswer> answers_of_evaluation(Run& run, const Dataset& set, size_t first, size_t count, LoggedFigures& figures) {
  const TrainConfig& c = run.config;
  const uint64_t seed = seed_at(seed_at(static_cast<uint64_t>(c.seed), kOfEvaluations), first);  // of every evaluation the same
  std::vector<ScoredAnswer> answers = scored_answers(run, asked_of(set, {}, first, count), eval_generations(c), seed, figures);
  add_logps(run, answers, static_cast<size_t>(c.per_device_eval_batch_size), false, rollout_sampling(c).temperature);
  return answers;
}

}  // namespace loraine
