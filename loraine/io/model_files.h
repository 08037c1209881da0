// A model as found on disk: a Hugging Face folder or one GGUF file, seen alike. Used by load, chat, export and convert.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/io/files/json_file.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

struct HubAccess;

struct NamedText {
  std::string name, text;
};

struct ModelFiles {
  std::string path;
  std::string place_note;  // of an id: where it lies, and which revision
  std::shared_ptr<TensorSource> tensors;
  std::string fingerprint;  // weights_fingerprint of them (io/fingerprint.h)
  Json config;              // config.json (made from the metadata of a GGUF)
  std::optional<Json> generation_config;
  std::optional<std::string>
      tokenizer_json;          // bytes of tokenizer.json (made from the metadata of a GGUF, or from the files of vocabulary_files.h)
  std::string tokenizer_note;  // what was assumed to make it; or, without one, what the folder has instead
  std::optional<Json> tokenizer_config;      // includes chat_template when the folder has chat_template.jinja
  std::optional<std::string> chat_template;  // chat_template.jinja, else tokenizer_config's chat_template; of several the "default"
  std::vector<NamedText> chat_templates;     // all of several named ones, whether or not one is called "default"
  std::vector<NamedText> tokenizer_files;    // what else belongs to the tokenizer (tokenizer.model, …), byte for byte
  std::vector<NamedText> licences;           // LICENSE, NOTICE and the like
};

// A folder, a *.gguf, or an id like org/name, found in a local cache or downloaded into it (hub/hub.h).
ModelFiles open_model_files(const std::string& name, const HubAccess& access);
ModelFiles open_model_files(const std::string& name);  // as the environment says, at main
// The same without weights, which need not be there: `tensors` stays empty, and a folder without config.json has an empty config.
ModelFiles open_text_files(const std::string& name, const HubAccess& access);
void convert_gguf(const std::string& gguf,
                  const std::string& folder);  // writes the Hugging Face folder (model.safetensors in F32/F16/BF16, tokenizer, configs)

}  // namespace loraine
