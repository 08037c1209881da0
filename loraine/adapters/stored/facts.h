// What a folder of PEFT's says of itself, read without a model and without refusing what loraine does not build: for lists, and for the
// check of what other programs load. Called by loraine adapter list, info and check.
#pragma once
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "loraine/io/tensors/tensor_source.h"

namespace loraine {

// A tensor of an adapter's file: the module it belongs to, and what it is of it.
struct AdapterTensorName {
  std::string path;  // "model.layers.0.self_attn.q_proj", without base_model.model.
  std::string kind;  // "lora_A.weight", "lora_B.weight", "lora_embedding_A", "lora_magnitude_vector", …; empty: trained whole
};
AdapterTensorName adapter_tensor_name(const std::string& name);

struct AdapterFacts {
  std::string folder, file;       // file: of the tensors
  nlohmann::ordered_json config;  // adapter_config.json
  std::string method;             // "lora", "rslora", "dora", "dora, rslora", "adalora", "pissa", …; another peft_type in lower case
  std::string base, peft_version, task;
  std::optional<int64_t> r;
  std::optional<double> alpha;
  std::vector<std::string> targets;  // names; of a pattern, the pattern alone
  bool target_pattern = false;
  std::vector<std::string> target_parameters, modules_to_save;
  std::vector<std::string> dtypes;           // "F32", "BF16", in this order of first appearance
  int64_t modules = 0;                       // with low-rank matrices
  int64_t least_rank = 0, largest_rank = 0;  // of the matrices in the file; of experts those of all of them together are not counted
  int64_t parameters = 0, bytes = 0;         // elements and size of the file of tensors
  bool magnitudes = false, embedding = false, head = false, bias_of_b = false, trained_tokens = false;
  std::vector<std::string> experts;  // modules whose matrices are of all experts
  std::vector<std::string> whole;    // names of tensors that are trained whole
};
// bad_data for a folder that is no adapter or whose files cannot be read.
AdapterFacts read_adapter_facts(const std::string& folder);

// Whether the value of a key of adapter_config.json leaves things as they are: absent, null, false, empty, "none".
bool is_switched_off(const nlohmann::ordered_json& config, const char* key);

// The folders with an adapter_config.json at or under `root`, sorted; hidden ones are passed by. bad_data when there is no such folder.
std::vector<std::string> find_adapters(const std::string& root);

}  // namespace loraine
