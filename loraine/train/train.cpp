// The step loop of supervised fine-tuning, with LLaMA-Factory's divisor, order of samples, log lines and files.
#include "loraine/train/train.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <filesystem>
#include <memory>

#include "loraine/adapters/peft_files.h"
#include "loraine/core/error.h"
#include "loraine/data/batcher.h"
#include "loraine/data/orders.h"
#include "loraine/io/durable_file.h"
#include "loraine/model/load.h"
#include "loraine/train/checkpoint.h"
#include "loraine/train/loss.h"
#include "loraine/train/metrics.h"
#include "loraine/train/model_card.h"
#include "loraine/train/optimizer.h"
#include "loraine/train/plot.h"
#include "loraine/train/schedule.h"

namespace loraine {
namespace {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// A step count: below 1 it is a share of all steps, rounded up.
int64_t step_count(double value, int64_t total) {
  return value < 1 ? static_cast<int64_t>(std::ceil(value * static_cast<double>(total))) : static_cast<int64_t>(value);
}
OrderedJson step_json(double value) { return value < 1 ? OrderedJson(value) : OrderedJson(static_cast<int64_t>(value)); }

struct Run {
  TrainInput& input;
  const TrainScreen& screen;
  const TrainConfig& config;
  Context ctx;
  Model model;
  LoraConfig lora;
  AdapterSet adapter;
  std::unique_ptr<Optimizer> optimizer;
  std::unique_ptr<Schedule> schedule;
  std::unique_ptr<Arena> activation_memory, scratch;
  Activations activations;
  Tensor d_hidden;
  Pass pass;
  TrainerState state;
  TrainingState position;
  int64_t micro_batches = 0, updates_per_epoch = 0, logging_steps = 0, save_steps = 0, eval_steps = 0;
  int64_t padded_tokens = 0, other_parameters = 0;
  double start = 0, tokens_since_log = 0, last_log = 0, loss_total = 0;
  int64_t own_steps = 0;
  bool stopping = false;

  Run(TrainInput& in, const TrainScreen& s) : input(in), screen(s), config(in.config) {}
  bool evaluates() const { return !input.data.eval.examples.empty(); }
  bool counts_tokens() const { return config.include_num_input_tokens_seen != "no"; }
  std::string metric_name() const {
    std::string name = config.metric_for_best_model.value_or("loss");
    return name.starts_with("eval_") ? name : "eval_" + name;
  }
  bool greater_is_better() const { return config.greater_is_better.value_or(!metric_name().ends_with("loss")); }
};

void attach(Run& run) {
  const TrainConfig& c = run.config;
  std::vector<std::string> folders = split_list(c.adapter_name_or_path);
  if (folders.size() > 1 || (!folders.empty() && c.create_new_adapter))
    throw Error(ErrorKind::unsupported, "training on from several adapters, or a new one over a given one, is not built yet",
                "merge the first with loraine export and train on the result");
  if (!folders.empty()) {
    run.adapter = load_adapter(run.model.sites(), folders[0], true, &run.lora);
  } else {
    run.lora.r = c.lora_rank;
    run.lora.lora_alpha = static_cast<double>(c.lora_alpha.value_or(2 * c.lora_rank));
    run.lora.lora_dropout = c.lora_dropout;
    run.lora.use_rslora = c.use_rslora;
    run.lora.init_lora_weights = c.init_lora_weights;
    set_targets(run.lora, c.lora_target);
    run.adapter = attach_lora(run.model.sites(), run.lora, true);
    init_lora(run.adapter, run.lora, static_cast<uint64_t>(c.seed));
  }
  run.lora.base_model_name_or_path = c.model_name_or_path;
  run.optimizer = std::make_unique<Optimizer>(run.adapter.parameters());
}

// Rows of the largest micro-batch that `batch_size` examples of a set can make.
int64_t worst_rows(const std::vector<Example>& examples, int64_t batch_size) {
  std::vector<int64_t> lengths;
  for (const Example& e : examples) lengths.push_back(static_cast<int64_t>(e.input_ids.size()));
  size_t n = std::min(lengths.size(), static_cast<size_t>(batch_size));
  std::partial_sort(lengths.begin(), lengths.begin() + static_cast<ptrdiff_t>(n), lengths.end(), std::greater<>());
  int64_t rows = 0;
  for (size_t i = 0; i < n; ++i) rows += lengths[i];
  return rows;
}

void plan(Run& run) {
  const TrainConfig& c = run.config;
  int64_t n = static_cast<int64_t>(run.input.data.train.examples.size());
  if (n == 0)
    throw Error(ErrorKind::bad_data, "the training data hold no usable example", "look at the rows that were dropped, and at cutoff_len");
  if (run.input.data.train.num_trained == 0)
    throw Error(ErrorKind::usage, "all labels of the training data are masked: nothing would be trained",
                "check the template and the roles of the data");
  run.micro_batches = (n + c.per_device_train_batch_size - 1) / c.per_device_train_batch_size;
  run.updates_per_epoch = (run.micro_batches + c.gradient_accumulation_steps - 1) / c.gradient_accumulation_steps;
  TrainerState& s = run.state;
  s.max_steps =
      c.max_steps > 0 ? c.max_steps : static_cast<int64_t>(std::ceil(c.num_train_epochs * static_cast<double>(run.updates_per_epoch)));
  s.num_train_epochs = epoch_count(c.max_steps, run.updates_per_epoch, c.num_train_epochs);
  s.train_batch_size = c.per_device_train_batch_size;
  s.logging_steps = step_json(c.logging_steps);
  s.save_steps = step_json(c.save_steps);
  s.eval_steps = step_json(c.eval_steps.value_or(500));
  if (c.eval_strategy == "steps" && !c.eval_steps) s.eval_steps = s.logging_steps;
  s.early_stopping.patience = c.early_stopping_steps.value_or(0);
  run.logging_steps = std::max<int64_t>(1, step_count(c.logging_steps, s.max_steps));
  run.save_steps = std::max<int64_t>(1, step_count(c.save_steps, s.max_steps));
  run.eval_steps = std::max<int64_t>(1, step_count(c.eval_steps.value_or(c.logging_steps), s.max_steps));
  int64_t warmup = warmup_step_count(c.warmup_steps, c.warmup_ratio, s.max_steps);
  nlohmann::json kwargs = c.lr_scheduler_kwargs ? nlohmann::json::parse(*c.lr_scheduler_kwargs) : nlohmann::json::object();
  run.schedule = std::make_unique<Schedule>(c.lr_scheduler_type, c.learning_rate, s.max_steps, warmup,
                                            scheduler_kwargs_with_defaults(c.lr_scheduler_type, kwargs, s.max_steps, warmup));
  int64_t rows = worst_rows(run.input.data.train.examples, c.per_device_train_batch_size);
  rows = std::max(rows, worst_rows(run.input.data.eval.examples, c.per_device_eval_batch_size));
  std::vector<const AdapterSet*> sets = {&run.adapter};
  Arena dry;
  plan_activations(run.model.config, rows, true, sets, dry);
  dry.take(Dtype::F32, {rows, run.model.config.hidden_size});
  size_t scratch = std::max(scratch_bytes(run.model, rows, true, sets), loss_scratch_bytes(run.model.config, rows));
  int64_t trainable = 0;
  size_t adapter_bytes = 0;
  for (const Parameter& p : run.optimizer->parameters()) {
    trainable += p.value.numel();
    adapter_bytes += 2 * p.value.bytes();
  }
  run.other_parameters = run.model.parameter_count() - run.model.embedding.numel() + trainable;
  if (run.screen.summary)
    run.screen.summary({run.model.parameter_count() + trainable, trainable, run.model.weight_bytes(), adapter_bytes, run.optimizer->bytes(),
                        dry.peak(), scratch, rows, s.max_steps, run.micro_batches});
  if (c.dry_run) return;
  run.activation_memory = std::make_unique<Arena>(dry.peak());
  run.scratch = std::make_unique<Arena>(scratch);
  run.activations = plan_activations(run.model.config, rows, true, sets, *run.activation_memory);
  run.d_hidden = run.activation_memory->take(Dtype::F32, {rows, run.model.config.hidden_size});
  run.pass = {&run.activations, nullptr, sets, run.scratch.get(), true};
}

Batch batch_of(const std::vector<Example>& examples, const std::vector<int64_t>* order, int64_t first, int64_t count) {
  std::vector<const Example*> picked;
  for (int64_t i = first; i < std::min(first + count, static_cast<int64_t>(examples.size())); ++i)
    picked.push_back(&examples[static_cast<size_t>(order ? (*order)[static_cast<size_t>(i)] : i)]);
  Batch batch = make_batch(picked);
  batch.adapter_rows = {{0, batch.rows(), 0}};
  return batch;
}

void write_tokenizer_files(const ModelFiles& files, const std::string& folder) {
  if (files.tokenizer_json) write_file(folder + "/tokenizer.json", *files.tokenizer_json);
  if (files.tokenizer_config) {
    Json config = *files.tokenizer_config;
    if (files.chat_template) config.erase("chat_template");
    write_file(folder + "/tokenizer_config.json", config.dump(2) + "\n");
  }
  if (files.chat_template) write_file(folder + "/chat_template.jinja", *files.chat_template);
}

void save_checkpoint(Run& run) {
  TrainerState& s = run.state;
  const std::string& out = run.config.output_dir;
  std::string folder = begin_checkpoint(out, s.global_step);
  write_peft(run.adapter, run.lora, folder);
  write_tokenizer_files(run.input.files, folder);
  if (!run.config.save_only_model) {
    write_optimizer_state(folder, run.optimizer->moments());
    run.position.step = s.global_step;
    run.position.seed = static_cast<uint64_t>(run.config.seed);
    run.position.scheduler = run.schedule->state().dump();
    run.position.train_seconds = seconds_now() - run.start;
    write_training_state(folder, run.position);
  }
  if (s.best_global_step == s.global_step) s.best_model_checkpoint = out + fmt::format("/checkpoint-{}", s.global_step);
  s.total_flos = training_flos(run.padded_tokens, run.other_parameters);
  write_trainer_state(folder, s);
  finish_checkpoint(out, s.global_step);
  remove_old_checkpoints(out, run.config.save_total_limit, s.best_model_checkpoint.value_or(""), s.global_step);
}

OrderedJson evaluate(Run& run) {
  const std::vector<Example>& examples = run.input.data.eval.examples;
  double begin = seconds_now(), loss = 0, accuracy = 0;
  int64_t batches = 0, sequences = 0, n = static_cast<int64_t>(examples.size());
  run.pass.training = false;
  for (int64_t first = 0; first < n; first += run.config.per_device_eval_batch_size, ++batches) {
    Batch batch = batch_of(examples, nullptr, first, run.config.per_device_eval_batch_size);
    decoder_forward(run.ctx, run.model, batch, run.pass);
    LossSums sums =
        loss_and_head_gradient(run.ctx, run.model, batch, run.activations.hidden.row_range(0, batch.rows()), Tensor(), 0, *run.scratch);
    if (sums.labels) loss += sums.loss / static_cast<double>(sums.labels);
    accuracy += sums.accuracy;
    sequences += sums.sequences;
  }
  run.pass.training = true;
  OrderedJson metrics = {{"eval_loss", loss / static_cast<double>(batches)}};
  if (run.config.compute_accuracy) metrics["eval_accuracy"] = accuracy / static_cast<double>(sequences);
  add_speed(metrics, "eval", seconds_now() - begin, n, batches);
  return metrics;
}

void log(Run& run, OrderedJson values) {
  append_log(run.state, std::move(values), run.counts_tokens(), seconds_now() - run.start);
  append_trainer_log(run.config.output_dir, run.state, seconds_now() - run.start);
}

void evaluate_and_note(Run& run) {
  OrderedJson metrics = evaluate(run);
  if (run.screen.message)
    run.screen.message(fmt::format("step {}: eval_loss {:.4f}", run.state.global_step, metrics["eval_loss"].get<double>()));
  log(run, metrics);
  std::string name = run.metric_name();
  if (!metrics.contains(name))
    throw Error(ErrorKind::usage, "metric_for_best_model: there is no " + name + " among the evaluation's figures", "use loss or accuracy");
  double metric = metrics[name].get<double>();
  run.schedule->observe(metric);
  if (run.state.early_stopping.patience > 0 && early_stop(run.state, metric, run.greater_is_better())) run.stopping = true;
  note_best(run.state, metric, run.greater_is_better());
}

// One optimizer step over the micro-batches [first, last) of this epoch; gives the loss.
double step(Run& run, const std::vector<int64_t>* order, int64_t first, int64_t last) {
  const TrainConfig& c = run.config;
  const std::vector<Example>& examples = run.input.data.train.examples;
  int64_t labels = 0, n = static_cast<int64_t>(examples.size());
  for (int64_t i = first * c.per_device_train_batch_size; i < std::min(n, last * c.per_device_train_batch_size); ++i)
    labels += count_labels(examples[static_cast<size_t>(order ? (*order)[static_cast<size_t>(i)] : i)]);
  double loss = 0, divisor = static_cast<double>(std::max<int64_t>(labels, 1));
  run.ctx.seed = static_cast<uint64_t>(c.seed);
  run.optimizer->zero_gradients();
  for (int64_t m = first; m < last; ++m) {
    run.ctx.step = static_cast<uint64_t>(run.state.global_step * c.gradient_accumulation_steps + (m - first));
    Batch batch = batch_of(examples, order, m * c.per_device_train_batch_size, c.per_device_train_batch_size);
    Tensor d = run.d_hidden.row_range(0, batch.rows());
    decoder_forward(run.ctx, run.model, batch, run.pass);
    LossSums sums = loss_and_head_gradient(run.ctx, run.model, batch, run.activations.hidden.row_range(0, batch.rows()), d,
                                           static_cast<float>(1 / divisor), *run.scratch);
    decoder_backward(run.ctx, run.model, batch, run.pass, run.adapter, d);
    loss += sums.loss / divisor;
    int64_t longest = 0;
    for (const Sequence& s : batch.sequences) longest = std::max(longest, s.length);
    int64_t padded = (longest + 7) / 8 * 8 * static_cast<int64_t>(batch.sequences.size());
    run.padded_tokens += padded;
    run.tokens_since_log += static_cast<double>(batch.rows());
    if (run.counts_tokens()) run.state.num_input_tokens_seen += c.include_num_input_tokens_seen == "non_padding" ? batch.rows() : padded;
  }
  return loss;
}

void update(Run& run, double loss) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  double norm = run.optimizer->gradient_norm(run.ctx), rate = run.schedule->rate(s.global_step);
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    std::string culprit = "the loss";
    for (const Parameter& p : run.optimizer->parameters())
      if (!std::isfinite(sum_of_squares(run.ctx, p.gradient))) {
        culprit = "the gradient of " + p.name;
        break;
      }
    throw Error(ErrorKind::numeric,
                fmt::format("step {}: {} is not a finite number (loss {}, gradient norm {})", s.global_step + 1, culprit, loss, norm),
                "lower learning_rate, or look for NaN in the base weights; the last checkpoint is good");
  }
  AdamW options{static_cast<float>(rate),           static_cast<float>(c.adam_beta1),   static_cast<float>(c.adam_beta2),
                static_cast<float>(c.adam_epsilon), static_cast<float>(c.weight_decay), s.global_step + 1};
  run.optimizer->step(run.ctx, options, norm, c.max_grad_norm);
  ++s.global_step;
  ++run.own_steps;
  run.loss_total += loss;
  run.position.loss_sum += loss;
  ++run.position.loss_steps;
  if (s.global_step % run.logging_steps == 0 || (c.logging_first_step && s.global_step == 1)) {
    log(run,
        {{"loss", run.position.loss_sum / static_cast<double>(run.position.loss_steps)}, {"grad_norm", norm}, {"learning_rate", rate}});
    run.position.loss_sum = 0;
    run.position.loss_steps = 0;
  }
  double now = seconds_now();
  if (run.screen.progress)
    run.screen.progress(s.global_step, s.max_steps, loss, rate, run.tokens_since_log / std::max(1e-9, now - run.last_log));
}

// After an update: evaluation and checkpoint when due. False when the run ends here.
bool after_update(Run& run, bool epoch_end) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  bool last = s.global_step >= s.max_steps, stop = run.input.stop && run.input.stop->load();
  bool eval_due =
      run.evaluates() && ((c.eval_strategy == "steps" && s.global_step % run.eval_steps == 0) || (c.eval_strategy == "epoch" && epoch_end));
  int64_t best_before = s.best_global_step.value_or(-1);
  if (eval_due) evaluate_and_note(run);
  bool save_due = (c.save_strategy == "steps" && (s.global_step % run.save_steps == 0 || last)) ||
                  (c.save_strategy == "epoch" && (epoch_end || last)) ||
                  (c.save_strategy == "best" && eval_due && s.best_global_step.value_or(-1) != best_before);
  s.should_training_stop = last || run.stopping;
  if (save_due || stop || (run.stopping && c.save_strategy != "no")) save_checkpoint(run);
  return !last && !stop && !run.stopping;
}

void epochs(Run& run) {
  const TrainConfig& c = run.config;
  int64_t n = static_cast<int64_t>(run.input.data.train.examples.size());
  for (int64_t epoch = run.position.epoch;; ++epoch) {
    std::vector<int64_t> order;
    if (!c.disable_shuffling) order = torch_randperm(n, static_cast<uint64_t>(c.data_seed.value_or(c.seed) + epoch));
    int64_t first = epoch == run.position.epoch ? run.position.batch_in_epoch : 0;
    for (; first < run.micro_batches; first += c.gradient_accumulation_steps) {
      int64_t last = std::min(first + c.gradient_accumulation_steps, run.micro_batches);
      double loss = step(run, order.empty() ? nullptr : &order, first, last);
      bool epoch_end = last == run.micro_batches;
      run.state.epoch = static_cast<double>(epoch) + static_cast<double>(last) / static_cast<double>(run.micro_batches);
      run.position.epoch = epoch_end ? epoch + 1 : epoch;
      run.position.batch_in_epoch = epoch_end ? 0 : last;
      update(run, loss);
      if (!after_update(run, epoch_end)) return;
      if (epoch_end) break;
    }
  }
}

void resume(Run& run, const std::string& folder) {
  if (auto damage = checkpoint_damage(folder)) throw Error(ErrorKind::bad_data, folder + ": " + *damage, "resume from another checkpoint");
  read_lora_tensors(run.adapter, folder);
  read_optimizer_state(folder, run.optimizer->moments());
  TrainerState planned = run.state;
  run.position = read_training_state(folder);
  run.state = read_trainer_state(folder);
  run.state.max_steps = planned.max_steps;
  run.state.num_train_epochs = planned.num_train_epochs;
  run.schedule->load_state(nlohmann::json::parse(run.position.scheduler));
  run.padded_tokens = run.other_parameters
                          ? static_cast<int64_t>(std::llround(run.state.total_flos / (6.0 * static_cast<double>(run.other_parameters))))
                          : 0;
  if (run.screen.message) run.screen.message(fmt::format("resuming from {} at step {}", folder, run.state.global_step));
}

void finish(Run& run) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  double seconds = seconds_now() - run.start;
  s.total_flos = training_flos(run.padded_tokens, run.other_parameters);
  if (c.load_best_model_at_end && s.best_model_checkpoint) read_lora_tensors(run.adapter, *s.best_model_checkpoint);
  write_peft(run.adapter, run.lora, c.output_dir);
  write_tokenizer_files(run.input.files, c.output_dir);
  double samples = static_cast<double>(s.max_steps * c.per_device_train_batch_size * c.gradient_accumulation_steps);
  if (c.max_steps <= 0) samples = static_cast<double>(run.input.data.train.examples.size()) * c.num_train_epochs;
  OrderedJson metrics = {{"train_loss", run.loss_total / static_cast<double>(s.global_step)}};
  add_speed(metrics, "train", seconds, static_cast<int64_t>(samples), s.max_steps);
  metrics["total_flos"] = s.total_flos;
  log(run, metrics);
  OrderedJson results = metrics;
  results["epoch"] = s.epoch;
  if (run.counts_tokens()) results["num_input_tokens_seen"] = s.num_input_tokens_seen;
  write_results(c.output_dir, "train", results);
  write_trainer_state(c.output_dir, s);
  if (run.evaluates() && c.do_eval) {
    OrderedJson eval = evaluate(run);
    TrainerState copy = s;
    append_log(s, eval, run.counts_tokens(), seconds_now() - run.start);
    eval["epoch"] = s.epoch;
    if (run.counts_tokens()) eval["num_input_tokens_seen"] = s.num_input_tokens_seen;
    write_results(c.output_dir, "eval", eval);
    write_trainer_state(c.output_dir, copy);
  }
  if (c.plot_loss) plot_training(c.output_dir, s.log_history);
  ModelCard card;
  card.model_name = std::filesystem::path(c.output_dir).filename().string();
  card.base_model = c.model_name_or_path;
  card.datasets = split_list(c.dataset);
  card.learning_rate = c.learning_rate;
  card.train_batch_size = c.per_device_train_batch_size;
  card.eval_batch_size = c.per_device_eval_batch_size;
  card.gradient_accumulation_steps = c.gradient_accumulation_steps;
  card.seed = c.seed;
  card.optimizer = c.optim;
  card.adam_beta1 = c.adam_beta1;
  card.adam_beta2 = c.adam_beta2;
  card.adam_epsilon = c.adam_epsilon;
  card.lr_scheduler_type = c.lr_scheduler_type;
  card.warmup = c.warmup_ratio.value_or(c.warmup_steps);
  if (c.max_steps > 0) card.max_steps = c.max_steps;
  card.num_train_epochs = c.num_train_epochs;
  card.log_history = s.log_history;
  write_model_card(c.output_dir, card);
}

}  // namespace

TrainEnd train(TrainInput& input, const TrainScreen& screen) {
  Run run(input, screen);
  const TrainConfig& c = run.config;
  std::unique_ptr<OutputLock> lock;
  std::string resume_folder = c.resume_from_checkpoint.value_or("");
  if (!c.dry_run) {
    auto newest = check_output_dir(c.output_dir, c.overwrite_output_dir || !resume_folder.empty());
    make_folders(c.output_dir);
    lock = std::make_unique<OutputLock>(c.output_dir);
    if (resume_folder.empty() && newest && !c.overwrite_output_dir) resume_folder = newest->path;
  }
  run.model = load_model(input.files, c.bf16);
  attach(run);
  plan(run);
  if (c.dry_run) return TrainEnd::dry_run;
  if (!resume_folder.empty()) resume(run, resume_folder);
  begin_trainer_log(c.output_dir, resume_folder.empty() ? std::optional<int64_t>() : run.state.global_step);
  run.start = run.last_log = seconds_now();
  if (c.eval_on_start && run.evaluates() && run.state.global_step == 0) evaluate_and_note(run);
  if (run.state.global_step < run.state.max_steps) epochs(run);
  if (input.stop && input.stop->load() && run.state.global_step < run.state.max_steps) return TrainEnd::stopped;
  finish(run);
  return TrainEnd::finished;
}

}  // namespace loraine
