// A run under way: its settings, model, adapter, memory and place. Shared by the files of train/ that make up the step loop.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/rank_budget.h"
#include "loraine/core/error.h"
#include "loraine/model/decoder.h"
#include "loraine/train/evaluation/bf16_evaluation.h"
#include "loraine/train/evaluation/reference_model.h"
#include "loraine/train/gpu/gpu_training.h"
#include "loraine/train/loss_watch.h"
#include "loraine/train/objectives/objective.h"
#include "loraine/train/optimizers/optimizer.h"
#include "loraine/train/quant_aware/quant_aware.h"
#include "loraine/train/records/metrics.h"
#include "loraine/train/records/reports/reporters.h"
#include "loraine/train/rollouts/generations.h"
#include "loraine/train/saving/checkpoint.h"
#include "loraine/train/schedule.h"
#include "loraine/train/train.h"

namespace loraine {

double seconds_now();

struct Run {
  TrainInput& input;
  const TrainScreen& screen;
  const TrainConfig& config;
  Context ctx;
  Model model;
  LoraConfig lora;
  AdapterSet adapter;
  AdapterSet data_start;  // what a start out of the data took out of the base (corda, lora_ga)
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<RankBudget> ranks;  // AdaLoRA only
  std::unique_ptr<Schedule> schedule;
  std::unique_ptr<Arena> activation_memory, scratch;
  Activations activations;
  Tensor d_hidden;
  Pass pass;
  std::unique_ptr<QuantAware> quant_aware;  // where the base are the codes of an export
  std::unique_ptr<GpuTraining> gpu;         // where the run computes there: passes and updates are its own
  std::optional<RouterBalance> balance;     // where the loss has that of experts
  std::unique_ptr<Objective> objective;
  std::unique_ptr<SidePass> side;                   // where the objective needs it
  std::unique_ptr<ReferenceModel> reference;        // ref_model
  std::unique_ptr<Bf16Evaluation> bf16_evaluation;  // where evaluations compute in another type than training
  TrainerState state;
  TrainingState position;
  int64_t micro_batches = 0, updates_per_epoch = 0, logging_steps = 0, save_steps = 0, eval_steps = 0;
  int64_t padded_tokens = 0, other_parameters = 0;
  double gradient_norm = 0, learning_rate = 0;  // of the last update
  double start = 0, tokens_since_log = 0, last_log = 0, loss_total = 0;
  int64_t sample_tokens = 0, computed_tokens = 0;  // of all passes that train in this call; those that samples share once
  int64_t own_steps = 0;
  std::optional<LossWatch> watch;
  bool stopping = false;
  int64_t evaluated_step = -1;  // of the last evaluation of all sets
  bool records_kept = false;    // a finished run resumed: what it logged at its end stays
  std::string data_hash;
  Generations generations;  // stage grpo: the answers that are trained on
  LoggedFigures figures;    // of the objective, since the last log line
  RunRecord record;         // what is written of the settings
  Reporters reporters;

  Run(TrainInput& in, const TrainScreen& s) : input(in), screen(s), config(in.config), objective(make_objective(in.config)) {}
  // What is evaluated: one set without a name, or with eval_on_each_dataset each by its name.
  struct EvalSet {
    std::string name;
    const Dataset* data;
    std::string prefix() const { return name.empty() ? "eval" : "eval_" + name; }  // of its figures
  };
  std::vector<EvalSet> eval_sets() const {
    std::vector<EvalSet> sets;
    if (input.data.eval.size() > 0) sets.push_back({"", &input.data.eval});
    for (const NamedSet& one : input.data.evals) sets.push_back({one.name, &one.set});
    return sets;
  }
  bool evaluates() const { return input.data.eval.size() > 0 || !input.data.evals.empty(); }
  bool evaluates_in_bf16() const { return config.bf16_full_eval && !config.bf16 && evaluates(); }
  bool counts_tokens() const { return config.include_num_input_tokens_seen != "no"; }
  std::string metric_name() const {
    std::string name = config.metric_for_best_model.value_or("loss");
    return name.starts_with("eval_") ? name : "eval_" + name;
  }
  // As transformers: only a run that asks for it has a best evaluation, whose checkpoint is kept.
  bool notes_best() const {
    return config.metric_for_best_model || config.load_best_model_at_end || config.save_strategy == "best" || config.early_stopping_steps ||
           config.lr_scheduler_type == "reduce_lr_on_plateau";
  }
  bool greater_is_better() const { return config.greater_is_better.value_or(!metric_name().ends_with("loss")); }
};

// While it lives the parameters have the values that are evaluated and saved; afterwards those that they had.
class ValuesToSave {
 public:
  explicit ValuesToSave(Run& run);
  ~ValuesToSave();
  ValuesToSave(const ValuesToSave&) = delete;
  ValuesToSave& operator=(const ValuesToSave&) = delete;

 private:
  Run& run_;
  bool changed_;
};

void warn(Run& run, ErrorKind kind, const std::string& message);  // with strict: the error itself

// whole.cpp: full and freeze training
void attach_whole(Run& run);
void write_trained(const Run& run, const std::string& folder);  // the adapter, or the whole model, as LLaMA-Factory saves it
void read_trained(Run& run, const std::string& folder);
void read_from_whole_base(Run& run, const std::string& folder);  // data_start.cpp: adapter and start, as write_trained joined them

// plan.cpp: before step 1
void attach(Run& run);
void attach_from_data(Run& run);  // data_start.cpp: a new adapter whose start looks at the data
void share_prefixes(Run& run);    // shared_prefixes.cpp: tells the objective whether samples share the rows that they begin with
void plan(Run& run);
void plan_memory(Run& run);  // plan_memory.cpp: at the fastest level of recomputing that fits; shows the summary

// step.cpp: one update, one evaluation, their log lines
double step(Run& run, std::span<const Item> items, std::span<const size_t> sizes);  // gradients of an update's micro-batches; the loss
void update(Run& run, double loss);
void log_loss(Run& run);                                  // the mean since the last such line
void check_moments(Run& run);                             // before they are saved
OrderedJson evaluate(Run& run, const Run::EvalSet& set);  // of the values that are saved
void evaluate_and_note(Run& run);
void calibrate(Run& run);  // where the objective does: evaluates what was not at this step
void log(Run& run, OrderedJson values);

// save.cpp: checkpoints and the files at the end
void write_start(Run& run);  // with pissa_convert: the start, at step 0
void save_checkpoint(Run& run);
void resume(Run& run, const std::string& folder);
bool take_over_records(Run& run);  // of the finished run in output_dir; false: it did not come to its end
void finish(Run& run);
std::vector<std::string> outcome_lines(const Run& run);  // outcome.cpp: which update is saved, and where the best one is

}  // namespace loraine
