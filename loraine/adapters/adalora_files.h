// AdaLoRA's part of adapter_config.json and of the tensors that are written. Called by peft_files.
#pragma once
#include <nlohmann/json_fwd.hpp>
#include <string>

#include "loraine/adapters/attach.h"
#include "loraine/core/tensor.h"

namespace loraine {

// The keys that only AdaLoRA has; rank_pattern is read here too, since its form is another than LoRA's.
bool is_adalora_key(const std::string& key);
AdaloraConfig read_adalora_config(const nlohmann::ordered_json& json, const std::string& file);  // bad_data naming the key
void add_adalora_keys(nlohmann::ordered_json& json, const AdaloraConfig& config);

// The ranks that live, of a matrix that has all of them: rows of lora_A and lora_E, columns of lora_B. memory holds them.
Tensor living_ranks(const std::string& name, const Tensor& value, const RankPattern& pattern, Buffer& memory);

}  // namespace loraine
