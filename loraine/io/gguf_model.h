// A GGUF file as a Hugging Face model. Called by open_model_files.
#pragma once
#include <string>

#include "loraine/io/model_files.h"

namespace loraine {

ModelFiles open_gguf_model(const std::string& path);

}  // namespace loraine
