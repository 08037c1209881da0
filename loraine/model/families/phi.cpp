// Phi-3, 3.5 and 4: fused matrices, longrope. Phi-1 and 2: attention and MLP beside each other behind one LayerNorm, biases everywhere.
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {

ModelConfig phi3_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.mlp.gate_up = "gate_up_proj";
  d.attention.qkv = "qkv_proj";
  d.rope_keys.yarn_is_longrope = true;
  d.rope();
  if (hf.get("sliding_window")) d.attention.window = hf.positive("sliding_window");
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

ModelConfig phi_config(const ConfigReader& hf) {
  Decoder d(hf, "layer_norm_eps", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true);
  d.config.names.final_norm = "model.final_layernorm";
  d.config.final_norm = named(d.norm, "final_layernorm");
  d.config.head_bias = true;
  d.mlp.gated = false;
  d.mlp.bias = true;
  d.mlp.activation = activation(hf, "hidden_act", "gelu_new");
  d.mlp.up = "fc1";
  d.mlp.down = "fc2";
  d.attention.output = "dense";
  d.attention_biases(true, true);
  d.rope_keys.partial = 0.5;
  d.rope();
  if (hf.flag_or("qk_layernorm", false)) {
    d.attention.q_norm = named(d.norm, "q_layernorm");
    d.attention.k_norm = named(d.norm, "k_layernorm");
  }
  return d.with_layers([&](int64_t) -> LayerConfig {
    const NormConfig norm = named(d.norm, "input_layernorm");
    return {{{norm, {}, share(d.attention)}, {norm, {}, share(d.mlp), 1, true}}};
  });
}

}  // namespace loraine
