// The story of an evaluation: what is asked for, of which models, and what is written. Called by loraine eval.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loraine/api/loaded_model.h"
#include "loraine/core/describe.h"
#include "loraine/eval/exam.h"
#include "loraine/eval/figures.h"
#include "loraine/eval/generation.h"
#include "loraine/eval/perplexity.h"
#include "loraine/eval/questions.h"

namespace loraine {

struct EvalConfig {
  std::optional<std::string> task;  // mmlu_test, ceval_validation, cmmlu_test
  std::string task_dir = "evaluation";
  std::string lang = "en";
  int64_t n_shot = 5, batch_size = 4;
  std::optional<std::string> save_dir;  // where results.json and results.log of a task go; null: output_dir
  bool predict_with_generate = false, do_predict = false;
  std::optional<std::string> ppl_file, choice_file, match_file;
  std::optional<int64_t> ppl_window, ppl_stride;
  bool compare = false;
};
std::vector<Option> options_of(EvalConfig& config);
void take_task(TrainConfig& config, EvalConfig& eval);                      // task: decision is stage: decision
void check_eval_config(const TrainConfig& config, const EvalConfig& eval);  // usage when nothing is asked for, or keys do not fit

// All inputs, read before the first model runs.
struct EvalInput {
  std::vector<Example> examples;
  Dataset preferences;                  // stages rm, dpo, kto and decision: in the place of examples
  int64_t num_dropped = 0;              // rows that cannot be used
  std::vector<std::string> recognised;  // of data sets that were given by their path: what their rows are
  std::vector<Prompt> prompts;
  std::optional<Exam> exam;
  std::vector<Text> texts;
  std::vector<ChoiceQuestion> choices;
  std::vector<MatchQuestion> matches;
};
EvalInput read_eval_input(LoadedModel& loaded, const EvalConfig& eval);

using EvalProgress = std::function<void(const std::string& model, const std::string& what, int64_t done, int64_t total)>;

// Without compare: the model with the adapters that are on. With it: base, each adapter alone, and the adapters merged into the weights
// (which changes loaded.model).
std::vector<EvalResult> evaluate_models(LoadedModel& loaded, const EvalConfig& eval, const EvalInput& input, const EvalProgress& progress);

// eval_results.json (the last model's figures, their intervals) and the files of its answers; with several models also eval_comparison.json
// and .md, and each model's files under its name. Nothing in them depends on time or machine load.
void write_eval_results(const LoadedModel& loaded, const EvalConfig& eval, const std::vector<EvalResult>& results);

// At the end of a training run with do_predict: generated_predictions.jsonl and predict_results.json beside the results of the training,
// whose all_results.json gets the figures too.
void write_predictions(const std::string& folder, const EvalResult& result);

}  // namespace loraine
