// loraine export with export_format gguf or gguf_adapter. Called by export.cpp.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/cli/calibration_texts.h"
#include "loraine/core/describe.h"
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"
#include "loraine/train/config/config.h"

namespace loraine {

// Options of export alone.
struct GgufOptions {
  std::string export_format = "huggingface", gguf_type = "f16";
  std::optional<std::string> gguf_imatrix;
};
std::vector<Option> options_of_gguf(GgufOptions& options);
// Throws usage naming the keys. with_texts: export_quantization_dataset is given.
void check_gguf_options(const GgufOptions& options, const TrainConfig& config, bool with_texts);

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
  CalibrationText importance_text = {};  // of which an importance matrix is computed; no dataset: none
};
int export_gguf(const GgufExport& what);  // the exit code

}  // namespace loraine
