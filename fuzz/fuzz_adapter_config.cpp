// Bytes as adapter_config.json: the keys of PEFT, targets and regular expressions, matched against a small model's sites. See ./dev fuzz.
#include "fuzz/input_folder.h"
#include "loraine/adapters/attach.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/quant/weight.h"

using namespace loraine;

namespace {

// Two layers of the seven projections, 4x4 each: enough to match names against.
std::vector<Weight> small_model() {
  static float zeros[16] = {};
  const std::vector<std::vector<std::string>> sites = {{"self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj"},
                                                       {"self_attn.o_proj"},
                                                       {"mlp.gate_proj", "mlp.up_proj"},
                                                       {"mlp.down_proj"}};
  std::vector<Weight> weights;
  for (int layer = 0; layer < 2; ++layer)
    for (const auto& names : sites) {
      Weight weight;
      for (const std::string& name : names) {
        WeightPart part;
        part.name = "model.layers." + std::to_string(layer) + "." + name;
        part.weight = Tensor(zeros, Dtype::F32, {4, 4});
        weight.parts.push_back(std::move(part));
      }
      weights.push_back(std::move(weight));
    }
  return weights;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const InputFolder folder;
  folder.write("adapter_config.json", data, size);
  static const std::vector<Weight> weights = small_model();
  std::vector<const Weight*> sites;
  for (const Weight& weight : weights) sites.push_back(&weight);
  expect_value_or_refusal([&] {
    LoraConfig config = read_lora_config(folder.path());
    if (config.r > 4096 || (config.adalora && config.adalora->init_r > 4096)) return;  // the size of what is asked for, not of the file
    attach_lora(sites, config, false);
  });
  return 0;
}
