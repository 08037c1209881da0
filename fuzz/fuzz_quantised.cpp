// Bytes as the weights of a quantised folder: the first chooses the quantization_config, the others are a safetensors file. See ./dev fuzz.
#include <nlohmann/json.hpp>

#include "fuzz/input_folder.h"
#include "fuzz/read_tensors.h"
#include "loraine/io/quantised/quantised_checkpoint.h"
#include "loraine/io/safetensors/safetensors.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  static const Json configs = Json::parse(R"([
    {"quant_method": "gptq", "bits": 4, "group_size": 8},
    {"quant_method": "gptq", "bits": 3, "group_size": -1, "dynamic": {}, "checkpoint_format": "gptq_v2"},
    {"quant_method": "awq", "bits": 4, "group_size": 4},
    {"quant_method": "fp8", "weight_block_size": [2, 3]},
    {"quant_method": "fp8", "weight_block_size": null},
    {"quant_method": "compressed-tensors", "config_groups": {
      "0": {"targets": ["Linear"], "weights": {"num_bits": 4, "type": "int", "strategy": "group", "group_size": 4, "symmetric": false}},
      "1": {"targets": ["re:.*down"], "weights": {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [2, 2]}},
      "2": {"targets": ["re:.*four"], "weights": {"num_bits": 4, "type": "float", "strategy": "tensor_group", "group_size": 16}}}}])");
  if (size == 0) return 0;
  const std::string file = folder.write("model.safetensors", data + 1, size - 1);
  const Json config = {{"quantization_config", configs[data[0] % configs.size()]}};
  expect_value_or_refusal([&] { read_every_tensor(*with_quantised(open_safetensors(file), config, "input"), size); });
  return 0;
}
