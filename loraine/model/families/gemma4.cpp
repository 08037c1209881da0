// Gemma 4: Gemma's four norms, without the 1 added to their weights, and a factor at the end of each layer; norms over heads of q, k and v;
// full layers with heads of their own size, whose values may be their keys; the last layers attend to keys and values of earlier ones;
// inputs per layer (E2B, E4B).
#include <cmath>

#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/mixers/per_layer_input.h"

namespace loraine {
namespace {

// A layer's own value of `key`: per_layer_config has objects by the number of the layer, with or without zeros before it.
const nlohmann::json* of_layer(const ConfigReader& hf, int64_t layer, const char* key) {
  const nlohmann::json* all = hf.get("per_layer_config");
  if (!all) return nullptr;
  if (!all->is_object()) hf.wrong("per_layer_config", "an object of objects by layer");
  for (const auto& [number, values] : all->items()) {
    const size_t digits = std::min(number.find_first_not_of('0'), number.empty() ? 0 : number.size() - 1);
    if (number.substr(digits) != std::to_string(layer)) continue;
    if (!values.is_object()) hf.wrong("per_layer_config", "an object of objects by layer");
    const auto found = values.find(key);
    return found == values.end() || found->is_null() ? nullptr : &*found;
  }
  return nullptr;
}

int64_t size_of_layer(const ConfigReader& hf, int64_t layer, const char* key, int64_t otherwise) {
  const nlohmann::json* own = of_layer(hf, layer, key);
  if (!own) return otherwise;
  const nlohmann::json one = {{key, *own}};
  return ConfigReader(one, hf.file() + ": per_layer_config: " + std::to_string(layer)).positive(key);
}

// Where layers share keys and values: of each type of layer the last that has its own gives them to all after it.
struct Sharing {
  int64_t first;  // layer without keys and values of its own
  std::vector<int64_t> giver;
  std::vector<SharedKv> kind;
};

Sharing sharing(const ConfigReader& hf, const std::vector<bool>& sliding) {
  const auto layers = static_cast<int64_t>(sliding.size());
  const int64_t readers = hf.get("num_kv_shared_layers") ? static_cast<int64_t>(hf.number_or("num_kv_shared_layers", 0)) : 0;
  if (readers < 0 || readers >= layers) hf.wrong("num_kv_shared_layers", "a number below num_hidden_layers");
  Sharing out{layers - readers, std::vector<int64_t>(sliding.size(), -1), std::vector<SharedKv>(sliding.size(), SharedKv::none)};
  for (const bool type : {false, true}) {
    int64_t giver = -1, last = -1;
    for (int64_t layer = 0; layer < layers; ++layer) {
      const auto i = static_cast<size_t>(layer);
      if (sliding[i] != type) continue;
      if (layer < out.first) {
        giver = layer;
        continue;
      }
      if (giver < 0) hf.wrong("num_kv_shared_layers", "one that leaves a layer of each type its keys and values");
      out.giver[i] = giver;
      out.kind[i] = SharedKv::reads;
      last = layer;
    }
    if (last < 0) continue;
    out.kind[static_cast<size_t>(last)] = SharedKv::reads_last;
    out.kind[static_cast<size_t>(giver)] = SharedKv::gives;
    out.giver[static_cast<size_t>(giver)] = giver;
  }
  return out;
}

}  // namespace

ModelConfig gemma4_config(const ConfigReader& hf) {
  Decoder d(hf);
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  if (hf.flag_or("enable_moe_block", false)) hf.wrong("enable_moe_block", "false: loraine does not build Gemma 4's experts");
  if (const std::string seen = hf.text_or("use_bidirectional_attention", ""); !seen.empty() && seen != "vision")
    hf.wrong("use_bidirectional_attention", "null or vision");
  const int64_t H = d.config.hidden_size, layers = d.config.num_hidden_layers;
  d.config.embedding_scale = std::sqrt(static_cast<float>(H));
  if (hf.get("final_logit_softcapping")) d.config.logit_softcap = static_cast<float>(hf.number_or("final_logit_softcapping", 0));
  d.mlp.activation = activation(hf, "hidden_activation", "gelu_pytorch_tanh");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.scale = 1;
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  d.attention.v_norm = weightless(d.norm);

  std::vector<bool> sliding = d.sliding(6);
  if (!hf.get("layer_types")) sliding.back() = false;
  const int64_t window = hf.positive_or("sliding_window", 512);
  const int64_t full_dim = hf.get("global_head_dim") ? hf.positive("global_head_dim") : d.attention.head_dim;
  const bool k_is_v = hf.flag_or("attention_k_eq_v", false);
  const int64_t full_kv_heads =
      k_is_v && hf.get("num_global_key_value_heads") ? hf.positive("num_global_key_value_heads") : d.attention.kv_heads;
  const Sharing shared = sharing(hf, sliding);
  const bool wide = hf.flag_or("use_double_wide_mlp", false);
  const int64_t p = hf.get("hidden_size_per_layer_input") ? static_cast<int64_t>(hf.number_or("hidden_size_per_layer_input", 0)) : 0;
  PerLayerInputsConfig inputs;
  inputs.hidden_size = H;
  inputs.layers = layers;
  inputs.width = p;
  inputs.vocab_size = hf.positive_or("vocab_size_per_layer_input", d.config.vocab_size);
  inputs.eps = d.norm.eps;
  if (p > 0 && inputs.vocab_size < d.config.vocab_size) hf.wrong("vocab_size_per_layer_input", "vocab_size or more");

  return d.with_layers([&](int64_t layer) {
    const auto i = static_cast<size_t>(layer);
    const bool slides = sliding[i];
    AttentionConfig attention = d.attention;
    attention.window = slides ? window : 0;
    attention.head_dim = size_of_layer(hf, layer, "head_dim", slides ? d.attention.head_dim : full_dim);
    attention.kv_heads = size_of_layer(hf, layer, "num_key_value_heads", slides ? d.attention.kv_heads : full_kv_heads);
    if (attention.head_dim % 2) hf.wrong("head_dim", "an even number on every layer");
    if (attention.heads % attention.kv_heads) hf.wrong("num_key_value_heads", "a divisor of num_attention_heads on every layer");
    if (k_is_v && !slides) attention.v = "";
    RopeKeys keys = d.rope_keys;
    keys.head_dim = attention.head_dim;
    keys.layer_type = slides ? "sliding_attention" : "full_attention";
    keys.theta = slides ? 10000 : 1000000;
    attention.rope = read_rope(hf, keys);
    attention.shared_kv = shared.kind[i];
    attention.kv_layer = shared.giver[i];
    attention.kv_branch = p > 0 && attention.kv_layer == 0 ? 1 : 0;
    MlpConfig mlp = d.mlp;
    mlp.intermediate_size = size_of_layer(hf, layer, "intermediate_size", (wide && layer >= shared.first ? 2 : 1) * mlp.intermediate_size);

    LayerConfig out = d.sandwich(attention, share(mlp));
    out.scalar = "layer_scalar";
    if (p == 0) return out;
    if (layer == 0) out.branches.insert(out.branches.begin(), {{}, {}, share(inputs)});
    PerLayerInputConfig input;
    input.hidden_size = H;
    input.width = p;
    input.layer = layer;
    out.branches.push_back({{}, named(d.norm, "post_per_layer_input_norm"), share(input)});
    return out;
  });
}

}  // namespace loraine
