// Mistral: a sliding window on every layer when sliding_window is a number (Ministral: on those that layer_types names). Ministral 3:
// queries grow with their position.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

ModelConfig mistral_layers(Decoder& d) {
  d.mlp.activation = activation(d.hf, "hidden_act", "silu");
  d.rope();
  const std::vector<int64_t> windows = d.windows(0);
  return d.with_layers([&](int64_t layer) {
    d.attention.window = windows[static_cast<size_t>(layer)];
    return d.pre_norm();
  });
}

}  // namespace

ModelConfig mistral_config(const ConfigReader& hf) {
  Decoder d(hf);
  return mistral_layers(d);
}

ModelConfig ministral3_config(const ConfigReader& hf) {
  Decoder d(hf);
  const ConfigReader rope = rope_object(hf);
  if (rope.get("llama_4_scaling_beta")) {
    d.attention.temperature_beta = static_cast<float>(rope.number_or("llama_4_scaling_beta", 0));
    d.attention.temperature_length = rope.positive("original_max_position_embeddings");
  }
  return mistral_layers(d);
}

}  // namespace loraine
