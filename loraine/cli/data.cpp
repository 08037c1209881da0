// loraine data: what training would see of its data, before a model is loaded.
#include <fmt/format.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "loraine/api/new_tokens.h"
#include "loraine/cli/commands.h"
#include "loraine/cli/data/report.h"
#include "loraine/cli/input_warning.h"
#include "loraine/cli/language/language.h"
#include "loraine/cli/print_line.h"
#include "loraine/cli/settings/arguments.h"
#include "loraine/cli/training_template.h"
#include "loraine/data/order/stream.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/train/config/hub_access.h"
#include "loraine/train/config/load_options.h"
#include "loraine/train/config/named_adapters.h"

namespace loraine {
namespace {

bool shows_colour() {
  const char *no = std::getenv("NO_COLOR"), *terminal = std::getenv("TERM");
  return isatty(STDOUT_FILENO) && !(no && *no) && !(terminal && std::string_view(terminal) == "dumb");
}

// The first examples of a stream, with the counts of what was read for them.
Dataset beginning(ExampleStream& stream, int64_t most) {
  std::vector<Example> examples;
  while (static_cast<int64_t>(examples.size()) < most) {
    std::optional<Example> example = stream.next();
    if (!example) break;
    examples.push_back(std::move(*example));
  }
  Dataset set = stream.counts();
  set.examples = std::move(examples);
  return set;
}

}  // namespace

int run_data(const std::vector<std::string>& args) {
  TrainConfig c;
  int64_t examples = 3;
  bool ids = false;
  std::string page, json;
  const std::vector<Option> own = {
      {"examples", "data shown", &examples, "examples of each set that are shown", {.lowest = 0, .highest = 1e6}},
      {"ids", "data shown", &ids, "with their token ids and labels"},
      {"html", "data shown", &page, "write it as a page to this file instead"},
      {"json", "data shown", &json,
       "write every example to this file, a line each: ids and labels, in the order of training without shuffling"},
  };
  if (!read_config(args, "data", c, own)) return 0;
  check_data_config(c);
  ModelFiles files = open_text_files(c.model_name_or_path, hub_access(c));
  print_place(files.place_note);
  std::string adapter;
  for (const FoundPlace& place : adapter_places(c, kSeveralAdapters)) {
    print_place(place.note);
    adapter = place.path;
  }
  ModelText text = open_text(files);
  if (text.tokenizer) input_warning(files.tokenizer_note, c.strict, ErrorKind::usage);
  const TemplateChoice choice = training_template(c, files, text, adapter);
  print_place(add_new_tokens(files, text, c, missing_stop_words(choice, text)));
  c.dry_run = true;  // nothing is kept
  DataOptions options = data_options_with(c, choice, files, text);
  options.accept_untrained = true;  // it is told
  options.keep_whole = examples;
  SpecialTokens special;
  if (text.tokenizer) special = special_tokens_of(files, *text.tokenizer);
  DataSplit data;
  if (options.streaming) {
    StreamedData streamed = open_stream(options, text.tokenizer.get(), text.chat_template.get(), special);
    data = std::move(streamed.rest);
    if (streamed.train) data.train = beginning(*streamed.train, json.empty() ? examples : INT64_MAX);
  } else {
    data = open_data(options, text.tokenizer.get(), text.chat_template.get(), special);
  }
  for (const std::string& line : data.recognised) print_stderr(line + "\n");
  DataReport report{data, text.tokenizer.get(), special, options.cutoff_len, examples, ids, {}};
  report.heading = fmt::format("stage {}, template {}, {} {}", c.stage, c.stage == "pt" ? "none" : choice.text(),
                               c.stage == "grpo" ? "max_prompt_length" : "cutoff_len", options.cutoff_len);
  if (!json.empty()) report.write_json(json);
  if (!page.empty()) write_file(page, report.page());
  if (!page.empty() || !json.empty()) {
    for (const std::string& file : {page, json})
      if (!file.empty()) print_stderr("wrote " + file + "\n");
    return 0;
  }
  std::fputs(translated(report.text(shows_colour())).c_str(), stdout);
  std::fflush(stdout);
  return 0;
}

}  // namespace loraine
