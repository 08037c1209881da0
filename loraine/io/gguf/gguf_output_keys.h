// config.json as the keys of a GGUF, as llama.cpp's converters write them: gguf_config the other way round. Called by export.
#pragma once
#include <string>
#include <vector>

#include "loraine/io/files/json_file.h"
#include "loraine/io/gguf/gguf_outputs.h"
#include "loraine/io/gguf/gguf_write.h"

namespace loraine {

struct GgufModelKeys {
  const GgufArchitecture* architecture = nullptr;
  GgufMetadata metadata;
  GgufHeads heads;
  int64_t layers = 0, experts = 0;
  struct MadeTensor {
    std::string name;
    std::vector<float> values;
  };
  std::vector<MadeTensor> made;    // factors of rotations
  std::vector<std::string> notes;  // what the file cannot say
};

// The keys general.architecture and "<architecture>.*" of a model, by its model_type. Throws unsupported for one that is not written, or
// whose config.json asks for what llama.cpp does not compute.
GgufModelKeys gguf_model_keys(const Json& config);

}  // namespace loraine
