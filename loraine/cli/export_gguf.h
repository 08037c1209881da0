// loraine export with export_format gguf or gguf_adapter. Called by export.cpp.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/core/describe.h"
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"
#include "loraine/train/config/config.h"

namespace loraine {

// Options of export alone.
struct GgufOptions {
  std::string export_format = "huggingface", gguf_type = "f16";
};
std::vector<Option> options_of_gguf(GgufOptions& options);
void check_gguf_options(const GgufOptions& options, const TrainConfig& config);  // throws usage naming the keys

struct GgufExport {
  const GgufOptions& options;
  const TrainConfig& config;
  const ModelFiles& files;  // as they are written: with the template's tokens
  const Model& model;
  const AdapterSet* adapter = nullptr;
  std::string folder;
  std::string modelfile;      // with FROM . ; empty: the template falls into no slots, and Ollama takes the file's own
  std::vector<int32_t> stop;  // ids that end an answer
  std::function<bool()> keep_going;
};
int export_gguf(const GgufExport& what);  // the exit code

}  // namespace loraine
