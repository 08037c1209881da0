// What a run leaves: checkpoints, and the adapter, records and model card at its end. Called by the loop in train.cpp.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/hub/hub.h"
#include "loraine/io/write_text_files.h"
#include "loraine/model/attach.h"
#include "loraine/train/memory.h"
#include "loraine/train/records/model_card.h"
#include "loraine/train/records/plot.h"
#include "loraine/train/run.h"
#include "loraine/train/saving/transformers_checkpoint.h"

namespace loraine {
namespace {

// What stands beside an adapter's files in a folder of its own.
std::string adapter_card(const std::string& base, const std::string& text) {
  return fmt::format(
      "---\nbase_model: {}\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n---\n\n"
      "{}\n",
      base, text);
}

void write_card(const Run& run, const std::string& folder, const std::string& text) {
  write_file(folder + "/README.md", adapter_card(run.config.model_name_or_path, text));
}

int64_t trainable_parameters(const Run& run) {
  int64_t sum = 0;
  for (const Parameter& p : run.optimizer->parameters()) sum += p.value.numel();
  return sum;
}

ModelCard card_of(const Run& run) {
  const TrainConfig& c = run.config;
  ModelCard card;
  card.model_name = std::filesystem::path(c.output_dir).filename().string();
  card.base_model = c.model_name_or_path;
  std::error_code ignored;
  card.on_hub = is_hub_id(c.model_name_or_path) && !std::filesystem::exists(c.model_name_or_path, ignored);
  card.finetuning_type = c.finetuning_type;
  card.label_smoothing_factor = c.label_smoothing_factor;
  card.datasets = split_list(c.dataset);
  card.learning_rate = c.learning_rate;
  card.train_batch_size = c.per_device_train_batch_size;
  card.eval_batch_size = c.per_device_eval_batch_size;
  card.gradient_accumulation_steps = c.gradient_accumulation_steps;
  card.seed = c.seed;
  card.optimizer = c.optim;
  card.optimizer_args = c.optim_args.value_or("");
  card.adam_beta1 = c.adam_beta1;
  card.adam_beta2 = c.adam_beta2;
  card.adam_epsilon = c.adam_epsilon;
  card.lr_scheduler_type = c.lr_scheduler_type;
  card.warmup = c.warmup_ratio.value_or(c.warmup_steps);
  if (c.max_steps > 0) card.max_steps = c.max_steps;
  card.num_train_epochs = c.num_train_epochs;
  if (c.stage == "dpo" || c.stage == "kto" || c.stage == "grpo") card.extra_tags = {c.stage, "trl"};
  card.log_history = run.state.log_history;
  return card;
}

RankMap rank_map_of(const Run& run) {
  RankMap map{{}, {}, run.ranks->modules(), run.lora.adalora->init_r, run.state.max_steps};
  for (const RankBudget::Cut& cut : run.ranks->history()) {
    map.steps.push_back(cut.step);
    map.ranks.push_back(cut.ranks);
  }
  return map;
}

// Left open, where PEFT would search for another start, and the conversion is built.
bool converts_pissa(const Run& run) {
  if (run.config.pissa_convert || !run.config.pissa_init || !trains_adapter(run.config)) return run.config.pissa_convert.value_or(false);
  const bool starts_here = run.config.create_new_adapter || split_list(run.config.adapter_name_or_path).empty();
  const LoraConfig& lora = run.lora;
  return starts_here && searches_at_random(lora) && !(lora.use_rslora && !(lora.rank_pattern.empty() && lora.alpha_pattern.empty()));
}

// LLaMA-Factory's pissa_backup (over the changed base) and pissa_converted (over the base as it was).
void write_converted(Run& run, const std::string& out) {
  LoraConfig plain = run.lora;
  plain.init_lora_weights = "true";
  write_peft(run.adapter, plain, out + "/pissa_backup");
  write_card(run, out + "/pissa_backup", "The adapter over the base without PiSSA's start.");
  AdapterSet start = attach_adapter(run.model, run.lora, false);
  read_lora_tensors(start, run.config.output_dir + "/pissa_init");
  LoraConfig doubled = run.lora;
  const AdapterSet converted = over_whole_base(run.adapter, start, run.model.sites(), doubled);
  write_peft(converted, doubled, out + "/pissa_converted");
  write_card(run, out + "/pissa_converted", "The adapter over the base as it was, of twice the rank.");
}

// The line that ends a run's log, and train_results.json in `folder`.
void log_end(Run& run, double seconds, const std::string& folder) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  double samples = static_cast<double>(s.max_steps) * static_cast<double>(c.per_device_train_batch_size * c.gradient_accumulation_steps);
  if (c.max_steps <= 0 && !run.input.rollouts) samples = static_cast<double>(run.input.data.train.size()) * c.num_train_epochs;
  OrderedJson metrics = {{"train_loss", run.loss_total / static_cast<double>(s.global_step)}};
  add_speed(metrics, "train", seconds, static_cast<int64_t>(samples), s.max_steps);
  metrics["total_flos"] = s.total_flos;
  log(run, metrics);
  OrderedJson results = metrics;
  if (c.include_effective_tokens_per_second)
    results["effective_tokens_per_sec"] =
        static_cast<double>(run.input.stream ? run.input.stream->counts().num_tokens : run.input.data.train.num_tokens) *
        (run.input.stream ? 1.0 : s.epoch) / std::max(1e-9, seconds);
  results["epoch"] = s.epoch;
  if (run.counts_tokens()) results["num_input_tokens_seen"] = s.num_input_tokens_seen;
  write_results(folder, "train", results);
}

// Into the folder of a checkpoint that is begun.
void write_checkpoint(Run& run, const std::string& folder) {
  TrainerState& s = run.state;
  if (run.ranks) run.lora.adalora->rank_pattern = run.ranks->pattern();  // the ranks that live
  {
    const ValuesToSave values(run);
    write_trained(run, folder);
    calibrate(run);
    run.objective->write_files(folder);
  }
  if (run.ranks && (!run.config.save_only_model || run.config.load_best_model_at_end)) run.ranks->write_state(folder);
  write_tokenizer_files(run.input.files, folder);
  write_training_record(run.input.record, folder);
  if (trains_adapter(run.config))
    write_card(run, folder,
               fmt::format("A checkpoint of a run: the {}adapter over {} and what the run needs to go on.", run.lora.method ? "" : "LoRA ",
                           run.config.model_name_or_path));
  if (!run.config.save_only_model) {
    write_optimizer_state(folder, run.optimizer->states());
    run.position.step = s.global_step;
    run.position.seed = static_cast<uint64_t>(run.config.seed);
    run.position.scheduler = run.schedule->state().dump();
    run.position.data_hash = run.data_hash;
    run.position.train_seconds = seconds_now() - run.start;
    run.position.figures = run.figures.text();
    run.position.objective = run.objective->state();
    write_training_state(folder, run.position);
    if (run.input.rollouts) run.generations.write_files(run, folder);
  }
  write_run_record(folder, run.record);
  if (s.best_global_step == s.global_step) s.best_model_checkpoint = fmt::format("{}/checkpoint-{}", run.config.output_dir, s.global_step);
  s.total_flos = training_flos(run.padded_tokens, run.other_parameters);
  write_trainer_state(folder, s);
}

}  // namespace

bool take_over_records(Run& run) {
  const std::string& out = run.config.output_dir;
  std::error_code ignored;
  if (!std::filesystem::exists(out + "/train_results.json", ignored) || !std::filesystem::exists(out + "/trainer_state.json", ignored))
    return false;
  TrainerState finished = read_trainer_state(out);
  if (finished.global_step != run.state.global_step || finished.max_steps != run.state.max_steps) return false;
  run.state.log_history = std::move(finished.log_history);
  return true;
}

void write_start(Run& run) {
  std::error_code ignored;
  if (run.config.overwrite_output_dir)  // of another run
    for (const char* name : {"pissa_init", "pissa_backup", "pissa_converted"})
      std::filesystem::remove_all(run.config.output_dir + "/" + name, ignored);
  if (!converts_pissa(run)) return;
  LoraConfig plain = run.lora;
  plain.init_lora_weights = "true";  // these matrices are for the changed base
  StagedFiles files(run.config.output_dir);
  write_peft(run.adapter, plain, files.path() + "/pissa_init");
  write_card(run, files.path() + "/pissa_init", "PiSSA's start: what was taken out of the base.");
  files.commit();
}

void save_checkpoint(Run& run) {
  const TrainerState& s = run.state;
  const std::string& out = run.config.output_dir;
  if (run.gpu) run.gpu->fetch();
  check_moments(run);
  try {
    write_checkpoint(run, begin_checkpoint(out, s.global_step));
    finish_checkpoint(out, s.global_step);
  } catch (...) {
    discard_checkpoint(out, s.global_step);
    throw;
  }
  remove_old_checkpoints(out, run.config.save_total_limit, s.best_model_checkpoint.value_or(""), s.global_step);
}

void resume(Run& run, const std::string& folder) {
  if (auto damage = checkpoint_damage(folder)) throw Error(ErrorKind::bad_data, folder + ": " + *damage, "resume from another checkpoint");
  const bool foreign = is_transformers_checkpoint(folder);
  if (!foreign && !std::filesystem::exists(folder + "/training_state.json"))
    throw Error(ErrorKind::usage,
                folder + ": it was saved with save_only_model and holds the model alone, nothing that its run could go on from",
                "set overwrite_output_dir: true to begin anew, or train on from it in another output_dir");
  TrainingState position =
      foreign ? transformers_position(folder, run.config, read_trainer_state(folder), run.updates_per_epoch) : read_training_state(folder);
  const ChangedSettings& changed = run.input.folder.changed;
  if (!position.data_hash.empty() && position.data_hash != run.data_hash && !run.config.allow_data_change)
    throw Error(ErrorKind::usage,
                fmt::format("{} was made with other data: {}", folder,
                            changed.data.empty() ? fmt::format("their hash is {}, that of this run's {}", position.data_hash, run.data_hash)
                                                 : fmt::format("{}", fmt::join(changed.data, ", "))),
                "give the same data, template and cutoff_len, choose another output_dir, or set allow_data_change: true");
  if (foreign && !run.objective->parameters().empty())
    throw Error(ErrorKind::unsupported, folder + " is transformers' own, and its optimizer's state of a value head is not gone on from",
                "train on from what it holds: adapter_name_or_path");
  read_trained(run, folder);
  run.objective->read_files(folder);
  run.objective->read_state(position.objective);
  run.figures.read(position.figures);
  const TrainerState planned = run.state;
  run.position = position;
  run.state = read_trainer_state(folder);
  run.state.max_steps = planned.max_steps;
  run.state.num_train_epochs = planned.num_train_epochs;
  run.state.logging_steps = planned.logging_steps;
  run.state.save_steps = planned.save_steps;
  run.state.eval_steps = planned.eval_steps;
  run.state.early_stopping.patience = planned.early_stopping.patience;
  if (run.state.global_step > planned.max_steps)
    throw Error(ErrorKind::usage,
                fmt::format("{}: its run is at update {}, and {} asks for {} only", run.input.folder.resumes, run.state.global_step,
                            run.config.max_steps > 0 ? "max_steps" : "num_train_epochs", planned.max_steps),
                other_run_hint(run.config, run.input.folder));
  if (run.config.ignore_data_skip) run.position.batch_in_epoch = 0;
  if (run.input.rollouts) run.generations.read_files(run, folder);
  if (foreign) {
    run.optimizer->resume_at(read_transformers_optimizer(folder, run.config, *run.optimizer));
  } else {
    run.optimizer->resume_at(run.state.global_step);
    read_optimizer_state(folder, run.optimizer->states());
  }
  run.optimizer->start_from_saved(run.ctx);
  run.adapter.refresh(run.ctx);
  run.schedule->load_state(nlohmann::json::parse(run.position.scheduler));
  run.padded_tokens = run.other_parameters
                          ? static_cast<int64_t>(std::llround(run.state.total_flos / (6.0 * static_cast<double>(run.other_parameters))))
                          : 0;
  if (!run.screen.message) return;
  run.screen.message(fmt::format("resuming from {} at step {}", folder, run.state.global_step));
  if (foreign) {
    run.screen.message("note: the checkpoint is transformers' own, so whether data and settings are those of its run cannot be seen");
    if (run.config.lora_dropout > 0 || run.config.neftune_noise_alpha)
      run.screen.message("note: dropout and noise are drawn anew, from loraine's own random numbers");
  }
  if (!changed.free.empty()) run.screen.message(fmt::format("note: the run goes on, and {}", fmt::join(changed.free, ", ")));
}

void finish(Run& run) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  double seconds = seconds_now() - run.start;
  s.total_flos = training_flos(run.padded_tokens, run.other_parameters);
  if (run.gpu) run.gpu->fetch();
  if (run.optimizer->averages()) {
    run.optimizer->to_averages(run.ctx);
    run.adapter.refresh(run.ctx);
  }
  if (c.load_best_model_at_end && s.best_model_checkpoint) {
    read_trained(run, *s.best_model_checkpoint);
    run.objective->read_files(*s.best_model_checkpoint);
    if (run.gpu) run.gpu->put();
    if (run.quant_aware) run.quant_aware->refresh(s.global_step, true);
  } else {
    calibrate(run);
  }
  if (run.quant_aware) run.quant_aware->refresh(s.global_step);
  if (run.ranks) run.lora.adalora->rank_pattern = run.ranks->pattern();
  StagedFiles files(c.output_dir);
  const std::string& out = files.path();
  write_trained(run, out);
  run.objective->write_files(out);
  if (converts_pissa(run)) write_converted(run, out);
  if (run.ranks) run.ranks->write_ranks(out + "/ranks.json");
  write_tokenizer_files(run.input.files, out);
  write_training_record(run.input.record, out);
  if (const std::string former = c.output_dir + "/all_results.json"; std::filesystem::exists(former))
    write_file(out + "/all_results.json", read_file(former));  // its other keys stay
  if (!run.records_kept) log_end(run, seconds, out);
  write_trainer_state(out, s);
  if (run.evaluates() && (c.do_eval || c.eval_strategy != "no")) {
    OrderedJson eval = OrderedJson::object();
    TrainerState copy = s;
    for (const Run::EvalSet& set : run.eval_sets()) {
      OrderedJson own = evaluate(run, set);
      run.reporters.log(append_log(s, own, run.counts_tokens(), seconds_now() - run.start));
      if (c.stage == "pt") own[set.prefix() + "_perplexity"] = std::exp(own[set.prefix() + "_loss"].get<double>());
      eval.update(own);
    }
    eval["epoch"] = s.epoch;
    if (run.counts_tokens()) eval["num_input_tokens_seen"] = s.num_input_tokens_seen;
    write_results(out, "eval", eval);
    write_trainer_state(out, copy);
  }
  const Dataset& train = run.input.stream ? run.input.stream->counts() : run.input.data.train;
  int64_t truncated = train.num_truncated, dropped = train.num_dropped, untrained = train.num_untrained;
  for (const Run::EvalSet& set : run.eval_sets()) {
    truncated += set.data->num_truncated;
    dropped += set.data->num_dropped;
    untrained += set.data->num_untrained;
  }
  merge_results(out, {{"num_truncated", truncated},
                      {"num_dropped", dropped},
                      {"num_untrained", untrained},
                      {"trainable_parameters", trainable_parameters(run)}});
  if (!run.records_kept) merge_results(out, {{"train_tokens_per_second", run.tokens_since_log / std::max(1e-9, seconds)}});
  if (!run.records_kept && run.objective->share_up_to() > 0)
    merge_results(out, {{"train_tokens", run.sample_tokens}, {"train_tokens_computed", run.computed_tokens}});
  if (c.plot_loss) {
    std::vector<std::string> curves = {"loss", "eval_loss", "eval_accuracy"};
    for (const std::string& name : run.objective->plotted()) curves.push_back(name);
    plot_training(out, c.output_dir, s.log_history, curves);
  }
  if (c.plot_loss && run.ranks) plot_ranks(out, c.output_dir, rank_map_of(run));
  write_model_card(out, card_of(run));
  merge_results(out, {{"peak_memory_bytes", peak_resident_size()}});
  files.commit();
  if (const std::string text = random_start_text(run.lora, c.output_dir); !text.empty() && trains_adapter(c) && run.screen.message)
    run.screen.message("note: " + text);
  if (c.save_total_limit == 1 && s.best_model_checkpoint) remove_checkpoints_but(c.output_dir, *s.best_model_checkpoint);
  const std::vector<std::string> reports = run.reporters.end();
  if (!run.screen.message) return;
  for (const std::string& line : outcome_lines(run)) run.screen.message(line);
  for (const std::string& line : reports) run.screen.message(line);
}

}  // namespace loraine
