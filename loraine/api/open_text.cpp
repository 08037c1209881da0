// Opening a model's text files.
#include "loraine/api/open_text.h"

namespace loraine {

ModelText open_text(const ModelFiles& files) {
  ModelText text;
  if (files.tokenizer_json) text.tokenizer = Tokenizer::from_json(*files.tokenizer_json, files.path + "/tokenizer.json");
  if (files.chat_template) {
    nlohmann::ordered_json special =
        files.tokenizer_config ? nlohmann::ordered_json::parse(files.tokenizer_config->dump()) : nlohmann::ordered_json::object();
    text.chat_template = std::make_unique<ChatTemplate>(*files.chat_template, special, files.path + " (chat template)");
  }
  return text;
}

SpecialTokens special_tokens_of(const ModelFiles& files, const Tokenizer& tokenizer) {
  return read_special_tokens(
      files.tokenizer_config ? nlohmann::ordered_json::parse(files.tokenizer_config->dump()) : nlohmann::ordered_json::object(), tokenizer);
}

}  // namespace loraine
