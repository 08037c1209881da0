// GPT-2: keys of its own, learned positions, LayerNorms, one matrix for q, k and v; files hold matrices as [in, out].
#include <cmath>

#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/mixers/learned_positions.h"

namespace loraine {
namespace {

// The keys that all decoders have, under their usual names.
nlohmann::json usual_keys(const ConfigReader& hf) {
  const int64_t width = hf.positive("n_embd"), heads = hf.positive("n_head");
  if (width % heads) hf.wrong("n_embd", "a multiple of n_head");
  nlohmann::json keys = {{"vocab_size", hf.positive("vocab_size")},
                         {"hidden_size", width},
                         {"num_hidden_layers", hf.positive("n_layer")},
                         {"num_attention_heads", heads},
                         {"max_position_embeddings", hf.positive_or("n_positions", 1024)},
                         {"intermediate_size", hf.get("n_inner") ? hf.positive("n_inner") : 4 * width},
                         {"layer_norm_epsilon", hf.number_or("layer_norm_epsilon", 1e-5)},
                         {"tie_word_embeddings", hf.flag_or("tie_word_embeddings", true)}};
  for (const char* key : {"bos_token_id", "eos_token_id"})
    if (hf.get(key)) keys[key] = *hf.get(key);
  return keys;
}

}  // namespace

ModelConfig gpt2_config(const ConfigReader& hf) {
  if (hf.flag_or("add_cross_attention", false)) hf.wrong("add_cross_attention", "false");
  const nlohmann::json keys = usual_keys(hf);
  const ConfigReader usual(keys, hf.file());
  Decoder d(usual, "layer_norm_epsilon", 1e-5);
  d.norm = layer_norm_config("", d.norm.eps, true);
  d.config.final_norm = named(d.norm, "ln_f");
  ModelNames& names = d.config.names;
  names.embedding = "transformer.wte";
  names.layers = "transformer.h";
  names.final_norm = "transformer.ln_f";
  names.stored = {{{"transformer.", "transformer."}}, {{"transformer.", ""}}};
  names.turned = {"c_attn", "c_proj", "c_fc"};
  d.attention.folder = "attn.";
  d.attention.qkv = "c_attn";
  d.attention.output = "c_proj";
  d.attention_biases(true, true);
  if (!hf.flag_or("scale_attn_weights", true)) d.attention.scale = 1;
  const bool by_layer = hf.flag_or("scale_attn_by_inverse_layer_idx", false);
  d.mlp.gated = false;
  d.mlp.bias = true;
  d.mlp.activation = activation(hf, "activation_function", "gelu_new");
  d.mlp.up = "c_fc";
  d.mlp.down = "c_proj";
  LearnedPositionsConfig positions;
  positions.hidden_size = d.config.hidden_size;
  positions.positions = d.config.max_position_embeddings;
  positions.name = "transformer.wpe";
  return d.with_layers([&](int64_t layer) -> LayerConfig {
    AttentionConfig attention = d.attention;
    if (by_layer) attention.scale /= static_cast<float>(layer + 1);
    LayerConfig out{{{named(d.norm, "ln_1"), {}, share(attention)}, {named(d.norm, "ln_2"), {}, share(d.mlp)}}};
    if (layer == 0) out.branches.insert(out.branches.begin(), {{}, {}, share(positions)});
    return out;
  });
}

}  // namespace loraine
