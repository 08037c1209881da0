// The story of a run: folder, model, adapter, plan, steps, files.
#include "loraine/train/train.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>
#include <set>

#include "loraine/io/files/durable_file.h"
#include "loraine/model/finite.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/rollouts/completions_log.h"
#include "loraine/train/run.h"
#include "loraine/train/sampling.h"
#include "loraine/train/token_batches.h"

namespace loraine {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void warn(Run& run, ErrorKind kind, const std::string& message) {
  if (run.config.strict) throw Error(kind, message, "correct it, or leave strict out to go on with a warning");
  if (run.screen.message) run.screen.message("warning: " + message);
}

namespace {

// After an update: evaluation and checkpoint when due. False when the run ends here.
bool after_update(Run& run, bool epoch_end) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  bool last = s.global_step >= s.max_steps, stop = run.input.stop && run.input.stop->load();
  if ((epoch_end || last) && c.logging_strategy == "epoch") log_loss(run);
  const double past = c.eval_strategy == "epoch" ? s.epoch : static_cast<double>(s.global_step);
  // The last update is evaluated wherever it falls, as transformers does since 5.
  bool eval_due = run.evaluates() && c.eval_delay <= past &&
                  ((c.eval_strategy == "steps" && (s.global_step % run.eval_steps == 0 || last)) ||
                   (c.eval_strategy == "epoch" && (epoch_end || last)));
  int64_t best_before = s.best_global_step.value_or(-1);
  if (run.quant_aware && (eval_due || s.global_step % c.quant_aware_steps == 0)) run.quant_aware->refresh(s.global_step);
  if (eval_due) evaluate_and_note(run);
  bool save_due = (c.save_strategy == "steps" && (s.global_step % run.save_steps == 0 || last)) ||
                  (c.save_strategy == "epoch" && (epoch_end || last)) ||
                  (c.save_strategy == "best" && eval_due && s.best_global_step.value_or(-1) != best_before);
  s.should_training_stop = last || run.stopping;
  const bool saves = save_due || stop || (run.stopping && c.save_strategy != "no");
  if (saves && run.quant_aware) run.quant_aware->refresh(s.global_step);  // as a run that goes on from it begins
  if (saves) save_checkpoint(run);
  return !last && !stop && !run.stopping;
}

// One update over its items, `done` micro-batches of the epoch behind it then. False when the run ends here.
bool one_update(Run& run, std::span<const Item> items, int64_t epoch, int64_t done, bool epoch_end) {
  const auto batch = static_cast<size_t>(run.config.per_device_train_batch_size);
  const double loss = step(run, items, batch_sizes(items.size(), batch));
  run.state.epoch = static_cast<double>(epoch) + static_cast<double>(done) / static_cast<double>(run.micro_batches);
  run.position.epoch = epoch_end ? epoch + 1 : epoch;
  run.position.batch_in_epoch = epoch_end ? 0 : done;
  update(run, loss);
  return after_update(run, epoch_end);
}

void epochs(Run& run) {
  const TrainConfig& c = run.config;
  const Dataset& set = run.input.data.train;
  const int64_t n = static_cast<int64_t>(set.size()), batch = c.per_device_train_batch_size;
  for (int64_t epoch = run.position.epoch;; ++epoch) {
    const std::vector<int64_t> order = epoch_order(c, set, epoch);
    int64_t done = epoch == run.position.epoch ? run.position.batch_in_epoch : 0;
    while (done < run.micro_batches) {
      const int64_t first = done * batch;
      done = std::min(done + c.gradient_accumulation_steps, run.micro_batches);
      std::vector<Item> taken;
      for (int64_t i = first; i < std::min(n, done * batch); ++i)
        taken.push_back(item_of(set, static_cast<size_t>(order.empty() ? i : order[static_cast<size_t>(i)])));
      if (!one_update(run, taken, epoch, done, done == run.micro_batches)) return;
    }
  }
}

// Micro-batches by their tokens. A resumed run goes through the order up to where it was.
void token_epochs(Run& run) {
  const Dataset& set = run.input.data.train;
  TokenBatches batches(run.config, set);
  for (int64_t behind = 0; behind < run.state.global_step; ++behind) batches.next();
  for (;;) {
    const TokenBatches::Update next = batches.next();
    std::vector<Item> items;
    for (const int64_t place : next.items) items.push_back(item_of(set, static_cast<size_t>(place)));
    const double loss = step(run, items, next.sizes);
    run.state.epoch = static_cast<double>(next.epoch) + static_cast<double>(next.place) / static_cast<double>(set.size());
    update(run, loss);
    if (!after_update(run, next.ends_epoch)) return;
  }
}

// Stage grpo: the items of an update are answers to the prompts, generated when they are due.
void rolled_out_epochs(Run& run) {
  const int64_t accumulation = run.config.gradient_accumulation_steps;
  for (int64_t epoch = run.position.epoch;; ++epoch) {
    int64_t done = epoch == run.position.epoch ? run.position.batch_in_epoch : 0;
    while (done < run.micro_batches) {
      const int64_t first = done;
      done = std::min(done + accumulation, run.micro_batches);
      const std::vector<Item> answers = run.generations.items(run, epoch, first, done);
      if (!one_update(run, answers, epoch, done, done == run.micro_batches)) return;
    }
  }
}

// The next examples of the stream, up to `most`, after the one that was looked at before.
std::vector<Example> take(ExampleStream& stream, std::optional<Example>& next, size_t most) {
  std::vector<Example> taken;
  for (; next && taken.size() < most; next = stream.next()) taken.push_back(std::move(*next));
  return taken;
}

// Streaming: how long an epoch is shows when it ends. (transformers keeps the gradients of an update that the end cuts short for the next
// epoch; here it is an update.)
void streamed_epochs(Run& run) {
  const TrainConfig& c = run.config;
  ExampleStream& stream = *run.input.stream;
  const auto batch = static_cast<size_t>(c.per_device_train_batch_size);
  const size_t of_update = batch * static_cast<size_t>(c.gradient_accumulation_steps);
  for (int64_t epoch = run.position.epoch;; ++epoch) {
    stream.start_epoch(epoch);
    int64_t done = epoch == run.position.epoch ? run.position.batch_in_epoch : 0;
    if (!stream.skip(done * c.per_device_train_batch_size))
      throw Error(ErrorKind::bad_data, "streaming: the data have fewer examples than the checkpoint has seen of this epoch",
                  "give the data that the run began with");
    std::optional<Example> next = stream.next();
    if (!next && done == 0)
      throw Error(ErrorKind::bad_data, "streaming: the training data hold no usable example", "look at the rows, and at cutoff_len");
    while (next) {
      std::vector<Example> taken = take(stream, next, of_update);
      if (c.dataloader_drop_last) taken.resize(taken.size() / batch * batch);
      if (taken.empty()) break;
      std::vector<Item> items;
      for (const Example& example : taken) items.push_back({&example});
      done += static_cast<int64_t>((taken.size() + batch - 1) / batch);
      if (!one_update(run, items, epoch, done, !next)) return;
    }
  }
}

// The same settings over other weights are another run.
void check_base(const Run& run) {
  const RunFolder& folder = run.input.folder;
  const std::optional<RunRecord> record = read_run_record(folder.resume_from);
  if (!record || record->base == run.record.base) return;
  throw Error(
      ErrorKind::usage,
      fmt::format("{}: its run began with another base than {}: the weights or config.json are not the same (fingerprint {}, now {})",
                  folder.resumes, run.config.model_name_or_path, record->base, run.record.base),
      other_run_hint(run.config, folder));
}

void begin_records(Run& run) {
  const TrainConfig& c = run.config;
  const auto from = run.input.folder.resume_from.empty() ? std::optional<int64_t>() : run.state.global_step;
  begin_trainer_log(c.output_dir, from);
  begin_completions_log(c.output_dir, from);
  run.reporters.begin(c, OrderedJson::parse(run.input.files.config.dump()), from);
}

// A resumed run began with what its log holds first.
void watch_loss(Run& run) {
  if (!run.objective->loss_falls()) return;
  std::optional<double> began;
  for (const OrderedJson& entry : run.state.log_history)
    if (!began && entry.contains("loss") && entry["loss"].is_number()) began = entry["loss"].get<double>();
  run.watch.emplace(run.state.max_steps, run.objective->means_over_tokens() ? run.model.config.vocab_size : 0, began);
}

void round_frozen(Run& run) {
  if (run.adapter.dense || run.lora.use_dora)
    throw Error(ErrorKind::unsupported,
                "frozen_matmul: int8 keeps the layers in int8 only, and the adapter that is trained on has DoRA or whole tensors, which "
                "need them in full",
                "leave frozen_matmul out");
  blocks_to_int8(run.model);
}

void round_for_export(Run& run) {
  const std::string& type = *run.config.quant_aware;
  run.quant_aware = std::make_unique<QuantAware>(run.model, run.adapter, run.input.files, type);
  run.quant_aware->refresh(run.state.global_step);
  if (run.screen.message)
    run.screen.message(fmt::format(
        "quant_aware: {} matrices are codes of {}, made anew every {} updates; evaluations are those of the file that `loraine export "
        "--export_format gguf --gguf_type {}` writes",
        run.quant_aware->matrices(), type, run.config.quant_aware_steps, type));
}

// moe_aux_loss_coef, for the families that LLaMA-Factory sets it for.
void balance_experts(Run& run) {
  static const std::set<std::string> kHaveIt = {"ernie4_5_moe", "granitemoe", "jamba",     "mixtral",
                                                "olmoe",        "phimoe",     "qwen2_moe", "qwen3_moe"};
  const std::optional<double> coefficient = run.config.moe_aux_loss_coef;
  if (!coefficient) return;
  if (!run.objective->means_over_tokens())
    return warn(run, ErrorKind::usage, fmt::format("moe_aux_loss_coef has no effect in stage {}, as in LLaMA-Factory", run.config.stage));
  if (kHaveIt.contains(run.model.config.model_type)) run.model.config.router_aux_loss_coef = *coefficient;
  else
    warn(run, ErrorKind::usage,
         fmt::format("moe_aux_loss_coef has no effect on {}, as in LLaMA-Factory; output_router_logits and "
                     "router_aux_loss_coef in config.json have one, where transformers computes that loss",
                     run.model.config.model_type));
}

void begin_objective(Run& run) {
  const TrainConfig& c = run.config;
  const std::vector<FoundPlace> adapters = trains_adapter(c) ? adapter_places(c, kSeveralAdapters) : std::vector<FoundPlace>();
  run.objective->begin(
      {run.model, run.input.files.config, adapters.empty() ? run.input.files.path : adapters.back().path, static_cast<uint64_t>(c.seed)});
  const std::string& start = run.lora.init_lora_weights;
  const bool moved = start.starts_with("pissa") || start == "olora" || start == "loftq";
  if (trains_adapter(c) && moved && compares_with_reference(c) && !c.ref_model)
    throw Error(ErrorKind::usage,
                fmt::format("stage {} compares with the base, and the start {} of the adapter is taken out of it", c.stage, start),
                "give the base once more as ref_model, or merge the adapter first: create_new_adapter: true");
  if (c.ref_model && compares_with_reference(c)) run.reference = std::make_unique<ReferenceModel>(c, run.model);
}

}  // namespace

TrainEnd train(TrainInput& input, const TrainScreen& screen) {
  Run run(input, screen);
  const TrainConfig& c = run.config;
  const std::string& resume_folder = input.folder.resume_from;
  for (const std::string& text : input.folder.warnings) warn(run, ErrorKind::usage, text);
  if (const std::string text = quantised_already(input.files, c); !text.empty()) warn(run, ErrorKind::usage, text);
  run.record = run_record(c, base_fingerprint(input.files));
  if (!resume_folder.empty()) check_base(run);
  run.model = load_model(input.files, load_options(c));
  balance_experts(run);
  if (const std::string text = untied_text(run.model); !text.empty()) warn(run, ErrorKind::bad_data, text);
  run.model.read_once = c.frozen_matmul == "int8";  // the layers are read here, and once more to be rounded
  if (const std::string text = not_finite_text(run.model); !text.empty()) warn(run, ErrorKind::numeric, text);
  run.model.read_once = false;
  attach(run);
  begin_objective(run);
  if (trains_adapter(c)) input.record.base_fingerprint = input.files.fingerprint;
  if (c.frozen_matmul == "int8") round_frozen(run);
  if (c.quant_aware) round_for_export(run);
  share_prefixes(run);
  plan(run);
  if (run.quant_aware && run.optimizer->averages())
    throw Error(ErrorKind::unsupported, fmt::format("quant_aware: optim: {} evaluates and saves averages, whose codes are others", c.optim),
                "use another optimizer");
  if (c.dry_run) return TrainEnd::dry_run;
  run.data_hash = fmt::format("{:016x}{:016x}", data_fingerprint(input.data.train), data_fingerprint(input.data.eval));
  for (const NamedSet& one : input.data.evals) run.data_hash += fmt::format("{:016x}", data_fingerprint(one.set));
  write_start(run);  // of a resumed run too: it is the same, and what is at the end may be gone
  if (!resume_folder.empty()) resume(run, resume_folder);
  else if (c.overwrite_output_dir) remove_checkpoints(c.output_dir);
  if (run.quant_aware && !resume_folder.empty()) run.quant_aware->refresh(run.state.global_step, true);
  if (run.gpu && !resume_folder.empty()) run.gpu->put();
  write_run_record(c.output_dir, run.record);
  const bool nothing_left = !resume_folder.empty() && (run.state.global_step >= run.state.max_steps || stopped_early(run.state));
  if (nothing_left && screen.message)
    screen.message(fmt::format("nothing left to do: {} is at update {} of {}; the results are written from it once more", resume_folder,
                               run.state.global_step, run.state.max_steps));
  // It may have been killed between its last checkpoint and the removal of the oldest.
  if (nothing_left)
    remove_old_checkpoints(c.output_dir, c.save_total_limit, run.state.best_model_checkpoint.value_or(""), run.state.global_step);
  run.records_kept = nothing_left && take_over_records(run);
  if (!run.records_kept) begin_records(run);
  watch_loss(run);
  run.start = run.last_log = seconds_now();
  if (c.eval_on_start && run.evaluates() && run.state.global_step == 0) evaluate_and_note(run);
  if (!nothing_left) {
    if (input.rollouts) rolled_out_epochs(run);
    else if (input.stream) streamed_epochs(run);
    else if (counts_tokens_of_batches(c)) token_epochs(run);
    else epochs(run);
  }
  if (input.stop && input.stop->load() && run.state.global_step < run.state.max_steps && !stopped_early(run.state)) {
    run.reporters.end();
    return TrainEnd::stopped;
  }
  finish(run);
  return TrainEnd::finished;
}

}  // namespace loraine
