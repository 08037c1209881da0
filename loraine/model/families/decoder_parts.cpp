// What of config.json all families read in the same way.
#include "loraine/model/families/decoder_parts.h"

#include <fmt/format.h>

#include <cmath>

namespace loraine {
namespace {

void read_token_ids(ModelConfig& config, const ConfigReader& hf) {
  if (const nlohmann::json* bos = hf.get("bos_token_id"); bos && bos->is_number_integer()) config.bos_token_id = bos->get<int32_t>();
  if (const nlohmann::json* eos = hf.get("eos_token_id")) {
    if (eos->is_number_integer()) config.eos_token_ids = {eos->get<int32_t>()};
    else if (eos->is_array())
      for (const auto& id : *eos)
        if (id.is_number_integer()) config.eos_token_ids.push_back(id.get<int32_t>());
  }
}

}  // namespace

NormConfig rms(const std::string& name, double eps, float offset) {
  return {NormKind::rms, name, static_cast<float>(eps), offset, true, false};
}
NormConfig layer_norm_config(const std::string& name, double eps, bool bias, float offset) {
  return {NormKind::layer, name, static_cast<float>(eps), offset, true, bias};
}
NormConfig named(NormConfig norm, const std::string& name) {
  norm.name = name;
  return norm;
}
NormConfig weightless(NormConfig norm) {
  norm.has_weight = norm.has_bias = false;
  return norm;
}

Activation activation(const ConfigReader& hf, const char* key, const char* otherwise) {
  static const std::pair<const char*, Activation> kNames[] = {
      {"silu", Activation::silu},          {"swish", Activation::silu},          {"gelu_pytorch_tanh", Activation::gelu_tanh},
      {"gelu_new", Activation::gelu_tanh}, {"gelu_fast", Activation::gelu_tanh}, {"gelu", Activation::gelu_erf},
      {"relu2", Activation::relu2},        {"relu", Activation::relu},           {"xielu", Activation::xielu}};
  const nlohmann::json* given = hf.given(key, "the name of an activation");
  const std::string name = !given ? otherwise : given->is_string() ? given->get<std::string>() : given->dump();
  std::string known;
  for (const auto& [word, kind] : kNames) {
    if (name == word) return kind;
    known += std::string(known.empty() ? "" : ", ") + word;
  }
  hf.wrong(key, "one of " + known);
}

Decoder::Decoder(const ConfigReader& reader, const char* eps_key, double eps) : hf(reader) {
  ModelConfig& c = config;
  c.vocab_size = hf.positive("vocab_size");
  c.hidden_size = hf.positive("hidden_size");
  const nlohmann::json* listed = hf.get("layers_block_type");  // Nemotron-H of transformers 5 names its layers and has no number of them
  const bool counted = !hf.get("num_hidden_layers") && listed && listed->is_array() && !listed->empty();
  c.num_hidden_layers = counted ? static_cast<int64_t>(listed->size()) : hf.positive("num_hidden_layers");
  if (c.num_hidden_layers > 10000) hf.wrong("num_hidden_layers", "at most 10000");
  c.max_position_embeddings = hf.positive_or("max_position_embeddings", 2048);
  c.tie_word_embeddings = hf.flag_or("tie_word_embeddings", false);
  read_token_ids(c, hf);

  c.num_attention_heads = hf.positive("num_attention_heads");
  attention.hidden_size = c.hidden_size;
  attention.heads = c.num_attention_heads;
  attention.kv_heads = hf.get("num_key_value_heads") ? hf.positive("num_key_value_heads") : attention.heads;
  if (attention.heads % attention.kv_heads)
    hf.wrong("num_key_value_heads", fmt::format("a divisor of num_attention_heads {}", attention.heads));
  const char* dim_key = hf.get("head_dim") || !hf.get("qk_rope_head_dim") ? "head_dim" : "qk_rope_head_dim";  // of latent attention
  if (!hf.get(dim_key) && c.hidden_size % attention.heads)
    hf.wrong("hidden_size", fmt::format("a multiple of num_attention_heads {}, or an explicit head_dim", attention.heads));
  attention.head_dim = hf.get(dim_key) ? hf.positive(dim_key) : c.hidden_size / attention.heads;
  if (attention.head_dim % 2) hf.wrong(dim_key, "an even number");
  attention.scale = 1.0f / std::sqrt(static_cast<float>(attention.head_dim));

  mlp.hidden_size = c.hidden_size;
  mlp.intermediate_size = hf.positive(hf.get("intermediate_size")       ? "intermediate_size"
                                      : hf.get("moe_intermediate_size") ? "moe_intermediate_size"
                                                                        : "intermediate_size");

  norm = rms("", hf.number_or(eps_key, eps));
  c.final_norm = named(norm, "norm");
  rope_keys.head_dim = attention.head_dim;
  rope_keys.max_position_embeddings = c.max_position_embeddings;
}

void Decoder::attention_biases(bool qkv, bool output) {
  attention.q_bias = attention.k_bias = attention.v_bias = qkv;
  attention.output_bias = output;
}

void Decoder::rope() { attention.rope = read_rope(hf, rope_keys); }

std::shared_ptr<const Rope> Decoder::rope_of(const std::string& layer_type) const {
  RopeKeys keys = rope_keys;
  keys.layer_type = layer_type;
  return read_rope(hf, keys);
}

std::vector<bool> Decoder::sliding(int64_t pattern) const {
  std::vector<bool> all(static_cast<size_t>(config.num_hidden_layers));
  const nlohmann::json* types = hf.get("layer_types");
  if (types && (!types->is_array() || types->size() != all.size())) hf.wrong("layer_types", fmt::format("a list of {} types", all.size()));
  for (size_t layer = 0; layer < all.size(); ++layer)
    all[layer] = types ? (*types)[layer] == "sliding_attention" : pattern > 0 && (static_cast<int64_t>(layer) + 1) % pattern != 0;
  return all;
}

std::vector<int64_t> Decoder::windows(int64_t first) const {
  std::vector<int64_t> all(static_cast<size_t>(config.num_hidden_layers), 0);
  constexpr int64_t kWhenAbsent = 4096;  // of all families that have windows; null is none
  if (hf.given_as_null("sliding_window")) return all;
  const int64_t size = hf.positive_or("sliding_window", kWhenAbsent);
  const std::vector<bool> named_so = sliding(0);
  for (size_t layer = 0; layer < all.size(); ++layer)
    if (hf.get("layer_types") ? named_so[layer] : static_cast<int64_t>(layer) >= first) all[layer] = size;
  return all;
}

LayerConfig Decoder::pre_norm(const AttentionConfig& with, const std::shared_ptr<const MixerConfig>& channels) const {
  return {{{named(norm, "input_layernorm"), {}, share(with)}, {named(norm, "post_attention_layernorm"), {}, channels}}};
}

LayerConfig Decoder::sandwich(const AttentionConfig& with, const std::shared_ptr<const MixerConfig>& channels) const {
  return {{{named(norm, "input_layernorm"), named(norm, "post_attention_layernorm"), share(with)},
           {named(norm, "pre_feedforward_layernorm"), named(norm, "post_feedforward_layernorm"), channels}}};
}

ModelConfig Decoder::with_layers(const std::function<LayerConfig(int64_t layer)>& layer) {
  for (int64_t i = 0; i < config.num_hidden_layers; ++i) config.layers.push_back(layer(i));
  return config;
}

void name_nested(ModelConfig& config, const std::string& in_files) {
  config.nested = true;
  ModelNames& names = config.names;
  const std::string memory = "model.language_model.";
  for (std::string* name : {&names.embedding, &names.layers, &names.final_norm})
    if (name->starts_with("model.")) *name = memory + name->substr(6);
  const auto inside = names.stored.empty() ? decltype(names.stored)::value_type() : names.stored[0];  // the family's own words within paths
  names.stored = {{{memory, in_files}}};
  if (in_files.starts_with("language_model.")) names.stored[0].push_back({names.head, "language_model." + names.head});
  for (const char* other : {"model.language_model.", "language_model.model.", "model."})  // as other versions write them
    if (in_files != other) names.stored.push_back({{memory, other}});
  for (auto& form : names.stored) form.insert(form.end(), inside.begin(), inside.end());
}

void name_inside(ModelConfig& config, const std::string& module) {
  config.nested = true;
  ModelNames& names = config.names;
  for (std::string* name : {&names.embedding, &names.layers, &names.final_norm, &names.head}) *name = module + *name;
}

}  // namespace loraine
