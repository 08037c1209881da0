// One update and one evaluation, with LLaMA-Factory's divisor and log lines. Called by the loop in train.cpp.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/data/examples/batcher.h"
#include "loraine/data/examples/example.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/training/adamw.h"
#include "loraine/train/config/grpo_options.h"
#include "loraine/train/run.h"

namespace loraine {
namespace {

struct MicroBatch : ItemsBatch {
  int64_t padded_length = 0;   // tokens of its longest example, rounded up as LLaMA-Factory pads a batch
  int64_t padded_tokens = 0;   // of all its examples, padded
  int64_t trained_tokens = 0;  // of all its examples, without padding
  int64_t present_tokens = 0;  // that an attention mask would show: with plain packing the padding of a block is among them
};

MicroBatch micro_batch(const Objective& objective, std::span<const Item> items) {
  MicroBatch made{batch_of(objective, items)};
  const std::vector<const Example*> picked = samples_of(objective, items);
  int64_t longest = 0;
  for (const Example* e : picked) {
    const auto length = static_cast<int64_t>(e->input_ids.size());
    longest = std::max(longest, length);
    made.trained_tokens += example_rows(*e);
    made.present_tokens += e->sees_all ? length : example_rows(*e);
  }
  made.padded_length = (longest + 7) / 8 * 8;
  made.padded_tokens = made.padded_length * static_cast<int64_t>(picked.size());
  return made;
}

// d_hidden: without data in an evaluation.
ObjectivePass objective_pass(Run& run, std::span<const Item> items, const ItemsBatch& micro, const Pass& pass, const Tensor& d_hidden,
                             LoggedFigures& figures) {
  const Batch& batch = micro.batch;
  return {run.ctx,
          run.model,
          &run.adapter,
          items,
          batch,
          pass.activations->hidden.row_range(0, batch.rows()),
          d_hidden,
          *pass.scratch,
          run.side.get(),
          run.reference ? &run.reference->pass() : nullptr,
          figures,
          micro.trained_rows,
          run.gpu ? &run.gpu->decoder() : nullptr};
}

void forward(Run& run, const Batch& batch, Pass& pass) {
  if (run.gpu) run.gpu->forward(run.ctx, batch, pass.training, pass.embedding_noise);
  else decoder_forward(run.ctx, run.model, batch, pass);
}

// What was computed for samples behind those that train has no gradient, and needs no backward; but experts are kept in an order of all
// rows.
void micro_batch_backward(Run& run, const MicroBatch& micro) {
  if (run.gpu) return run.gpu->backward();
  const int64_t rows = run.model.experts().empty() ? micro.trained_rows : micro.batch.rows();
  const Tensor d = run.d_hidden.row_range(0, rows);
  if (rows == micro.batch.rows()) decoder_backward(run.ctx, run.model, micro.batch, run.pass, run.adapter, d);
  else decoder_backward(run.ctx, run.model, first_rows(micro.batch, rows), run.pass, run.adapter, d);
}

// Ends the run, naming where to go on.
[[noreturn]] void not_finite(const Run& run, const std::string& what) {
  const std::vector<Checkpoint> saved = find_checkpoints(run.config.output_dir).complete;
  throw Error(ErrorKind::numeric,
              fmt::format("{}; the last good step is {}, {}", what, run.state.global_step,
                          saved.empty() ? "and no checkpoint was saved" : "the newest checkpoint " + saved.front().path),
              "lower learning_rate, or look for NaN in the base weights");
}

}  // namespace

ValuesToSave::ValuesToSave(Run& run) : run_(run), changed_(run.optimizer->averages() && !run.optimizer->at_averages()) {
  if (!changed_) return;
  run_.optimizer->to_averages(run_.ctx);
  run_.adapter.refresh(run_.ctx);
}

ValuesToSave::~ValuesToSave() {
  if (!changed_) return;
  run_.optimizer->to_training(run_.ctx);
  run_.adapter.refresh(run_.ctx);
}

void check_moments(Run& run) {
  if (const std::string name = run.optimizer->not_finite_state(run.ctx); !name.empty())
    not_finite(run, fmt::format("step {}: the optimizer's state of {} is not finite", run.state.global_step, name));
}

OrderedJson evaluate(Run& run, const Run::EvalSet& set) {
  const int64_t each = run.input.rollouts ? eval_generations(run.config) : 1;  // items that a row of the set becomes
  const auto batch_size = static_cast<size_t>(run.config.per_device_eval_batch_size / each);
  const size_t all = set.data->size(), n = run.config.dataloader_drop_last ? all / batch_size * batch_size : all;
  const double begin = seconds_now();
  const ValuesToSave values(run);
  std::optional<Bf16Evaluation::On> in_bf16;
  if (run.bf16_evaluation) in_bf16.emplace(run.model);
  Pass pass = run.bf16_evaluation ? run.bf16_evaluation->pass() : run.pass;
  pass.training = false;
  std::optional<RouterBalance> balance;
  if (run.balance) balance.emplace(RouterBalance{BalanceSums(run.model.config.num_experts), run.balance->factor});
  pass.balance = balance ? &*balance : nullptr;
  LoggedFigures figures;
  // Of losses of tokens the mean over the batches of their means, a short last one as much as the others; of others the mean over the
  // items.
  double loss = 0, weights = 0;
  const double batches = static_cast<double>((n + batch_size - 1) / batch_size);
  for (size_t first = 0; first < n; first += batch_size) {
    std::vector<Item> items;
    std::vector<ScoredAnswer> answers;
    const size_t count = std::min(batch_size, n - first);
    if (run.input.rollouts) items = items_of(answers = answers_of_evaluation(run, *set.data, first, count, figures));
    else
      for (size_t i = first; i < first + count; ++i) items.push_back(item_of(*set.data, i));
    const MicroBatch micro = micro_batch(*run.objective, items);
    forward(run, micro.batch, pass);
    double one = run.objective->loss(objective_pass(run, items, micro, pass, Tensor(), figures));
    if (balance) one += balance->factor * balance_loss(balance->sums);
    const double weight = run.objective->means_over_tokens() ? 1.0 : static_cast<double>(items.size());
    loss += weight * one;
    weights += weight;
    for (const Item& item : items) item.let_go();
  }
  loss /= weights;
  check_mapped_files();
  if (!std::isfinite(loss))
    not_finite(run, fmt::format("evaluation after step {}: the loss is not a finite number", run.state.global_step));
  OrderedJson metrics = {{set.prefix() + "_loss", loss}}, found = figures.values();
  run.objective->complete(found);
  if (run.input.rollouts) found["num_tokens"] = run.state.num_input_tokens_seen;
  run.objective->evaluated(found);
  for (const auto& [name, value] : found.items()) metrics[set.prefix() + "_" + name] = value;
  add_speed(metrics, set.prefix(), seconds_now() - begin, static_cast<int64_t>(n), static_cast<int64_t>(batches));
  return metrics;
}

void log(Run& run, OrderedJson values) {
  append_log(run.state, std::move(values), run.counts_tokens(), seconds_now() - run.start);
  append_trainer_log(run.config.output_dir, run.state, seconds_now() - run.start);
  run.reporters.log(run.state.log_history.back());
}

void log_loss(Run& run) {
  if (run.position.loss_steps == 0) return;
  OrderedJson values = {{"loss", run.position.loss_sum / static_cast<double>(run.position.loss_steps)},
                        {"grad_norm", run.gradient_norm},
                        {"learning_rate", run.learning_rate}};
  OrderedJson figures = run.figures.values();
  run.objective->complete(figures);
  if (run.input.rollouts) figures["num_tokens"] = run.state.num_input_tokens_seen;
  if (figures.contains("reward") && run.screen.message)  // whose loss says nothing
    run.screen.message(fmt::format("step {}: reward {:.4f}", run.state.global_step, figures["reward"].get<double>()));
  values.update(figures);
  log(run, std::move(values));
  run.figures.clear();
  run.position.loss_sum = 0;
  run.position.loss_steps = 0;
}

void evaluate_and_note(Run& run) {
  OrderedJson metrics = OrderedJson::object();
  run.objective->begin_evaluations();
  for (const Run::EvalSet& set : run.eval_sets()) {
    const OrderedJson own = evaluate(run, set);
    const std::string loss = set.prefix() + "_loss";
    const std::string shown = run.input.rollouts ? set.prefix() + "_reward" : loss;
    if (run.screen.message) run.screen.message(fmt::format("step {}: {} {:.4f}", run.state.global_step, shown, own[shown].get<double>()));
    log(run, own);
    metrics.update(own);
  }
  run.evaluated_step = run.state.global_step;
  std::string name = run.metric_name();
  if (!metrics.contains(name))
    throw Error(ErrorKind::usage, "metric_for_best_model: there is no " + name + " among the evaluation's figures",
                run.input.data.evals.empty() ? "use loss or accuracy"
                                             : "each set has figures of its own: use eval_" + run.input.data.evals.front().name + "_loss");
  if (run.state.global_step == 0) return;  // eval_on_start: nothing was trained that could be the best, or no gain
  double metric = metrics[name].get<double>();
  run.schedule->observe(metric);
  if (!run.notes_best()) return;
  if (run.state.early_stopping.patience > 0 && early_stop(run.state, metric, run.greater_is_better())) run.stopping = true;
  note_best(run.state, metric, run.greater_is_better());
  if (run.config.save_strategy == "no") run.state.best_global_step.reset();
}

void calibrate(Run& run) {
  if (!run.objective->calibrates()) return;
  if (run.evaluated_step != run.state.global_step) {
    run.objective->begin_evaluations();
    for (const Run::EvalSet& set : run.eval_sets()) evaluate(run, set);
    run.evaluated_step = run.state.global_step;
  }
  run.objective->calibrate();
}

double step(Run& run, std::span<const Item> items, std::span<const size_t> sizes) {
  const TrainConfig& c = run.config;
  double loss = 0;
  run.ctx.seed = static_cast<uint64_t>(c.seed);
  if (run.gpu) run.gpu->zero_gradients();
  else run.optimizer->zero_gradients();
  run.objective->begin_update(items, static_cast<int64_t>(sizes.size()));
  size_t first = 0;
  for (size_t i = 0; i < sizes.size(); first += sizes[i++]) {
    run.ctx.step = static_cast<uint64_t>(run.state.global_step * c.gradient_accumulation_steps) + i;
    const std::span<const Item> picked = items.subspan(first, sizes[i]);
    const MicroBatch micro = micro_batch(*run.objective, picked);
    if (c.neftune_noise_alpha)
      run.pass.embedding_noise =
          static_cast<float>(*c.neftune_noise_alpha / std::sqrt(static_cast<double>(micro.padded_length * run.model.config.hidden_size)));
    forward(run, micro.batch, run.pass);
    const Tensor d = run.d_hidden.row_range(0, micro.batch.rows());
    loss += run.objective->loss(objective_pass(run, picked, micro, run.pass, d, run.figures));
    micro_batch_backward(run, micro);
    if (run.balance) loss += run.balance->factor * balance_loss(run.balance->sums);  // of every micro-batch, as transformers adds it
    run.padded_tokens += micro.padded_tokens;
    run.tokens_since_log += static_cast<double>(micro.trained_tokens);
    run.sample_tokens += micro.sample_rows;
    run.computed_tokens += micro.batch.rows();
    if (run.counts_tokens() && !run.input.rollouts)  // there those that are generated count
      run.state.num_input_tokens_seen += c.include_num_input_tokens_seen == "non_padding" ? micro.present_tokens : micro.padded_tokens;
  }
  for (const Item& item : items) item.let_go();
  run.adapter.finish_gradients(run.ctx);
  if (run.ranks) loss += run.ranks->add_orthogonality(run.ctx);
  return loss;
}

void update(Run& run, double loss) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  check_mapped_files();
  const double rate = run.schedule->rate(s.global_step);
  GpuTraining::Updated on_gpu{};  // where it takes place there: values stay where the norm is not finite
  if (run.gpu) on_gpu = run.gpu->update(rate, s.global_step + 1);
  loss += on_gpu.loss;
  const double norm = run.gpu ? on_gpu.norm : run.optimizer->gradient_norm(run.ctx);
  if (!std::isfinite(loss) || !std::isfinite(norm)) {
    if (run.gpu) run.gpu->fetch();
    std::string culprit = "the loss";
    for (const Parameter& p : run.optimizer->parameters())
      if (!std::isfinite(sum_of_squares(run.ctx, p.gradient))) {
        culprit = "the gradient of " + p.name;
        break;
      }
    not_finite(run, fmt::format("step {}: {} is not a finite number (loss {}, gradient norm {})", s.global_step + 1, culprit, loss, norm));
  }
  bool finite = false;  // seen already
  if (run.gpu) {
    finite = on_gpu.values_finite;
    if (!finite) run.gpu->fetch();
  } else {
    run.optimizer->step(run.ctx, rate, norm, c.max_grad_norm);
  }
  for (const Parameter& p : run.optimizer->parameters())
    if (!finite && !std::isfinite(sum_of_squares(run.ctx, p.value)))
      not_finite(run, fmt::format("step {}: the update made {} not finite (learning rate {})", s.global_step + 1, p.name, rate));
  if (run.ranks) run.ranks->after_update(s.global_step + 1, Optimizer::clip_scale(norm, c.max_grad_norm));
  if (!run.gpu) run.adapter.refresh(run.ctx);
  ++s.global_step;
  ++run.own_steps;
  run.loss_total += loss;
  run.position.loss_sum += loss;
  ++run.position.loss_steps;
  run.gradient_norm = norm;
  run.learning_rate = rate;
  if ((c.logging_strategy == "steps" && s.global_step % run.logging_steps == 0) || (c.logging_first_step && s.global_step == 1))
    log_loss(run);
  const std::string line = run.watch ? run.watch->observe(s.global_step, loss, rate) : "";
  if (!line.empty() && run.screen.message) run.screen.message(line);
  double now = seconds_now();
  if (run.screen.progress)
    run.screen.progress(s.global_step, s.max_steps, loss, rate, run.tokens_since_log / std::max(1e-9, now - run.last_log));
}

}  // namespace loraine
