// PEFT's files of an adapter: adapter_config.json and adapter_model.safetensors. Called by train, chat, export, trace.
#pragma once
#include <string>

#include "loraine/adapters/attach.h"

namespace loraine {

LoraConfig read_lora_config(const std::string& folder);  // bad_data for keys that change the maths and are not built, by name
// The file of the tensors: adapter_model.safetensors, or adapter_model.bin where that is all there is.
std::string adapter_file(const std::string& folder);
// Reads the tensors of `folder` into a set made from its config (model/attach.h, which also loads a folder at once): every tensor must be
// there, none may be left over.
void read_lora_tensors(const AdapterSet& set, const std::string& folder);
// A line that names both when the adapter was made for another base than the model at `model_path`; empty otherwise.
std::string base_mismatch(const LoraConfig& config, const std::string& folder, const std::string& model_path);
// Writes both files as PEFT 0.18 writes them, durably.
void write_peft(const AdapterSet& set, const LoraConfig& config, const std::string& folder);

}  // namespace loraine
