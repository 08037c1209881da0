// Qwen 2 and 2.5: biases on q, k, v. Qwen 3: norms over each head of q and k, biases by attention_bias. Both: a sliding window on the later
// layers only when use_sliding_window is true.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {
namespace {

ModelConfig qwen_layers(Decoder& d) {
  d.mlp.activation = activation(d.hf, "hidden_act", "silu");
  d.rope();
  std::vector<int64_t> windows(static_cast<size_t>(d.config.num_hidden_layers), 0);
  if (d.hf.flag_or("use_sliding_window", false)) windows = d.windows(d.hf.positive_or("max_window_layers", 28));
  return d.with_layers([&](int64_t layer) {
    d.attention.window = windows[static_cast<size_t>(layer)];
    return d.pre_norm();
  });
}

}  // namespace

ModelConfig qwen2_config(const ConfigReader& hf) {
  Decoder d(hf);
  d.attention_biases(true, false);
  return qwen_layers(d);
}

ModelConfig qwen3_config(const ConfigReader& hf) {
  Decoder d(hf);
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  return qwen_layers(d);
}

}  // namespace loraine
