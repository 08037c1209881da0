// loraine train: settings, data and screen around train().
#include "loraine/train/train.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <cstdio>

#include "loraine/api/chat_format.h"
#include "loraine/api/new_tokens.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/cli/template_files.h"
#include "loraine/cli/train_screen.h"
#include "loraine/cli/training_template.h"
#include "loraine/core/count_text.h"
#include "loraine/core/error.h"
#include "loraine/core/signals.h"
#include "loraine/core/stopped.h"
#include "loraine/eval/evaluate.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/fingerprint.h"
#include "loraine/io/fresh_weights.h"
#include "loraine/model/load.h"
#include "loraine/rollouts/engine_rollouts.h"
#include "loraine/train/config/data_options.h"
#include "loraine/train/config/decisions.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/gpu/device.h"
#include "loraine/train/memory.h"
#include "loraine/train/saving/push.h"

namespace loraine {
namespace {

// The model that the run has trained: what LLaMA-Factory has in memory still.
TrainConfig trained_model(const TrainConfig& trained) {
  TrainConfig c = trained;
  c.quantization_bit = trains_adapter(trained) ? trained.quantization_bit : std::nullopt;
  if (!trains_adapter(trained)) {
    c.model_name_or_path = trained.output_dir;
    c.adapter_name_or_path.reset();
    return c;
  }
  std::vector<std::string> on = split_list(trained.adapter_name_or_path);
  if (!trained.create_new_adapter && !on.empty()) on.pop_back();  // it was trained on; those before it were merged
  on.push_back(trained.output_dir);
  c.adapter_name_or_path = fmt::format("{}", fmt::join(on, ","));
  return c;
}

// do_predict at the end of a run: answers to the questions of eval_dataset, and what they are worth. False when it was stopped.
bool predict_trained(const TrainConfig& trained, const std::atomic<bool>& stop) {
  EvalConfig eval;
  eval.do_predict = true;
  const TrainConfig c = trained_model(trained);
  const std::unique_ptr<LoadedModel> loaded = load_for_answers(c, {.needs_text = true, .one_template = true, .gpu = true});
  for (const auto& [kind, text] : loaded->warnings) print_stderr("warning: " + text + "\n");
  EvalInput input = read_eval_input(*loaded, eval);
  input.examples.clear();  // their loss is do_eval's
  Progress bar("predict");
  std::vector<EvalResult> results;
  try {
    results = evaluate_models(*loaded, eval, input, [&](const std::string&, const std::string&, int64_t done, int64_t total) {
      if (stop) throw Stopped();
      bar.update({done, total, {}, {}, {}, {}});
    });
  } catch (const Stopped&) { return false; }
  bar.finish();
  for (const std::string& text : results.back().warnings) print_stderr("warning: " + text + "\n");
  write_predictions(trained.output_dir, results.back());
  print_stderr("wrote " + trained.output_dir + "/generated_predictions.jsonl\n");
  return true;
}

// What train does beside TrainConfig's settings.
struct AtTheEnd {
  bool do_predict = false, predict_with_generate = false;
};
std::vector<Option> options_of(AtTheEnd& c) {
  return {{"do_predict", "run", &c.do_predict, "at the end answer the questions of eval_dataset, with predict_with_generate"},
          {"predict_with_generate", "run", &c.predict_with_generate, "what do_predict measures are answers: BLEU-4, ROUGE"}};
}

void check_at_the_end(const TrainConfig& c, const AtTheEnd& end) {
  const auto refuse = [](const std::string& what, const std::string& hint) { throw Error(ErrorKind::usage, what, hint); };
  if (!end.do_predict && !end.predict_with_generate) return;
  if (c.stage != "sft" && end.predict_with_generate)
    refuse("predict_with_generate goes with stage sft only, and it is " + c.stage, "leave it out");
  if (c.stage != "sft" && c.stage != "rm") refuse("do_predict goes with stages sft and rm only, and it is " + c.stage, "leave it out");
  if (c.stage == "sft" && !end.predict_with_generate) refuse("do_predict needs predict_with_generate", "set predict_with_generate: true");
  if (!end.do_predict)
    refuse("predict_with_generate without do_predict: evaluations while training measure the loss",
           "set do_predict: true to have answers at the end");
  if (split_list(c.eval_dataset).empty())
    refuse(c.stage == "rm" ? "do_predict scores the answers of eval_dataset, which is not given"
                           : "do_predict answers the questions of eval_dataset, which is not given",
           "name a set");
}

// A model that starts at random: what its config.json implies, whatever weights lie there.
ModelFiles open_to_start(const TrainConfig& c) {
  ModelFiles files = open_text_files(c.model_name_or_path, hub_access(c));
  if (files.config.empty())
    throw Error(ErrorKind::bad_data, files.path + ": has no config.json, which says what model to start",
                "give a folder with config.json and a tokenizer");
  files.tensors = fresh_weights(files, tensors_of(files.config, files.path + "/config.json"), static_cast<uint64_t>(c.seed));
  files.fingerprint = weights_fingerprint(*files.tensors);
  return files;
}

// `by_signal`: set by the first SIGTERM or SIGINT, where they are this command's own; the second one ends the program.
int train_command(const std::vector<std::string>& args, const std::atomic<bool>& stop, std::atomic<bool>* by_signal) {
  TrainInput input;
  AtTheEnd at_the_end;
  if (!read_config(args, "train", input.config, options_of(at_the_end))) return 0;
  const TrainConfig& c = input.config;
  check_at_the_end(c, at_the_end);
  input.folder = open_run_folder(c);
  input.files = c.train_from_scratch ? open_to_start(c) : open_model_files(c.model_name_or_path, hub_access(c));
  print_place(input.files.place_note);
  print_place(stretch_positions(input.files, c, true));
  if (c.train_from_scratch) print_place("train_from_scratch: all weights start at random");
  const DeviceChoice device = choose_device(c, input.files);
  input.device = device.device;
  print_place(device.text);
  std::string adapter;                                                   // the last one, which training goes on with
  for (const FoundPlace& place : adapter_places(c, kSeveralAdapters)) {  // found before anything takes long
    print_place(place.note);
    adapter = place.path;
  }
  ModelText text = open_text(input.files);
  if (text.tokenizer) input_warning(input.files.tokenizer_note, c.strict, ErrorKind::usage);
  const TemplateChoice choice = training_template(c, input.files, text, adapter);
  print_place(add_new_tokens(input.files, text, c, missing_stop_words(choice, text)));
  if (adds_tokens(c) && trains_adapter(c) && !c.additional_target)  // new rows are trained, and saved with the adapter
    input.config.additional_target = input.files.config.value("tie_word_embeddings", false) ? "embed_tokens" : "embed_tokens,lm_head";
  input.record = {choice.name, choice.default_system, choice.enable_thinking, "", choice.tool_format, choice.preserve_thinking};
  DataOptions options = data_options_with(c, choice, input.files, text);
  SpecialTokens special;
  if (text.tokenizer) special = special_tokens_of(input.files, *text.tokenizer);
  if (options.streaming) {
    StreamedData streamed = open_stream(options, text.tokenizer.get(), text.chat_template.get(), special);
    input.data = std::move(streamed.rest);
    input.stream = std::move(streamed.train);
  } else {
    input.data = open_data(options, text.tokenizer.get(), text.chat_template.get(), special);
  }
  if (const int64_t dropped = input.data.train.num_dropped + input.data.eval.num_dropped; dropped > 0)
    input_warning(fmt::format("{} rows that cannot be used were dropped", dropped), c.strict, ErrorKind::usage);
  for (const std::string& line : input.data.recognised) print_stderr(line + "\n");
  if (text.tokenizer && options.template_name)
    apply_template_to_files(input.files, named_template(*options.template_name, options.default_system), *text.tokenizer, special, "right");
  if (c.stage == "grpo") input.rollouts = open_rollouts(c, input.files, *text.tokenizer, special);
  if (text.tokenizer && !trains_adapter(c)) align_special_tokens(input.files, special);
  print_heading(run_heading(c, input.files, text.tokenizer && c.stage != "pt" ? choice.text() : ""));
  if (input.stream)
    print_stderr(fmt::format("training data: read while they are trained on, in a random order among {} rows\n", c.buffer_size));
  else print_data("training", input.data.train);
  print_data("evaluation", input.data.eval);
  if (holds_out(c))
    print_stderr(fmt::format("{} rows are held out of training: the temperature is fitted on them (decision_holdout)\n",
                             count_text(static_cast<int64_t>(input.data.eval.size()))));
  for (const NamedSet& one : input.data.evals) print_data(one.name.c_str(), one.set);
  if (!input.stream) {
    print_example(input.data.train, text.tokenizer.get());
    check_rows(c, input.data.train, "training");
  }
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
  print_stderr(fmt::format("saved the {} to {}\n", trains_adapter(c) ? "adapter" : "model", c.output_dir));
  print_stderr(fmt::format("peak memory: {} (measured, the saving included; the forecast was {})\n",
                           memory_text(static_cast<double>(peak_resident_size())), memory_text(static_cast<double>(forecast))));
  if (at_the_end.do_predict && !predict_trained(c, stop)) {
    print_stderr("stopped; nothing was predicted\n");
    return kExitStopped;
  }
  if (push_target) print_stderr(push(*push_target) + "\n");
  return 0;
}

}  // namespace

std::string training_results(const std::vector<std::string>& args) {
  TrainConfig config;
  AtTheEnd at_the_end;
  apply_settings(config, read_arguments(args), options_of(at_the_end));
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
