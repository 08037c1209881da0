// The story of a run of supervised fine-tuning: folder, model, adapter, plan, steps, files.
#include "loraine/train/train.h"

#include <fmt/format.h>

#include <chrono>
#include <filesystem>

#include "loraine/data/orders.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/fingerprint.h"
#include "loraine/model/finite.h"
#include "loraine/model/int8.h"
#include "loraine/model/load.h"
#include "loraine/train/load_options.h"
#include "loraine/train/run.h"

namespace loraine {

double seconds_now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

void warn(Run& run, ErrorKind kind, const std::string& message) {
  if (run.config.strict) throw Error(kind, message, "correct it, or leave strict out to go on with a warning");
  if (run.screen.message) run.screen.message("warning: " + message);
}

RunFolder open_run_folder(const TrainConfig& c) {
  RunFolder folder;
  const std::string asked = c.resume_from_checkpoint.value_or("");
  const bool newest_asked = asked == "true", none_asked = asked == "false", given = !asked.empty() && !newest_asked && !none_asked;
  if (given) folder.resume_from = asked;
  std::error_code ignored;
  // A folder in use says so, whatever else is in it.
  if (!c.dry_run && std::filesystem::exists(c.output_dir + "/.loraine.lock", ignored)) {
    folder.lock = std::make_unique<OutputLock>(c.output_dir);
    settle_output_dir(c.output_dir);
  }
  std::vector<DamagedCheckpoint> damaged;
  auto newest = check_output_dir(c.output_dir, (c.overwrite_output_dir && !newest_asked) || given, &damaged);
  for (const DamagedCheckpoint& one : damaged) folder.warnings.push_back(fmt::format("{} is damaged: {}", one.path, one.reason));
  if (newest_asked && !newest)
    throw Error(ErrorKind::usage,
                fmt::format("resume_from_checkpoint is true, and output_dir {} holds no checkpoint to go on from", c.output_dir),
                "leave resume_from_checkpoint out, or name the folder of a checkpoint");
  if (none_asked && newest)
    throw Error(ErrorKind::usage,
                fmt::format("resume_from_checkpoint is false, and output_dir {} holds the checkpoints of a run", c.output_dir),
                "choose another output_dir, or set overwrite_output_dir: true to start anew in it");
  if (!given && newest) folder.resume_from = newest->path;
  if (c.dry_run) return folder;
  make_folders(c.output_dir);
  if (!folder.lock) folder.lock = std::make_unique<OutputLock>(c.output_dir);
  DurableFile probe(c.output_dir + "/.loraine.probe");  // removed again: it is never committed
  const std::string bytes(1 << 16, '.');
  probe.write(bytes.data(), bytes.size());
  return folder;
}

namespace {

// After an update: evaluation and checkpoint when due. False when the run ends here.
bool after_update(Run& run, bool epoch_end) {
  const TrainConfig& c = run.config;
  TrainerState& s = run.state;
  bool last = s.global_step >= s.max_steps, stop = run.input.stop && run.input.stop->load();
  // The last update is evaluated wherever it falls, as transformers does since 5.
  bool eval_due = run.evaluates() && ((c.eval_strategy == "steps" && (s.global_step % run.eval_steps == 0 || last)) ||
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
  run.model = load_model(input.files, load_options(c));
  if (const std::string text = untied_text(run.model); !text.empty()) warn(run, ErrorKind::bad_data, text);
  run.model.read_once = c.frozen_matmul == "int8";  // the layers are read here, and once more to be rounded
  if (const std::string text = not_finite_text(run.model); !text.empty()) warn(run, ErrorKind::numeric, text);
  run.model.read_once = false;
  attach(run);
  if (c.finetuning_type == "lora") input.record.base_fingerprint = weights_fingerprint(*input.files.tensors);
  if (c.frozen_matmul == "int8") round_frozen(run);
  plan(run);
  if (c.dry_run) return TrainEnd::dry_run;
  run.data_hash = fmt::format("{:016x}{:016x}", data_fingerprint(input.data.train.examples), data_fingerprint(input.data.eval.examples));
  write_start(run);  // of a resumed run too: it is the same, and what is at the end may be gone
  if (!resume_folder.empty()) resume(run, resume_folder);
  else if (c.overwrite_output_dir) remove_checkpoints(c.output_dir);
  const bool nothing_left = !resume_folder.empty() && run.state.global_step >= run.state.max_steps;
  if (nothing_left && screen.message)
    screen.message(fmt::format("nothing left to do: {} is at update {} of {}; the results are written from it once more", resume_folder,
                               run.state.global_step, run.state.max_steps));
  run.records_kept = nothing_left && take_over_records(run);
  if (!run.records_kept) begin_trainer_log(c.output_dir, resume_folder.empty() ? std::optional<int64_t>() : run.state.global_step);
  run.start = run.last_log = seconds_now();
  if (c.eval_on_start && run.evaluates() && run.state.global_step == 0) evaluate_and_note(run);
  if (run.state.global_step < run.state.max_steps) epochs(run);
  if (input.stop && input.stop->load() && run.state.global_step < run.state.max_steps) return TrainEnd::stopped;
  finish(run);
  return TrainEnd::finished;
}

}  // namespace loraine
