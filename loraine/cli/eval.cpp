// loraine eval: loss, likeness of answers, examinations, perplexity, questions of one's own; adapters against their base.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <optional>
#include <set>

#include "loraine/cli/commands.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/progress.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/core/stopped.h"
#include "loraine/eval/evaluate.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/config/other_words.h"

namespace loraine {
namespace {

bool needs_text(const TrainConfig&, const EvalConfig& eval) {
  return eval.task || eval.choice_file || eval.match_file || eval.predict_with_generate || eval.do_predict;
}

bool is_true(const std::vector<Setting>& settings, const std::string& key) {
  std::optional<bool> value;
  const Option option{key, "", &value, ""};
  for (const Setting& setting : settings)
    if (setting.key == key) set_option(option, setting);
  return value.value_or(false);
}

}  // namespace

bool only_evaluates(const std::vector<std::string>& args) {
  if (std::ranges::any_of(args, [](const std::string& word) { return word == "--help" || word == "-h"; })) return false;
  EvalConfig eval;
  std::vector<std::string> told_later;
  const std::vector<Setting> settings = in_own_words(read_arguments(args), options_of(eval), told_later);
  const bool has_data =
      std::ranges::any_of(settings, [](const Setting& setting) { return setting.key == "dataset" && setting.text != "null"; });
  if (is_true(settings, "do_train")) return false;
  return is_true(settings, "do_predict") || (is_true(settings, "do_eval") && !has_data);
}

std::string evaluation_results(const std::vector<std::string>& args) {
  TrainConfig config;
  EvalConfig eval;
  apply_settings(config, read_arguments(args), options_of(eval));
  return read_file(config.output_dir + "/eval_results.json");
}

int run_eval(const std::vector<std::string>& args) {
  const std::atomic<bool> never{false};
  return run_eval(args, never);
}

int run_eval(const std::vector<std::string>& args, const std::atomic<bool>& stop) {
  TrainConfig config;
  EvalConfig eval;
  const std::vector<Option> own = options_of(eval);
  if (!read_config(args, "eval", config, own)) return 0;
  take_task(config, eval);
  check_eval_config(config, eval);
  const std::unique_ptr<LoadedModel> loaded =
      load_for_answers(config, {.needs_text = needs_text(config, eval), .one_template = true, .gpu = config.stage != "decision"});
  for (const std::string& place : loaded->places) print_stderr(place + "\n");
  for (const auto& [kind, text] : loaded->warnings) print_stderr("warning: " + text + "\n");
  if (eval.ppl_file && !loaded->text.tokenizer)
    throw Error(ErrorKind::bad_data, config.model_name_or_path + ": has no tokenizer.json, and ppl_file needs one");
  const EvalInput input = read_eval_input(*loaded, eval);
  for (const std::string& line : input.recognised) print_stderr(line + "\n");
  if (input.num_dropped > 0)
    input_warning(fmt::format("{} rows that cannot be used were dropped", input.num_dropped), config.strict, ErrorKind::usage);
  std::optional<Progress> bar;
  std::string shown;
  std::vector<EvalResult> results;
  try {
    results = evaluate_models(*loaded, eval, input, [&](const std::string& model, const std::string& what, int64_t done, int64_t total) {
      if (stop) throw Stopped();
      const std::string title = model + ", " + what;
      if (title != shown) {
        if (bar) bar->finish();
        bar.emplace(shown = title);
      }
      bar->update({done, total, {}, {}, {}, {}});
    });
  } catch (const Stopped&) {
    if (bar) bar->finish();
    print_stderr("stopped; nothing was written\n");
    return kExitStopped;
  }
  if (bar) bar->finish();
  std::set<std::string> warnings;  // several models may give the same
  for (const EvalResult& result : results) warnings.insert(result.warnings.begin(), result.warnings.end());
  for (const std::string& text : warnings) print_stderr("warning: " + text + "\n");
  write_eval_results(*loaded, eval, results);
  std::fputs(table_text("evaluation", comparison_rows(results)).c_str(), stdout);
  std::fflush(stdout);
  print_stderr("wrote " + config.output_dir + "/eval_results.json\n");
  return 0;
}

}  // namespace loraine
