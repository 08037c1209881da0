// See chat_templates.h.
#include "loraine/io/chat_templates.h"

#include <fmt/format.h>

#include <algorithm>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr uint64_t kMaxTemplate = 16u << 20;

std::string read_template(const std::string& file) {
  std::string text = read_file(file, kMaxTemplate);
  if (!is_utf8(text)) throw Error(ErrorKind::bad_data, file + ": is not valid UTF-8");
  return text;
}

std::vector<NamedText> template_files(const std::string& folder) {
  std::vector<NamedText> found;
  if (const std::string jinja = folder + "/chat_template.jinja"; fs::exists(jinja)) found.push_back({"default", read_template(jinja)});
  std::error_code none;
  std::vector<fs::path> others;
  for (const auto& entry : fs::directory_iterator(folder + "/additional_chat_templates", none))
    if (entry.path().extension() == ".jinja") others.push_back(entry.path());
  std::sort(others.begin(), others.end());
  for (const fs::path& file : others) found.push_back({file.stem().string(), read_template(file.string())});
  return found;
}

std::vector<NamedText> templates_of_config(const Json& tokenizer_config, const std::string& file) {
  const auto at = tokenizer_config.find("chat_template");
  if (at == tokenizer_config.end() || at->is_null()) return {};
  if (at->is_string()) return {{"default", at->get<std::string>()}};
  if (!at->is_array()) throw Error(ErrorKind::bad_data, file + ": chat_template is neither a string nor a list");
  std::vector<NamedText> found;
  for (const Json& item : *at) {
    if (!item.is_object() || !item.contains("name") || !item.contains("template") || !item["name"].is_string() ||
        !item["template"].is_string())
      throw Error(ErrorKind::bad_data, file + ": chat_template has an item without the strings \"name\" and \"template\"");
    found.push_back({item["name"].get<std::string>(), item["template"].get<std::string>()});
    if (const std::string& name = found.back().name;
        name.empty() || name.starts_with('.') || name.find_first_of("/\\") != std::string::npos)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: chat_template has the name {}, expected one that a file can have", file, in_quotes(name)));
  }
  return found;
}

}  // namespace

void read_chat_templates(ModelFiles& files) {
  std::vector<NamedText> found = template_files(files.path);
  const bool own_files = !found.empty();
  if (!own_files && files.tokenizer_config) found = templates_of_config(*files.tokenizer_config, files.path + "/tokenizer_config.json");
  for (const NamedText& one : found)
    if (one.name == "default" || found.size() == 1) files.chat_template = one.text;
  if (own_files && files.chat_template) {
    if (!files.tokenizer_config) files.tokenizer_config = Json::object();
    (*files.tokenizer_config)["chat_template"] = *files.chat_template;
  }
  if (found.size() > 1) files.chat_templates = std::move(found);
}

FolderTemplate read_folder_template(const std::string& folder) {
  ModelFiles files;
  files.path = folder;
  if (const std::string config = folder + "/tokenizer_config.json"; fs::exists(config)) files.tokenizer_config = parse_json_file(config);
  if (files.tokenizer_config && !files.tokenizer_config->is_object())
    throw Error(ErrorKind::bad_data, folder + "/tokenizer_config.json: expected a JSON object");
  read_chat_templates(files);
  return {files.chat_template, token_text_of(files.tokenizer_config, "eos_token")};
}

std::optional<std::string> token_text_of(const std::optional<Json>& tokenizer_config, const char* key) {
  if (!tokenizer_config || !tokenizer_config->is_object()) return {};
  const Json token = tokenizer_config->value(key, Json());
  const Json& text = token.is_object() ? token.value("content", Json()) : token;
  return text.is_string() ? std::optional(text.get<std::string>()) : std::nullopt;
}

}  // namespace loraine
