// Whether an adapter was made for the base that is loaded below it. Called by peft_files.cpp.
#pragma once
#include <string>

#include "loraine/adapters/attach.h"
#include "loraine/io/model_files.h"

namespace loraine {

// A line that names both when the adapter in `folder` was made for another base; empty otherwise. What counts are the weights: the
// fingerprint that loraine wrote beside the adapter, else that of the base which adapter_config.json names, where it is on this machine;
// else the name.
std::string base_mismatch(const LoraConfig& config, const std::string& folder, const ModelFiles& base);

}  // namespace loraine
