// Inputs, models one after the other, files.
#include "loraine/eval/evaluate.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <memory>

#include "loraine/adapters/attach.h"
#include "loraine/eval/decisions.h"
#include "loraine/eval/preferences.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/model/gpu/gpu_base.h"
#include "loraine/train/config/data_options.h"
#include "loraine/train/evaluation/evaluate.h"
#include "loraine/train/evaluation/side_pass.h"
#include "loraine/train/memory.h"
#include "loraine/train/objectives/objective.h"
#include "loraine/train/records/metrics.h"
#include "loraine/train/records/python_number.h"
#include "loraine/train/token_loss.h"

namespace loraine {
namespace {

bool generates(const EvalConfig& eval) { return eval.predict_with_generate || eval.do_predict; }
bool given(const std::optional<std::string>& text) { return text && !text->empty(); }

int64_t window_of(const LoadedModel& loaded, const EvalConfig& eval) {
  return eval.ppl_window.value_or(std::min<int64_t>(loaded.config.cutoff_len, loaded.model.config.max_position_embeddings));
}

void measure_loss(const Subject& subject, const std::vector<Example>& examples, EvalResult& result) {
  const TrainConfig& c = subject.loaded.config;
  const int64_t rows = rows_of_largest_batch(examples, c.per_device_eval_batch_size);
  Forward forward(subject, rows);
  const TokenLoss loss_of_token = token_loss(c);
  std::unique_ptr<SidePass> base;
  if (loss_of_token.divergence != 0) {
    check_room(subject, SidePass::bytes(subject.loaded.model, rows));
    base = std::make_unique<SidePass>(subject.loaded.model, rows);
  }
  const auto total = static_cast<int64_t>(examples.size());
  const EvalSums sums = forward.evaluate(
      examples, c.per_device_eval_batch_size, [&](int64_t done) { subject.progress("loss", done, total); }, loss_of_token,
      [&](const Batch& batch) { return base->hidden(forward.ctx, batch); });
  Figure loss{.name = "eval_loss", .lowest = 0}, accuracy{.name = "eval_accuracy", .lowest = 0, .highest = 1},
      perplexity{.name = "eval_perplexity", .exponential = true, .lowest = 1};
  int64_t tokens = 0;
  for (double batch : sums.batch_losses) loss.add(batch);
  for (const SequenceLoss& one : sums.examples) {
    accuracy.add(one.labels ? static_cast<double>(one.right) / static_cast<double>(one.labels) : 0.0);
    perplexity.add(one.loss, static_cast<double>(one.labels));
    tokens += one.labels;
  }
  add_figure(result, std::move(loss));
  result.metrics["eval_loss"] = sums.loss;
  if (c.compute_accuracy) add_figure(result, std::move(accuracy));
  add_figure(result, std::move(perplexity));
  result.metrics["eval_samples"] = total;
  result.metrics["eval_tokens"] = tokens;
}

EvalResult evaluate_one(const Subject& subject, const std::string& name, const EvalConfig& eval, const EvalInput& input) {
  EvalResult result;
  result.name = name;
  if (!input.examples.empty()) measure_loss(subject, input.examples, result);
  if (!input.preferences.decisions.empty()) measure_decisions(subject, input.preferences, result);
  else if (input.preferences.size() > 0) measure_preferences(subject, input.preferences, eval.do_predict, result);
  const int64_t batch = subject.loaded.config.per_device_eval_batch_size, window = window_of(subject.loaded, eval);
  if (!input.prompts.empty()) predict(subject, input.prompts, result);
  if (!input.texts.empty())
    measure_perplexity(subject, input.texts, window, eval.ppl_stride.value_or(std::max<int64_t>(window / 2, 1)), batch, result);
  if (input.exam)
    take_exam(subject, *input.exam, {eval.n_shot, eval.batch_size, eval.lang, static_cast<uint64_t>(subject.loaded.config.seed)}, result);
  if (!input.choices.empty()) answer_choices(subject, input.choices, batch, result);
  if (!input.matches.empty()) answer_matches(subject, input.matches, result);
  check_mapped_files();
  for (const Figure& figure : result.figures)
    if (!std::isfinite(value_of(figure)))
      throw Error(ErrorKind::numeric, fmt::format("{} of {} is not a finite number", figure.name, name),
                  "look for NaN and infinity in the base and the adapters");
  return result;
}

// Merged weights lie in memory, as f32 where the base is packed.
void check_merge_room(const LoadedModel& loaded, std::span<Weight* const> sites) {
  size_t before = 0, after = 0, largest = 0;
  for (size_t s = 0; s < sites.size(); ++s) {
    if (std::ranges::none_of(loaded.adapters, [&](const auto& named) { return named.second.sites[s] != nullptr; })) continue;
    for (const WeightPart& part : sites[s]->parts) {
      const size_t f32 = static_cast<size_t>(part.weight.numel()) * sizeof(float);
      before += part.weight.bytes();
      after += is_packed(part.weight.dtype) ? f32 : part.weight.bytes();
      largest = std::max(largest, f32);
    }
  }
  check_room(Subject{loaded}, after - std::min(before, after) + 2 * largest);
}

}  // namespace

std::vector<Option> options_of(EvalConfig& c) {
  constexpr double kMost = 1e9;
  return {
      {"predict_with_generate", "evaluation", &c.predict_with_generate,
       "answer the data set's questions and score the answers: BLEU-4, ROUGE"},
      {"do_predict", "evaluation", &c.do_predict, "the same"},
      {"task", "evaluation", &c.task, "examination: mmlu_test, ceval_validation, cmmlu_test, …; or decision: stage decision"},
      {"task_dir", "evaluation", &c.task_dir, "folder with mmlu/, ceval/ or cmmlu/: mapping.json and the published CSV files"},
      {"lang", "evaluation", &c.lang, "language of the examination's prompts", {.choices = {"en", "zh"}}},
      {"n_shot", "evaluation", &c.n_shot, "examples before each question of an examination", {.lowest = 0, .highest = 1000}},
      {"batch_size", "evaluation", &c.batch_size, "questions of an examination in one batch", {.lowest = 1, .highest = 1e6}},
      {"save_dir", "evaluation", &c.save_dir, "folder for an examination's results.json and results.log; null: output_dir"},
      {"ppl_file", "evaluation", &c.ppl_file, "text, or JSONL with `text`, whose perplexity is measured"},
      {"ppl_window",
       "evaluation",
       &c.ppl_window,
       "tokens seen at once; null: cutoff_len, at most the model's positions",
       {.lowest = 2, .highest = kMost}},
      {"ppl_stride", "evaluation", &c.ppl_stride, "tokens by which the window moves; null: half a window", {.lowest = 1, .highest = kMost}},
      {"choice_file", "evaluation", &c.choice_file, "JSONL of multiple choice: question, choices, answer"},
      {"match_file", "evaluation", &c.match_file, "JSONL of questions with exact answers: question, answer"},
      {"compare", "evaluation", &c.compare, "base, each adapter, and the merged model side by side"},
  };
}

void take_task(TrainConfig& c, EvalConfig& eval) {
  if (eval.task != "decision") return;
  if (c.given.contains("stage") && c.stage != "decision")
    throw Error(ErrorKind::usage, fmt::format("task is decision, and stage {}", c.stage), "leave one of them out");
  c.stage = "decision";
  eval.task.reset();
}

void check_eval_config(const TrainConfig& c, const EvalConfig& eval) {
  const auto refuse = [](const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); };
  check_chat_config(c);
  const bool set = !split_list(c.eval_dataset).empty();
  if (!set && generates(eval))
    refuse("predict_with_generate needs questions, and eval_dataset is not given", "name a set: --eval_dataset NAME");
  if (!set && !given(eval.task) && !given(eval.ppl_file) && !given(eval.choice_file) && !given(eval.match_file))
    refuse("there is nothing to evaluate", "give eval_dataset, task, ppl_file, choice_file or match_file");
  if (eval.compare && split_list(c.adapter_name_or_path).empty())
    refuse("compare sets adapters against their base, and adapter_name_or_path is not given", "give them: --adapter_name_or_path DIR");
  if (c.stage == "decision" && !set)
    refuse("stage decision answers the questions of eval_dataset, which is not given", "name a set: --eval_dataset FILE");
  if (c.stage == "grpo")
    refuse("stage grpo is not evaluated by itself: its rewards come from answers, while it trains (eval_dataset of the run)",
           "set stage: sft to compare answers with references, or give eval_dataset to loraine train");
  if (c.device == "cuda" && c.stage == "decision")
    throw Error(ErrorKind::unsupported, fmt::format("device: cuda: stage: {} has no GPU code", c.stage),
                "Evaluate on the CPU (device: cpu).");
  const bool preferences = c.stage == "rm" || c.stage == "dpo" || c.stage == "kto" || c.stage == "decision";
  if (preferences && (eval.predict_with_generate || (eval.do_predict && c.stage != "rm")))
    refuse(fmt::format("predict_with_generate and do_predict answer questions, which is stage sft, and it is {}", c.stage),
           c.stage == "rm" ? "leave predict_with_generate out: do_predict writes the scores" : "set stage: sft");
  if (preferences && eval.compare)
    refuse(fmt::format("compare goes with stages sft and pt only, and it is {}", c.stage),
           "evaluate the adapters one by one; stages dpo and kto compare with the base themselves");
  if (preferences && compares_with_reference(c) && !c.ref_model && split_list(c.adapter_name_or_path).empty())
    refuse(fmt::format("stage {} compares an adapter with its base, and adapter_name_or_path is not given", c.stage),
           "give it, or for a model that was trained whole its base as ref_model");
  if (c.memory_limit) parse_memory_limit(*c.memory_limit);
  if (c.output_dir.empty()) refuse("output_dir is empty", "name a folder for the results");
  if (eval.ppl_window && eval.ppl_stride && *eval.ppl_stride >= *eval.ppl_window)
    refuse(fmt::format("ppl_stride is {} and ppl_window {}: the first token of a window would have nothing before it", *eval.ppl_stride,
                       *eval.ppl_window),
           "make the stride smaller than the window");
}

EvalInput read_eval_input(LoadedModel& loaded, const EvalConfig& eval) {
  EvalInput input;
  const TrainConfig& c = loaded.config;
  DataOptions options = data_options(c);
  options.datasets.clear();
  options.val_size = 0;
  fit_to_model(options, loaded.files, loaded.text);
  if (!options.eval_datasets.empty()) {
    DataOptions data = options;
    DataSplit split = open_data(data, loaded.text.tokenizer.get(), loaded.text.chat_template.get(), loaded.format.special);
    input.recognised = std::move(split.recognised);
    Dataset& set = split.eval;
    if (set.size() == 0) throw Error(ErrorKind::bad_data, "eval_dataset: none of its rows can be used");
    input.num_dropped = set.num_dropped;
    if (set.examples.empty()) input.preferences = std::move(set);
    else input.examples = std::move(set.examples);
    if (generates(eval) && input.preferences.size() == 0)
      input.prompts = open_prompts(options, loaded.text.tokenizer.get(), loaded.text.chat_template.get(), loaded.format.special);
  }
  if (given(eval.task)) input.exam = read_exam(*eval.task, eval.task_dir);
  if (given(eval.ppl_file)) {
    const int64_t window = window_of(loaded, eval);
    if (eval.ppl_stride && *eval.ppl_stride >= window)
      throw Error(ErrorKind::usage, fmt::format("ppl_stride is {}, the window has {} tokens", *eval.ppl_stride, window),
                  "make the stride smaller than the window");
    input.texts = read_texts(*eval.ppl_file, *loaded.text.tokenizer);
  }
  if (given(eval.choice_file)) input.choices = read_choice_questions(*eval.choice_file);
  if (given(eval.match_file)) input.matches = read_match_questions(*eval.match_file);
  return input;
}

std::vector<EvalResult> evaluate_models(LoadedModel& loaded, const EvalConfig& eval, const EvalInput& input, const EvalProgress& progress) {
  std::vector<EvalResult> results;
  const auto run = [&](const std::string& name, const AdapterSet* adapter) {
    Subject subject{loaded, adapter};
    if (progress) subject.progress = [&](const std::string& what, int64_t done, int64_t total) { progress(name, what, done, total); };
    results.push_back(evaluate_one(subject, name, eval, input));
  };
  if (!eval.compare) {
    run(loaded.adapter ? loaded.adapter->name : "base", loaded.adapter);
    return results;
  }
  if (!loaded.base_is_for.empty())
    throw Error(
        ErrorKind::usage,
        fmt::format("compare sets adapters against their base, and that of {} is quantised while it is loaded (LoftQ)", loaded.base_is_for),
        "evaluate the base and the adapter in two runs");
  run("base", nullptr);
  for (const std::string& name : loaded.adapter_names) run(name, loaded.find(name));
  const std::vector<Weight*> sites = loaded.model.layer_sites();
  check_merge_room(loaded, sites);
  for (const std::string& name : loaded.adapter_names) merge_into_weights(sites, *loaded.find(name));
  if (loaded.gpu) {
    loaded.gpu.reset();
    loaded.gpu = std::make_unique<GpuBase>(loaded.model);
  }
  run("merged", nullptr);
  return results;
}

void write_eval_results(const LoadedModel& loaded, const EvalConfig& eval, const std::vector<EvalResult>& results) {
  StagedFiles files(loaded.config.output_dir);
  std::optional<StagedFiles> exam_files;
  if (given(eval.task) && given(eval.save_dir)) exam_files.emplace(*eval.save_dir);
  const auto write_files = [&](const EvalResult& result, const std::string& prefix) {
    for (const auto& [name, content] : result.files)
      write_file((exam_files && name.starts_with("results.") ? *exam_files : files).path() + "/" + prefix + name, content);
  };
  OrderedJson metrics = results.back().metrics;
  metrics["intervals"] = intervals_json(results.back());
  if (results.size() > 1) {
    for (const EvalResult& result : results) write_files(result, result.name + ".");
    write_file(files.path() + "/eval_comparison.md", markdown_table(comparison_rows(results)));
    write_file(files.path() + "/eval_comparison.json", python_json(comparison_json(results), 2, false) + "\n");
  }
  write_files(results.back(), "");
  write_file(files.path() + "/eval_results.json", python_json(metrics, 4, false) + "\n");
  if (exam_files) exam_files->commit();
  files.commit();
}

void write_predictions(const std::string& folder, const EvalResult& result) {
  StagedFiles files(folder);
  for (const auto& [name, content] : result.files) write_file(files.path() + "/" + name, content);
  if (const std::string former = folder + "/all_results.json"; std::filesystem::exists(former))
    write_file(files.path() + "/all_results.json", read_file(former));  // its other keys stay
  OrderedJson metrics = OrderedJson::object();
  for (const auto& [key, value] : result.metrics.items())
    if (key.starts_with("predict_")) metrics[key] = value;
  write_results(files.path(), "predict", metrics);
  files.commit();
}

}  // namespace loraine
