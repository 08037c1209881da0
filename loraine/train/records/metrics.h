// The record of a run and its files: trainer_log.jsonl, trainer_state.json, train_results.json, eval_results.json, all_results.json,
// as LLaMA-Factory 0.9.5 (transformers 5.6) writes them. Called by the step loop; the web page and plots read them.
#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "loraine/train/records/python_number.h"

namespace loraine {

struct EarlyStopping {   // early_stopping_steps
  int64_t patience = 0;  // 0: off
  double threshold = 0.0;
  int64_t counter = 0;
};

struct TrainerState {
  std::vector<OrderedJson> log_history;  // objects in order of insertion; files sort the keys
  double epoch = 0;
  int64_t global_step = 0, max_steps = 0, num_train_epochs = 0;
  std::optional<double> best_metric;
  std::optional<std::string> best_model_checkpoint;
  std::optional<int64_t> best_global_step;
  int64_t num_input_tokens_seen = 0;
  double total_flos = 0;
  OrderedJson eval_steps = 500, logging_steps = 1, save_steps = 500;  // integers, or a share of the steps below 1
  int64_t train_batch_size = 1;                                       // per device
  EarlyStopping early_stopping;
  bool should_save = true, should_training_stop = false;  // flags as they stood when the state was saved
};

std::string trainer_state_text(const TrainerState& state);
void write_trainer_state(const std::string& folder, const TrainerState& state);  // folder/trainer_state.json, durable
TrainerState read_trainer_state(const std::string& folder);                      // bad_data when it is not one

// Hugging Face's num_train_epochs: ceil(max_steps / steps per epoch) when max_steps is set, else ceil(num_train_epochs).
int64_t epoch_count(int64_t max_steps, int64_t steps_per_epoch, double num_train_epochs);

// 6 · padded tokens · parameters outside embeddings (adapters and a head of its own included), as Trainer counts.
double training_flos(int64_t padded_tokens, int64_t parameters_without_embeddings);

// "<split>_runtime", "<split>_samples_per_second", "<split>_steps_per_second", "<split>_tokens_per_second"; what is absent is left out.
void add_speed(OrderedJson& metrics, const std::string& split, double seconds, std::optional<int64_t> samples, std::optional<int64_t> steps,
               std::optional<int64_t> tokens = {});

// Completes `values` (loss, grad_norm, learning_rate, …; or eval_…) with epoch, num_input_tokens_seen (when tokens are counted) and step,
// appends it to state.log_history and gives it back. seconds: since the start of training, used when tokens are counted in a training line.
const OrderedJson& append_log(TrainerState& state, OrderedJson values, bool count_tokens = false, double seconds = 0);

// One line of trainer_log.jsonl made of the newest entry of log_history; elapsed in seconds since the start of training.
std::string trainer_log_line(const TrainerState& state, double elapsed);
void append_trainer_log(const std::string& output_dir, const TrainerState& state, double elapsed);
// At the start of a run: resume_step absent removes an old trainer_log.jsonl; else lines past that step are dropped.
void begin_trainer_log(const std::string& output_dir, std::optional<int64_t> resume_step);

// output_dir/<split>_results.json, and its keys merged into all_results.json. Keys sorted, indent 4.
void write_results(const std::string& output_dir, const std::string& split, const OrderedJson& metrics);
// Adds keys to output_dir/all_results.json alone.
void merge_results(const std::string& output_dir, const OrderedJson& metrics);

// After an evaluation: keeps the best (best_metric, best_global_step; best_model_checkpoint is set by the caller when it saves that step).
// True: this evaluation is the best so far.
bool note_best(TrainerState& state, double metric, bool greater_is_better);
// Counts evaluations without improvement; true when training should stop. Call before note_best.
bool early_stop(TrainerState& state, double metric, bool greater_is_better);
// Whether a run that was in this state had been stopped so, and would be again.
bool stopped_early(const TrainerState& state);

}  // namespace loraine
