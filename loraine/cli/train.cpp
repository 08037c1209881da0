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
#include "loraine/core/count_text.h"
#include "loraine/core/error.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/config/named_adapters.h"
#include "loraine/train/data_options.h"
#include "loraine/train/memory.h"

namespace loraine {
namespace {

void print_data(const char* name, const Dataset& data) {
  if (data.num_rows == 0) return;
  print_stderr(table_text(fmt::format("{} data", name),
                          {{"examples", count_text(static_cast<int64_t>(data.examples.size()))},
                           {"tokens", count_text(data.num_tokens)},
                           {"trained tokens", count_text(data.num_trained)},
                           {"longest", count_text(data.longest)},
                           {"cut", count_text(data.num_truncated)},
                           {"without trained tokens", count_text(data.num_untrained)},
                           {"dropped", count_text(data.num_dropped)}},
                          false));
  for (const std::string& row : data.dropped_rows) print_stderr("dropped: " + row + "\n");
}

void print_summary(const TrainSummary& s, bool dry_run) {
  auto bytes = [](size_t n) { return memory_text(static_cast<double>(n)); };
  print_stderr(
      table_text("parameters",
                 {{"trainable", count_text(s.trainable)},
                  {"all", count_text(s.parameters)},
                  {"percent", fmt::format("{:.4f}", 100.0 * static_cast<double>(s.trainable) / static_cast<double>(s.parameters))}},
                 false));
  print_stderr(table_text("memory",
                          {{"weights", bytes(s.weight_bytes)},
                           {"adapter and gradients", bytes(s.adapter_bytes)},
                           {"optimizer", bytes(s.optimizer_bytes)},
                           {"activations", bytes(s.activation_bytes)},
                           {"recomputed", s.recompute == Recompute::block ? "blocks"
                                          : s.recompute == Recompute::mlp ? "gate and up"
                                                                          : "nothing"},
                           {"scratch", bytes(s.scratch_bytes)},
                           {"sum", bytes(s.weight_bytes + s.adapter_bytes + s.optimizer_bytes + s.activation_bytes + s.scratch_bytes)}},
                          false));
  print_stderr(
      fmt::format("{} steps, {} micro-batches an epoch, at most {} tokens each\n", s.steps, s.batches_per_epoch, s.micro_batch_rows));
  const std::string forecast = fmt::format("memory forecast: {}\n", bytes(s.peak_bytes));
  if (!dry_run) return print_line(STDOUT_FILENO, forecast);
  std::fputs(forecast.c_str(), stdout);  // what was asked for
  std::fflush(stdout);
}

void check_untrained(const TrainConfig& c, const Dataset& data, const char* name) {
  if (data.num_untrained == 0) return;
  input_warning(fmt::format("{} of {} rows of the {} data hold no trained token: their answers are empty, or lie behind cutoff_len ({})",
                            data.num_untrained, data.examples.size(), name, c.cutoff_len),
                c.strict, ErrorKind::usage);
}

// The template of the run: as given, else the one that the adapter or the model it goes on from was trained with, else the model's own,
// else `empty`. Said, and kept for whoever loads the result.
TemplateChoice choose_training_template(TrainInput& input, ModelText& text) {
  const TrainConfig& c = input.config;
  const std::vector<std::string> adapters = joined_adapters(c.adapter_name_or_path, "training goes on with the last one");
  TemplateChoice choice = choose_template(c, input.files, adapters.empty() ? std::string() : adapters.back());
  input_warning(choice.warning, c.strict, ErrorKind::usage);
  if (const auto error = unfit_template(choice, text)) input_warning(error->what() + std::string(kSpelled), c.strict, error->kind);
  if (choice.jinja) {
    input.files.chat_template = choice.jinja;
    input.files.chat_templates.clear();
    text = open_text(input.files);
  }
  if (c.stage != "pt" && has_template(choice, text)) {
    print_stderr("template: " + choice.text() + "\n");
  } else if (c.stage != "pt" && text.tokenizer && input.files.chat_templates.empty()) {
    choice.name = "empty";
    print_stderr(
        "template: empty (the model has no chat template): questions and answers follow each other without a mark. To train a "
        "conversation,\n"
        "  name a template: `template: alpaca`, `template: chatml`, …; chat, eval and export then use the same\n");
  }
  input.record = {choice.name, choice.default_system, choice.enable_thinking, ""};
  return choice;
}

// `by_signal`: set by the first SIGTERM or SIGINT, where they are this command's own; the second one ends the program.
int train_command(const std::vector<std::string>& args, const std::atomic<bool>& stop, std::atomic<bool>* by_signal) {
  TrainInput input;
  if (!read_config(args, "train", input.config)) return 0;
  const TrainConfig& c = input.config;
  input.folder = open_run_folder(c);
  input.files = open_model_files(c.model_name_or_path);
  ModelText text = open_text(input.files);
  if (text.tokenizer) input_warning(input.files.tokenizer_note, c.strict, ErrorKind::usage);
  const TemplateChoice choice = choose_training_template(input, text);
  DataOptions options = data_options(c);
  options.template_name = choice.name;
  options.default_system = choice.default_system;
  options.enable_thinking = choice.enable_thinking;
  fit_to_model(options, input.files, text);
  SpecialTokens special;
  if (text.tokenizer) special = special_tokens_of(input.files, *text.tokenizer);
  input.data = open_data(options, text.tokenizer.get(), text.chat_template.get(), special);
  if (const int64_t dropped = input.data.train.num_dropped + input.data.eval.num_dropped; dropped > 0)
    input_warning(fmt::format("{} rows that cannot be used were dropped", dropped), c.strict, ErrorKind::usage);
  check_untrained(c, input.data.train, "training");
  check_untrained(c, input.data.eval, "evaluation");
  if (text.tokenizer && options.template_name)
    apply_template_to_files(input.files, named_template(*options.template_name, options.default_system), *text.tokenizer, special, "right");
  if (text.tokenizer && c.finetuning_type != "lora") align_special_tokens(input.files, special);
  print_data("training", input.data.train);
  print_data("evaluation", input.data.eval);
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
