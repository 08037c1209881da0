// Writing the JSON and text files of a model folder as Hugging Face lays them out.
#include "loraine/io/write_text_files.h"

#include <algorithm>

#include "loraine/io/files/durable_file.h"

namespace loraine {

namespace {

// transformers 5's name of the class, and its list under extra_special_tokens, end transformers 4; the older spellings both read.
void spell_for_all(Json& config) {
  if (config.value("tokenizer_class", Json()) == "TokenizersBackend") config["tokenizer_class"] = "PreTrainedTokenizerFast";
  const auto extra = config.find("extra_special_tokens");
  if (extra == config.end() || !extra->is_array()) return;
  Json& all = config["additional_special_tokens"];
  if (!all.is_array()) all = Json::array();
  for (const Json& token : config["extra_special_tokens"])
    if (std::find(all.begin(), all.end(), token) == all.end()) all.push_back(token);
  config.erase("extra_special_tokens");
}

void write_chat_templates(const ModelFiles& files, const std::string& folder) {
  if (files.chat_template) write_file(folder + "/chat_template.jinja", *files.chat_template);
  for (const NamedText& one : files.chat_templates)
    if (one.name != "default") {
      make_folders(folder + "/additional_chat_templates");
      write_file(folder + "/additional_chat_templates/" + one.name + ".jinja", one.text);
    }
}

Json chat_template_value(const ModelFiles& files) {
  if (files.chat_templates.empty()) return *files.chat_template;
  Json list = Json::array();
  for (const NamedText& one : files.chat_templates) list.push_back({{"name", one.name}, {"template", one.text}});
  return list;
}

// Whether a key has a value other than the one that leaves it without effect.
bool acts(const Json& config, const char* key, const Json& without_effect) {
  const auto at = config.find(key);
  return at != config.end() && !at->is_null() && *at != without_effect;
}

bool is_true(const Json& config, const char* key) { return config.value(key, Json()) == true; }

}  // namespace

void write_tokenizer_files(const ModelFiles& files, const std::string& folder) {
  if (files.tokenizer_json) write_file(folder + "/tokenizer.json", *files.tokenizer_json);
  for (const NamedText& file : files.tokenizer_files) write_file(folder + "/" + file.name, file.text);
  if (files.tokenizer_config) {
    Json config = *files.tokenizer_config;
    spell_for_all(config);
    if (files.chat_template || !files.chat_templates.empty()) config["chat_template"] = chat_template_value(files);
    write_file(folder + "/tokenizer_config.json", config.dump(2) + "\n");
  }
  write_chat_templates(files, folder);
}

Json consistent_generation_config(Json config) {
  const std::pair<const char*, Json> sampling[] = {{"temperature", 1.0}, {"top_p", 1.0},     {"min_p", nullptr},      {"top_h", nullptr},
                                                   {"top_k", 50},        {"typical_p", 1.0}, {"epsilon_cutoff", 0.0}, {"eta_cutoff", 0.0}};
  const std::pair<const char*, Json> beams[] = {{"early_stopping", false}, {"length_penalty", 1.0}};
  for (const auto& [key, neutral] : sampling)
    if (acts(config, key, neutral)) config["do_sample"] = true;
  for (const auto& [key, neutral] : beams)
    if (!acts(config, "num_beams", 1) && acts(config, key, neutral)) config.erase(key);
  for (const char* key : {"output_attentions", "output_hidden_states", "output_scores", "output_logits"})
    if (!is_true(config, "return_dict_in_generate") && is_true(config, key)) config.erase(key);
  return config;
}

void write_config_files(const ModelFiles& files, const Json& config, const std::string& folder) {
  for (const NamedText& licence : files.licences) write_file(folder + "/" + licence.name, licence.text);
  if (files.generation_config)
    write_file(folder + "/generation_config.json", consistent_generation_config(*files.generation_config).dump(2) + "\n");
  write_file(folder + "/config.json", config.dump(2) + "\n");
}

}  // namespace loraine
