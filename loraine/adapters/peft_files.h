// PEFT's files of an adapter: adapter_config.json and adapter_model.safetensors. Called by train, chat, export, trace.
#pragma once
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "loraine/adapters/attach.h"
#include "loraine/core/error.h"
#include "loraine/io/model_files.h"
#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

LoraConfig read_lora_config(const std::string& folder);  // bad_data for keys that change the maths and are not built, by name
// The file of the tensors: adapter_model.safetensors, or adapter_model.bin where that is all there is.
std::string adapter_file(const std::string& folder);
// An adapter's tensors, under the names of PEFT's file.
struct AdapterFile {
  std::string path;  // for messages
  std::shared_ptr<const TensorSource> tensors;
  bool newer = true;  // written by PEFT of 0.19 or later, which has A and B of experts the other way round than those before it
};
AdapterFile open_adapter_file(const std::string& folder);
// Reads them into a set made from the folder's config (model/attach.h, which also loads a folder at once): every tensor must be there, none
// may be left over.
void read_lora_tensors(const AdapterSet& set, const AdapterFile& file);
inline void read_lora_tensors(const AdapterSet& set, const std::string& folder) { read_lora_tensors(set, open_adapter_file(folder)); }
// The line for an adapter whose start is searched for at random (PiSSA with iterations): only who trained it finds the same one again.
// Empty for others.
std::string random_start_text(const LoraConfig& config, const std::string& folder);
// All that is to be said of an adapter that was read, each with the kind of error that it is to who is strict: another base, unknown keys,
// a start that is searched for at random.
std::vector<std::pair<ErrorKind, std::string>> adapter_warnings(const LoraConfig& config, const std::string& folder,
                                                                const ModelFiles& base);
// For a tensor of embedding or head whose stored shape differs in the vocabulary alone: ": " and both sizes; empty otherwise.
std::string vocabulary_text(const std::string& name, const std::vector<int64_t>& stored, const Tensor& model);
// adapter_config.json as PEFT 0.18 writes it, that of LoRA on experts as 0.19.
nlohmann::ordered_json peft_config(const LoraConfig& config);
// Writes both files as PEFT 0.18 writes them, those with LoRA on experts as 0.19, durably.
void write_peft(const AdapterSet& set, const LoraConfig& config, const std::string& folder);

}  // namespace loraine
