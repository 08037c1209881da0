// PEFT's files of an adapter: adapter_config.json and adapter_model.safetensors. Called by train, chat, export, trace.
#pragma once
#include <string>

#include "loraine/adapters/attach.h"

namespace loraine {

LoraConfig read_lora_config(const std::string& folder);  // bad_data for keys that change the maths and are not built, by name
// Reads the tensors of `folder` into a set made by attach_lora from its config: every tensor must be there, none may be left over.
void read_lora_tensors(const AdapterSet& set, const std::string& folder);
// An adapter to run with. One that was trained over a changed base (PiSSA, OLoRA) comes as the adapter of twice the rank over the base as
// it is, so that it can be on beside others.
AdapterSet load_adapter(const std::vector<const Weight*>& sites, const std::string& folder, LoraConfig* config_out = nullptr);
// An adapter with gradients. For one of PiSSA or OLoRA the base is changed as at its start.
AdapterSet load_adapter_to_train(const std::vector<Weight*>& sites, const std::string& folder, LoraConfig* config_out = nullptr,
                                 bool with_dropout = true);
// A line that names both when the adapter was made for another base than the model at `model_path`; empty otherwise.
std::string base_mismatch(const LoraConfig& config, const std::string& folder, const std::string& model_path);
// Writes both files as PEFT 0.18 writes them, durably.
void write_peft(const AdapterSet& set, const LoraConfig& config, const std::string& folder);

}  // namespace loraine
