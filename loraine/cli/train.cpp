// loraine train: settings, data and screen around train().
#include "loraine/train/train.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>

#include "loraine/api/chat_format.h"
#include "loraine/api/open_text.h"
#include "loraine/cli/arguments.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/template_files.h"
#include "loraine/cli/train_screen.h"
#include "loraine/cli/training_template.h"
#include "loraine/core/error.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/data_options.h"
#include "loraine/train/hub_access.h"
#include "loraine/train/load_options.h"
#include "loraine/train/memory.h"
#include "loraine/train/push.h"

namespace loraine {
namespace {

// `by_signal`: set by the first SIGTERM or SIGINT, where they are this command's own; the second one ends the program.
int train_command(const std::vector<std::string>& args, const std::atomic<bool>& stop, std::atomic<bool>* by_signal) {
  TrainInput input;
  if (!read_config(args, "train", input.config)) return 0;
  const TrainConfig& c = input.config;
  input.folder = open_run_folder(c);
  input.files = open_model_files(c.model_name_or_path, hub_access(c));
  print_place(input.files.place_note);
  std::string adapter;                                                   // the last one, which training goes on with
  for (const FoundPlace& place : adapter_places(c, kSeveralAdapters)) {  // found before anything takes long
    print_place(place.note);
    adapter = place.path;
  }
  ModelText text = open_text(input.files);
  if (text.tokenizer) input_warning(input.files.tokenizer_note, c.strict, ErrorKind::usage);
  const TemplateChoice choice = training_template(c, input.files, text, adapter);
  input.record = {choice.name, choice.default_system, choice.enable_thinking, "", choice.tool_format, choice.preserve_thinking};
  DataOptions options = data_options_with(c, choice, input.files, text);
  SpecialTokens special;
  if (text.tokenizer) special = special_tokens_of(input.files, *text.tokenizer);
  input.data = open_data(options, text.tokenizer.get(), text.chat_template.get(), special);
  if (const int64_t dropped = input.data.train.num_dropped + input.data.eval.num_dropped; dropped > 0)
    input_warning(fmt::format("{} rows that cannot be used were dropped", dropped), c.strict, ErrorKind::usage);
  for (const std::string& line : input.data.recognised) print_stderr(line + "\n");
  if (text.tokenizer && options.template_name)
    apply_template_to_files(input.files, named_template(*options.template_name, options.default_system), *text.tokenizer, special, "right");
  if (text.tokenizer && c.finetuning_type != "lora") align_special_tokens(input.files, special);
  print_heading(run_heading(c, input.files, text.tokenizer && c.stage != "pt" ? choice.text() : ""));
  print_data("training", input.data.train);
  print_data("evaluation", input.data.eval);
  for (const NamedSet& one : input.data.evals) print_data(one.name.c_str(), one.set);
  print_example(input.data.train, text.tokenizer.get());
  check_rows(c, input.data.train, "training");
  check_rows(c, input.data.eval, "evaluation");
  for (const NamedSet& one : input.data.evals) check_rows(c, one.set, one.name.c_str());
  std::optional<Push> push_target;  // what is wrong with it costs nobody a run
  if (c.push_to_hub && !c.dry_run) push_target = prepare_push(c, c.hub_model_id.value_or(""), c.output_dir);
  if (push_target) push_target->target.message = "End of training";
  input.stop = &stop;
  if (by_signal) {  // until the process ends: a signal that comes when all is saved changes nothing
    static const auto* const watch = new SignalWatch({SIGTERM, SIGINT}, [by_signal](int) {
      if (by_signal->exchange(true)) _exit(130);
    });
    static_cast<void>(watch);
  }
  Progress bar("train");
  TrainScreen screen;
  size_t forecast = 0;
  screen.summary = [&](const TrainSummary& summary) {
    forecast = summary.peak_bytes;
    print_summary(summary, c.dry_run);
  };
  screen.message = [&](const std::string& line) { bar.message(line); };
  screen.progress = [&](int64_t step, int64_t total, double loss, double rate, double speed) {
    bar.update({step, total, loss, rate, speed, {}});
  };
  TrainEnd end = train(input, screen);
  if (end == TrainEnd::dry_run) return 0;
  bar.finish();
  if (end == TrainEnd::stopped) {
    print_stderr(c.save_only_model ? "stopped; the last checkpoint in " + c.output_dir + " holds the model alone (save_only_model)\n"
                                   : "stopped; the same command goes on from the last checkpoint in " + c.output_dir + "\n");
    return kExitStopped;
  }
  print_stderr(fmt::format("saved the {} to {}\n", c.finetuning_type == "lora" ? "adapter" : "model", c.output_dir));
  print_stderr(fmt::format("peak memory: {} (measured, the saving included; the forecast was {})\n",
                           memory_text(static_cast<double>(peak_resident_size())), memory_text(static_cast<double>(forecast))));
  if (push_target) print_stderr(push(*push_target) + "\n");
  return 0;
}

}  // namespace

std::string training_results(const std::vector<std::string>& args) {
  TrainConfig config;
  apply_settings(config, read_arguments(args));
  return config.dry_run ? "{}" : read_file(config.output_dir + "/all_results.json");
}

int run_train(const std::vector<std::string>& args) {
  if (only_evaluates(args)) return run_eval(args);
  static std::atomic<bool> stop{false};
  return train_command(args, stop, &stop);
}

int run_train(const std::vector<std::string>& args, const std::atomic<bool>& stop) {
  if (only_evaluates(args)) return run_eval(args, stop);
  return train_command(args, stop, nullptr);
}

}  // namespace loraine
