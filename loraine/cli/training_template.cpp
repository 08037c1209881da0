// See training_template.h.
#include "loraine/cli/training_template.h"

#include <algorithm>

#include "loraine/cli/input_warning.h"
#include "loraine/cli/print_line.h"
#include "loraine/train/config/data_options.h"

namespace loraine {

TemplateChoice training_template(const TrainConfig& c, ModelFiles& files, ModelText& text, const std::string& adapter) {
  TemplateChoice choice = choose_template(c, files, adapter);
  input_warning(choice.warning, c.strict, ErrorKind::usage);
  if (const auto error = unfit_template(choice, text)) input_warning(error->what() + std::string(kSpelled), c.strict, error->kind);
  if (choice.jinja) {
    files.chat_template = choice.jinja;
    files.chat_templates.clear();
    text = open_text(files);
  }
  if (c.stage != "pt" && !has_template(choice, text) && text.tokenizer && files.chat_templates.empty()) {
    choice.name = "empty";
    choice.why = "the model has no chat template";
    print_stderr(
        "note: the model has no chat template, and questions and answers follow each other without a mark. To train a conversation, name a "
        "template: `template: alpaca`, `template: chatml`, …; chat, eval and export then use the same\n");
  }
  return choice;
}

DataOptions data_options_with(const TrainConfig& c, const TemplateChoice& choice, const ModelFiles& files, const ModelText& text) {
  DataOptions options = data_options(c);
  options.template_name = choice.name;
  options.default_system = choice.default_system;
  options.enable_thinking = choice.enable_thinking;
  options.preserve_thinking = choice.preserve_thinking;
  options.tool_format = choice.tool_format;
  fit_to_model(options, files, text);
  return options;
}

int64_t missing_stop_words(const TemplateChoice& choice, const ModelText& text) {
  if (!choice.name || *choice.name == "derived" || !text.tokenizer) return 0;
  return std::ranges::count_if(named_template(*choice.name).stop_words,
                               [&](const std::string& word) { return !text.tokenizer->token_to_id(word); });
}

}  // namespace loraine
