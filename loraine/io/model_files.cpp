// Opens a Hugging Face folder or a GGUF file, by path or by id, as one ModelFiles.
#include "loraine/io/model_files.h"

#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/io/chat_templates.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/fingerprint.h"
#include "loraine/io/gguf/gguf.h"
#include "loraine/io/gguf_model.h"
#include "loraine/io/hub/hub.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/quantised/quantised_checkpoint.h"
#include "loraine/io/torch/torch_file.h"
#include "loraine/io/vocabulary_files.h"

namespace loraine {
namespace {

constexpr uint64_t kMaxTokenizer = 512u << 20, kMaxLicence = 16u << 20;
constexpr const char* kTokenizerFiles[] = {"tokenizer.model",   "vocab.json",    "merges.txt",     "special_tokens_map.json",
                                           "added_tokens.json", "qwen.tiktoken", "tiktoken.model", "tekken.json"};
constexpr const char* kLicences[] = {"license", "licence", "notice", "copying", "use_policy"};  // in lower case; LICENSE.txt and so on

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

bool is_licence(std::string name) {
  std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return std::any_of(std::begin(kLicences), std::end(kLicences), [&](const char* start) { return name.starts_with(start); });
}

void read_other_files(ModelFiles& files) {
  for (const char* name : kTokenizerFiles)
    if (const std::string file = files.path + "/" + name; exists(file))
      files.tokenizer_files.push_back({name, read_file(file, kMaxTokenizer)});
  std::error_code unreadable;
  for (const auto& entry : std::filesystem::directory_iterator(files.path, unreadable))
    if (const std::string name = entry.path().filename().string(); entry.is_regular_file() && is_licence(name))
      files.licences.push_back({name, read_file(entry.path().string(), kMaxLicence)});
}

// transformers' rule: special_tokens_map.json wins over tokenizer_config.json, unless that has the newer added_tokens_decoder.
void apply_special_tokens_map(ModelFiles& files) {
  const std::string file = files.path + "/special_tokens_map.json";
  if (!exists(file) || (files.tokenizer_config && files.tokenizer_config->contains("added_tokens_decoder"))) return;
  const Json map = *optional_object(file);
  if (!files.tokenizer_config) files.tokenizer_config = Json::object();
  Json& config = *files.tokenizer_config;
  for (const char* key : {"bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token"})
    if (map.contains(key)) config[key] = map[key];
  const auto others = map.find("additional_special_tokens");
  if (others == map.end() || !others->is_array()) return;
  Json& all = config["additional_special_tokens"];
  if (!all.is_array()) all = Json::array();
  for (const Json& token : *others)
    if (std::find(all.begin(), all.end(), token) == all.end()) all.push_back(token);
}

// qmodel.pt is the file of the hqq library, whose config.json does not name it.
std::shared_ptr<TensorSource> open_weights(const std::string& path, const Json& config) {
  const std::string qmodel = path + "/qmodel.pt";
  if (!exists(qmodel) || exists(path + "/model.safetensors") || exists(path + "/model.safetensors.index.json"))
    return with_quantised(open_tensor_source(path), config, path);
  Json values, named = config;
  std::unique_ptr<TensorSource> source = open_torch_state(qmodel, values);
  named["quantization_config"] = {{"quant_method", "hqq"}, {"qmodel", std::move(values)}};
  return with_quantised(std::move(source), named, path);
}

ModelFiles open_folder(const std::string& path, bool text_only) {
  ModelFiles files;
  files.path = path;
  std::string config = path + "/config.json";
  if (!exists(config) && !text_only) {
    bool adapter = exists(path + "/adapter_config.json");
    throw Error(ErrorKind::bad_data,
                path + ": has no config.json" + (adapter ? ", but an adapter_config.json: it is an adapter, not a model" : ""),
                adapter ? "give the base model here and the adapter as adapter_name_or_path" : "give the folder of a Hugging Face model");
  }
  files.config = optional_object(config).value_or(Json::object());
  files.generation_config = optional_object(path + "/generation_config.json");
  if (exists(path + "/tokenizer.json")) files.tokenizer_json = read_file(path + "/tokenizer.json", kMaxTokenizer);
  files.tokenizer_config = optional_object(path + "/tokenizer_config.json");
  read_other_files(files);
  apply_special_tokens_map(files);
  read_chat_templates(files);
  if (!files.tokenizer_json) tokenizer_from_vocabulary(files);
  if (!text_only) files.tensors = open_weights(path, files.config);
  return files;
}

ModelFiles open_place(const std::string& name, const HubAccess& access, bool text_only) {
  const auto [path, note] = find_place(name, access, HubKind::model);
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) throw Error(ErrorKind::bad_data, path + ": cannot be read");
  if (!S_ISDIR(status.st_mode) && !path.ends_with(".gguf"))
    throw Error(ErrorKind::bad_data, path + ": is neither a folder nor a .gguf file", "give the folder of a Hugging Face model");
  ModelFiles files = S_ISDIR(status.st_mode) ? open_folder(path, text_only) : open_gguf_model(path);
  files.place_note = note;
  return files;
}

}  // namespace

ModelFiles open_model_files(const std::string& name) { return open_model_files(name, HubAccess()); }

ModelFiles open_model_files(const std::string& name, const HubAccess& access) {
  ModelFiles files = open_place(name, access, false);
  files.fingerprint = weights_fingerprint(*files.tensors);
  return files;
}

ModelFiles open_text_files(const std::string& name, const HubAccess& access) { return open_place(name, access, true); }

}  // namespace loraine
