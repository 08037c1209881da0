// Opening a model's text files.
#include "loraine/api/open_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace loraine {
namespace {

nlohmann::ordered_json tokenizer_config_of(const ModelFiles& files) {
  return files.tokenizer_config ? nlohmann::ordered_json::parse(files.tokenizer_config->dump()) : nlohmann::ordered_json::object();
}

}  // namespace

ModelText open_text(const ModelFiles& files) {
  ModelText text;
  if (files.tokenizer_json) text.tokenizer = Tokenizer::from_json(*files.tokenizer_json, files.path + "/tokenizer.json");
  if (files.chat_template) {
    text.chat_template = open_chat_template(files, *files.chat_template, files.path + " (chat template)");
    for (const NamedText& one : files.chat_templates)
      if (one.name == "tool_use") text.chat_template->set_tools_template(one.text, files.path + " (chat template tool_use)");
  }
  return text;
}

std::shared_ptr<ChatTemplate> open_chat_template(const ModelFiles& files, const std::string& jinja, const std::string& name) {
  return std::make_shared<ChatTemplate>(jinja, tokenizer_config_of(files), name);
}

Error no_tokenizer(const ModelFiles& files) {
  return Error(ErrorKind::bad_data,
               fmt::format("{}: has no tokenizer.json, which text needs{}", files.path,
                           files.tokenizer_note.empty() ? "" : "; " + files.tokenizer_note),
               fmt::format("put its tokenizer.json there; where other tokenizer files are, transformers makes one of them: "
                           "AutoTokenizer.from_pretrained(\"{0}\").save_pretrained(\"{0}\")",
                           files.path));
}

Error no_chat_template(const ModelFiles& files) {
  if (files.chat_templates.empty())
    return Error(ErrorKind::bad_data, files.path + ": has no chat template of its own", "name one, for example template: chatml");
  std::vector<std::string> names;
  for (const NamedText& one : files.chat_templates) names.push_back('"' + one.name + '"');
  return Error(
      ErrorKind::bad_data,
      fmt::format("{}: has the chat templates {} and none called \"default\", which is the one that counts; another would be a guess",
                  files.path, fmt::join(names, ", ")),
      "name a template, for example template: chatml, or call one of them \"default\" in tokenizer_config.json");
}

void fit_to_model(DataOptions& options, const ModelFiles& files, const ModelText& text) {
  options.vocab_size = embedding_rows(files);
  options.no_tokenizer = no_tokenizer(files);
  options.no_chat_template = no_chat_template(files);
  if (!options.template_name && !text.chat_template && files.chat_templates.empty()) options.template_name = "empty";
}

int64_t embedding_rows(const ModelFiles& files) {
  const auto rows = files.config.find("vocab_size");
  return rows != files.config.end() && rows->is_number_integer() ? rows->get<int64_t>() : 0;
}

SpecialTokens special_tokens_of(const ModelFiles& files, const Tokenizer& tokenizer) {
  return read_special_tokens(tokenizer_config_of(files), tokenizer);
}

}  // namespace loraine
