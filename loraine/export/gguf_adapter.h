// A LoRA adapter as a GGUF beside its base, as llama.cpp's convert_lora_to_gguf.py lays it out. Called by loraine export.
#pragma once
#include <string>

#include "loraine/adapters/adapter.h"
#include "loraine/io/gguf/gguf_mixture.h"
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"

namespace loraine {

struct GgufAdapterReport {
  int64_t matrices = 0;  // pairs of A and B
  double worst = 0;      // largest relative error of one, read back
};

// name, base: what general.name and general.base_model.0.name say. Writes the file, reads it back and compares. Throws unsupported for what
// llama.cpp cannot add to a model: DoRA, whole tensors, LoRA on the embedding, on experts or on a tied head.
GgufAdapterReport write_gguf_adapter(const Model& model, const ModelFiles& files, const AdapterSet& adapter, const GgufRecipe& recipe,
                                     const std::string& name, const std::string& base, const std::string& path);

}  // namespace loraine
