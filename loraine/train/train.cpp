// The story of a run of supervised fine-tuning: folder, model, adapter, plan, steps, files.
#include "loraine/train/train.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "loraine/io/files/durable_file.h"
#include "loraine/model/finite.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/load_options.h"
#include "loraine/train/run.h"
#include "loraine/train/sampling.h"

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
  for (int64_t epoch = run.position.epoch;; ++epoch) {
    const std::vector<int64_t> order = epoch_order(c, run.input.data.train.examples, epoch);
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
  run.reporters.begin(c, OrderedJson::parse(run.input.files.config.dump()), from);
}

// A resumed run began with what its log holds first.
void watch_loss(Run& run) {
  std::optional<double> began;
  for (const OrderedJson& entry : run.state.log_history)
    if (!began && entry.contains("loss") && entry["loss"].is_number()) began = entry["loss"].get<double>();
  run.watch.emplace(run.state.max_steps, run.model.config.vocab_size, began);
}

void round_frozen(Run& run) {
  if (run.adapter.dense || run.lora.use_dora)
    throw Error(ErrorKind::unsupported,
                "frozen_matmul: int8 keeps the layers in int8 only, and the adapter that is trained on has DoRA or whole tensors, which "
                "need them in full",
                "leave frozen_matmul out");
  blocks_to_int8(run.model);
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
  if (const std::string text = untied_text(run.model); !text.empty()) warn(run, ErrorKind::bad_data, text);
  run.model.read_once = c.frozen_matmul == "int8";  // the layers are read here, and once more to be rounded
  if (const std::string text = not_finite_text(run.model); !text.empty()) warn(run, ErrorKind::numeric, text);
  run.model.read_once = false;
  attach(run);
  if (c.finetuning_type == "lora") input.record.base_fingerprint = input.files.fingerprint;
  if (c.frozen_matmul == "int8") round_frozen(run);
  plan(run);
  if (c.dry_run) return TrainEnd::dry_run;
  run.data_hash = fmt::format("{:016x}{:016x}", data_fingerprint(input.data.train.examples), data_fingerprint(input.data.eval.examples));
  for (const NamedSet& one : input.data.evals) run.data_hash += fmt::format("{:016x}", data_fingerprint(one.set.examples));
  write_start(run);  // of a resumed run too: it is the same, and what is at the end may be gone
  if (!resume_folder.empty()) resume(run, resume_folder);
  else if (c.overwrite_output_dir) remove_checkpoints(c.output_dir);
  write_run_record(c.output_dir, run.record);
  const bool nothing_left = !resume_folder.empty() && (run.state.global_step >= run.state.max_steps || stopped_early(run.state));
  if (nothing_left && screen.message)
    screen.message(fmt::format("nothing left to do: {} is at update {} of {}; the results are written from it once more", resume_folder,
                               run.state.global_step, run.state.max_steps));
  run.records_kept = nothing_left && take_over_records(run);
  if (!run.records_kept) begin_records(run);
  watch_loss(run);
  run.start = run.last_log = seconds_now();
  if (c.eval_on_start && run.evaluates() && run.state.global_step == 0) evaluate_and_note(run);
  if (!nothing_left) epochs(run);
  if (input.stop && input.stop->load() && run.state.global_step < run.state.max_steps && !stopped_early(run.state)) {
    run.reporters.end();
    return TrainEnd::stopped;
  }
  finish(run);
  return TrainEnd::finished;
}

}  // namespace loraine
