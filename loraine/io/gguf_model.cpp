// Opens a GGUF file as a model, and writes it out as a Hugging Face folder.
#include "loraine/io/gguf_model.h"

#include <algorithm>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/staged_files.h"
#include "loraine/io/gguf/gguf_config.h"
#include "loraine/io/safetensors/safetensors_layout.h"
#include "loraine/io/tensors/read_elements.h"
#include "loraine/io/write_text_files.h"

namespace loraine {
namespace {

// Token ids that end a text: eos, and the end-of-turn token where a file has its own.
Json gguf_generation_config(const GgufFile& file, const Json& config) {
  Json generation = {{"_from_model_config", true}};
  for (const char* key : {"bos_token_id", "eos_token_id", "pad_token_id"})
    if (config.contains(key)) generation[key] = config[key];
  auto turn = file.unsigned_integer("tokenizer.ggml.eot_token_id");
  if (turn && generation.contains("eos_token_id") && generation["eos_token_id"] != *turn && *turn < config["vocab_size"].get<uint64_t>())
    generation["eos_token_id"] = {generation["eos_token_id"], *turn};
  return generation;
}

Dtype dtype_named(const std::string& name) { return name == "bfloat16" ? Dtype::BF16 : name == "float16" ? Dtype::F16 : Dtype::F32; }

void write_tensors(const std::string& path, const TensorSource& tensors, Dtype dtype) {
  std::vector<SafetensorsEntry> entries;
  for (const TensorInfo& info : tensors.tensors()) entries.push_back({info.name, dtype, info.shape});
  stream_safetensors(path, entries, {{"format", "pt"}}, [&](size_t index, const WriteBytes& write) {
    const TensorInfo& info = tensors.tensors()[index];
    Buffer buffer(static_cast<size_t>(element_count(info)) * size_of(dtype));
    Tensor out(buffer.data(), dtype, std::span<const int64_t>(info.shape));
    tensors.read(info, out);
    write(out.data, out.bytes());
  });
}

}  // namespace

ModelFiles open_gguf_model(const std::string& path) {
  auto file = std::make_shared<const GgufFile>(path);
  ModelFiles files;
  files.path = path;
  files.tensors = open_gguf(file);
  files.config = gguf_config(*file, *files.tensors);
  files.generation_config = gguf_generation_config(*file, files.config);
  if (has_gguf_tokenizer(*file)) {
    files.tokenizer_json = gguf_tokenizer_json(*file);
    files.tokenizer_config = gguf_tokenizer_config(*file);
  }
  files.chat_template = file->text("tokenizer.chat_template");
  return files;
}

void convert_gguf(const std::string& gguf, const std::string& folder) {
  ModelFiles files = open_gguf_model(gguf);
  StagedFiles staged(folder);
  const std::string& place = staged.path();
  write_tensors(place + "/model.safetensors", *files.tensors, dtype_named(files.config["torch_dtype"].get<std::string>()));
  write_tokenizer_files(files, place);
  write_config_files(files, files.config, place);
  staged.commit();
}

}  // namespace loraine
