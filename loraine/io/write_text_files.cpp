// Writing the JSON and text files of a model folder as Hugging Face lays them out.
#include "loraine/io/write_text_files.h"

#include "loraine/io/files/durable_file.h"

namespace loraine {

void write_tokenizer_files(const ModelFiles& files, const std::string& folder) {
  if (files.tokenizer_json) write_file(folder + "/tokenizer.json", *files.tokenizer_json);
  if (files.tokenizer_config) {
    Json config = *files.tokenizer_config;
    if (files.chat_template) config.erase("chat_template");
    write_file(folder + "/tokenizer_config.json", config.dump(2) + "\n");
  }
  if (files.chat_template) write_file(folder + "/chat_template.jinja", *files.chat_template);
}

void write_config_files(const ModelFiles& files, const std::string& folder) {
  write_file(folder + "/config.json", files.config.dump(2) + "\n");
  if (files.generation_config) write_file(folder + "/generation_config.json", files.generation_config->dump(2) + "\n");
}

}  // namespace loraine
