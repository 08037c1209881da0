// From files to a Model: checks every tensor against config.json, maps weights in place where their type allows. Called by every command.
#pragma once
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"

namespace loraine {

// Takes over files.tensors. Packed matrices (of a GGUF) stay packed. bf16: matrices are held in bf16 (rounded when the file has more), and
// multiplied in bf16 where the machine has the instructions.
Model load_model(ModelFiles& files, bool bf16 = false);

// What ends an answer: generation_config.json's eos_token_id (one or several) where it has any, else config.json's.
std::vector<int32_t> eos_token_ids(const ModelFiles& files, const ModelConfig& config);

}  // namespace loraine
