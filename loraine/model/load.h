// From files to a Model: checks every tensor against config.json, maps weights in place where their type allows. Called by every command.
#pragma once
#include "loraine/io/model_files.h"
#include "loraine/model/model.h"
#include "loraine/quant/quantise.h"

namespace loraine {

struct LoadOptions {
  // Matrices are held in bf16 (rounded when the file has more), and multiplied in bf16 where the machine has the instructions.
  bool bf16 = false;
  // The linear layers of the blocks become codes while they are read, one after the other; head and embedding stay as they are. Not for
  // what is packed already, which stays so.
  std::optional<Quantisation> quantisation = {};
  bool whole_experts = false;  // experts stay as they are then too, as with transformers and bitsandbytes
};

// Takes over files.tensors. Packed matrices (of a GGUF or of bitsandbytes) stay packed.
Model load_model(ModelFiles& files, const LoadOptions& options = {});

// The tensors that a model of this config.json has, as F32, sorted by name.
std::vector<TensorInfo> tensors_of(const nlohmann::json& config, const std::string& file);

// A line that says so where config.json ties embedding and head, and the file has two different ones, which then count; empty otherwise.
std::string untied_text(const Model& model);
// The name under which a tensor of the model's file is saved again: its own, or empty for the copy of a tied head.
std::string name_to_save(const Model& model, const std::string& stored);

// What ends an answer: generation_config.json's eos_token_id (one or several) where it has any, else config.json's.
std::vector<int32_t> eos_token_ids(const ModelFiles& files, const ModelConfig& config);

}  // namespace loraine
