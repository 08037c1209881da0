// Families with LayerNorms: Nemotron, StarCoder 2, StableLM, GPT-NeoX (Pythia).
#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"

namespace loraine {

// 1 is added to the norms' weights; squared ReLU without a gate; half of each head turns.
ModelConfig nemotron_config(const ConfigReader& hf) {
  Decoder d(hf, "norm_eps", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true, 1);
  d.config.final_norm = named(d.norm, "norm");
  d.mlp.gated = false;
  d.mlp.activation = activation(hf, "hidden_act", "relu2");
  d.mlp.bias = hf.flag_or("mlp_bias", false);
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.rope_keys.partial = 0.5;
  d.rope();
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

ModelConfig starcoder2_config(const ConfigReader& hf) {
  Decoder d(hf, "norm_epsilon", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true);
  d.config.final_norm = named(d.norm, "norm");
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  const bool bias = hf.flag_or("use_bias", true);
  d.mlp.gated = false;
  d.mlp.activation = activation(hf, "hidden_act", "gelu_pytorch_tanh");
  d.mlp.up = "c_fc";
  d.mlp.down = "c_proj";
  d.mlp.bias = bias;
  d.attention_biases(bias, bias);
  if (hf.get("sliding_window")) d.attention.window = hf.positive("sliding_window");
  d.rope();
  return d.with_layers([&](int64_t) { return d.pre_norm(); });
}

// With use_parallel_residual attention and MLP share one norm; with qk_layernorm every head has a norm of its own.
ModelConfig stablelm_config(const ConfigReader& hf) {
  Decoder d(hf, "layer_norm_eps", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true);
  d.config.final_norm = named(d.norm, "norm");
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.attention_biases(hf.flag_or("use_qkv_bias", false), false);
  d.rope_keys.partial = 0.25;
  d.rope();
  if (hf.flag_or("qk_layernorm", false)) {
    d.attention.head_norms = HeadNorms::tensors;
    d.attention.q_norm = layer_norm_config("q_layernorm.norms", d.norm.eps, false);
    d.attention.k_norm = layer_norm_config("k_layernorm.norms", d.norm.eps, false);
  }
  const bool parallel = hf.flag_or("use_parallel_residual", false);
  return d.with_layers([&](int64_t) -> LayerConfig {
    if (!parallel) return d.pre_norm();
    const NormConfig norm = named(d.norm, "input_layernorm");
    return {{{norm, {}, share(d.attention)}, {norm, {}, share(d.mlp), 1, true}}};
  });
}

// q, k and v of each head lie together; attention and MLP side by side, each behind a norm of its own.
ModelConfig gpt_neox_config(const ConfigReader& hf) {
  Decoder d(hf, "layer_norm_eps", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true);
  ModelNames& names = d.config.names;
  names.embedding = "gpt_neox.embed_in";
  names.layers = "gpt_neox.layers";
  names.final_norm = "gpt_neox.final_layer_norm";
  names.head = "embed_out";
  d.config.final_norm = named(d.norm, "final_layer_norm");
  d.attention.folder = "attention.";
  d.attention.qkv = "query_key_value";
  d.attention.qkv_by_head = true;
  d.attention.kv_heads = d.attention.heads;
  d.attention.output = "dense";
  const bool bias = hf.flag_or("attention_bias", true);
  d.attention_biases(bias, bias);
  d.mlp.gated = false;
  d.mlp.bias = true;
  d.mlp.activation = activation(hf, "hidden_act", "gelu");
  d.mlp.up = "dense_h_to_4h";
  d.mlp.down = "dense_4h_to_h";
  d.rope_keys.partial = 0.25;
  d.rope();
  const bool parallel = hf.flag_or("use_parallel_residual", true);
  return d.with_layers([&](int64_t) {
    LayerConfig layer = d.pre_norm();
    layer.branches[1].beside = parallel;
    return layer;
  });
}

}  // namespace loraine
