// Opens a Hugging Face folder or a GGUF file as one ModelFiles.
#include "loraine/io/model_files.h"

#include <sys/stat.h>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_text.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf_model.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/quantised/bitsandbytes_source.h"

namespace loraine {
namespace {

constexpr uint64_t kMaxTokenizer = 512u << 20, kMaxTemplate = 16u << 20;

bool exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

std::optional<Json> optional_object(const std::string& file) {
  if (!exists(file)) return std::nullopt;
  Json value = parse_json_file(file);
  if (!value.is_object()) throw Error(ErrorKind::bad_data, file + ": expected a JSON object");
  return value;
}

// A string, or a list of {"name", "template"} of which "default" counts (the only one when there is but one).
std::optional<std::string> template_of(const Json& tokenizer_config, const std::string& file) {
  auto at = tokenizer_config.find("chat_template");
  if (at == tokenizer_config.end() || at->is_null()) return std::nullopt;
  if (at->is_string()) return at->get<std::string>();
  std::optional<std::string> only;
  if (at->is_array()) {
    for (const Json& item : *at) {
      if (!item.is_object() || !item.contains("name") || !item.contains("template") || !item["name"].is_string() ||
          !item["template"].is_string())
        throw Error(ErrorKind::bad_data, file + ": chat_template has an item without the strings \"name\" and \"template\"");
      if (item["name"] == "default" || at->size() == 1) only = item["template"].get<std::string>();
    }
    return only;
  }
  throw Error(ErrorKind::bad_data, file + ": chat_template is neither a string nor a list");
}

ModelFiles open_folder(const std::string& path) {
  ModelFiles files;
  files.path = path;
  std::string config = path + "/config.json";
  if (!exists(config)) {
    bool adapter = exists(path + "/adapter_config.json");
    throw Error(ErrorKind::bad_data,
                path + ": has no config.json" + (adapter ? ", but an adapter_config.json: it is an adapter, not a model" : ""),
                adapter ? "give the base model here and the adapter as adapter_name_or_path" : "give the folder of a Hugging Face model");
  }
  files.config = *optional_object(config);
  files.generation_config = optional_object(path + "/generation_config.json");
  std::string tokenizer = path + "/tokenizer.json", tokenizer_config = path + "/tokenizer_config.json";
  if (exists(tokenizer)) files.tokenizer_json = read_file(tokenizer, kMaxTokenizer);
  files.tokenizer_config = optional_object(tokenizer_config);
  std::string jinja = path + "/chat_template.jinja";
  if (exists(jinja)) {
    files.chat_template = read_file(jinja, kMaxTemplate);
    if (!is_utf8(*files.chat_template)) throw Error(ErrorKind::bad_data, jinja + ": is not valid UTF-8");
    if (!files.tokenizer_config) files.tokenizer_config = Json::object();
    (*files.tokenizer_config)["chat_template"] = *files.chat_template;
  } else if (files.tokenizer_config) {
    files.chat_template = template_of(*files.tokenizer_config, tokenizer_config);
  }
  files.tensors = with_bitsandbytes(open_tensor_source(path));
  return files;
}

}  // namespace

ModelFiles open_model_files(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0)
    throw Error(ErrorKind::bad_data, path + ": no such model folder or file",
                "loraine does not download; give the path of a downloaded Hugging Face folder or of a .gguf file");
  if (S_ISDIR(status.st_mode)) return open_folder(path);
  if (path.ends_with(".gguf")) return open_gguf_model(path);
  throw Error(ErrorKind::bad_data, path + ": is neither a folder nor a .gguf file", "give the folder of a Hugging Face model");
}

}  // namespace loraine
