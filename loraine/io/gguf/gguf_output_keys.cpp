// The keys that all families share, then each family's own.
#include "loraine/io/gguf/gguf_output_keys.h"

#include <fmt/format.h>

#include <cmath>
#include <numbers>

#include "loraine/core/error.h"

namespace loraine {
namespace {

struct OutputKeys {
  const Json& config;  // of the text part
  GgufModelKeys& keys;
  std::string name(const std::string& key) const { return std::string(keys.architecture->name) + "." + key; }
  [[noreturn]] void refuse(const std::string& what) const {
    throw Error(ErrorKind::unsupported, "config.json " + what,
                "llama.cpp computes this architecture otherwise: export with export_format: huggingface");
  }
  const Json* find(const char* key) const {
    const auto at = config.find(key);
    return at == config.end() || at->is_null() ? nullptr : &*at;
  }
  double number(const char* key, double otherwise) const {
    const Json* value = find(key);
    return value && value->is_number() ? value->get<double>() : otherwise;
  }
  bool has_size(const char* key) const {  // from a file unsigned, from this program perhaps signed
    const Json* value = find(key);
    return value && value->is_number_integer() && (value->is_number_unsigned() || value->get<int64_t>() >= 0);
  }
  uint64_t size(const char* key) const {
    if (!has_size(key)) throw Error(ErrorKind::bad_data, std::string("config.json has no whole number ") + key);
    return find(key)->get<uint64_t>();
  }
  uint64_t size(const char* key, uint64_t otherwise) const { return has_size(key) ? size(key) : otherwise; }
  void put_size(const std::string& key, uint64_t value) const { keys.metadata.put_unsigned(name(key), value); }
  void put_number(const std::string& key, double value) const { keys.metadata.put_number(name(key), value); }
  void copy_number(const char* from, const std::string& key) const {
    if (find(from) && number(from, 0) != 0) put_number(key, number(from, 0));
  }
  uint64_t head_dim() const { return size("head_dim", size("hidden_size") / size("num_attention_heads")); }
  // rope_parameters (of full attention, where each kind of layer has its own), or rope_scaling.
  Json rope() const {
    Json all = find("rope_parameters") ? *find("rope_parameters") : find("rope_scaling") ? *find("rope_scaling") : Json::object();
    if (all.contains("full_attention")) all = all["full_attention"];
    if (!all.contains("rope_theta") && find("rope_theta")) all["rope_theta"] = *find("rope_theta");
    if (!all.contains("rope_type") && all.contains("type")) all["rope_type"] = all["type"];
    return all;
  }
};

// Divisors of the frequencies of Llama 3's rule, one for each pair of columns.
std::vector<float> llama3_factors(const Json& rope, uint64_t rotated) {
  const double factor = rope.value("factor", 8.0), low = rope.value("low_freq_factor", 1.0), high = rope.value("high_freq_factor", 4.0),
               original = rope.value("original_max_position_embeddings", 8192.0), theta = rope.value("rope_theta", 10000.0);
  std::vector<float> all;
  for (uint64_t i = 0; i < rotated; i += 2) {
    // As the converter has it: the frequency in f32.
    const float frequency = 1.0f / static_cast<float>(std::pow(theta, static_cast<double>(i) / static_cast<double>(rotated)));
    const double wavelength = 2 * std::numbers::pi / static_cast<double>(frequency);
    double value = factor;
    if (wavelength < original / high) value = 1;
    else if (wavelength <= original / low) {
      const double smooth = (original / wavelength - low) / (high - low);
      value = 1 / ((1 - smooth) / factor + smooth);
    }
    all.push_back(static_cast<float>(value));
  }
  return all;
}

void put_rope(const OutputKeys& k) {
  const Json rope = k.rope();
  const std::string type = rope.value("rope_type", std::string("default"));
  if (rope.contains("rope_theta")) k.put_number("rope.freq_base", rope["rope_theta"].get<double>());
  if (type == "default" || type == "none") return;
  if (type == "llama3") {
    k.keys.made.push_back({"rope_freqs.weight", llama3_factors(rope, k.head_dim())});
  } else if (type == "linear" || type == "yarn") {
    k.keys.metadata.put_text(k.name("rope.scaling.type"), type);
    k.put_number("rope.scaling.factor", rope.at("factor").get<double>());
    if (type == "linear") return;
    if (rope.contains("mscale") || rope.contains("mscale_all_dim"))
      k.refuse("scales its attention by mscale, which this architecture's file does not say");
    if (!rope.contains("original_max_position_embeddings")) k.refuse("has yarn without original_max_position_embeddings");
    k.put_size("rope.scaling.original_context_length", rope["original_max_position_embeddings"].get<uint64_t>());
    for (const auto& [from, key] :
         {std::pair{"attention_factor", "yarn_attn_factor"}, {"beta_fast", "yarn_beta_fast"}, {"beta_slow", "yarn_beta_slow"}})
      if (rope.contains(from) && rope[from].is_number()) k.put_number(std::string("rope.scaling.") + key, rope[from].get<double>());
  } else if (type != "longrope" && type != "su") {
    k.refuse("has the rope_type \"" + type + "\", which a GGUF of this architecture cannot say");
  }
}

void common_keys(const OutputKeys& k) {
  k.put_size("block_count", k.size("num_hidden_layers"));
  k.put_size("context_length", k.size("max_position_embeddings"));
  k.put_size("embedding_length", k.size("hidden_size"));
  if (k.find("intermediate_size")) k.put_size("feed_forward_length", k.size("intermediate_size"));
  k.put_size("attention.head_count", k.size("num_attention_heads"));
  k.put_size("attention.head_count_kv", k.size("num_key_value_heads", k.size("num_attention_heads")));
  put_rope(k);
  if (k.find("rms_norm_eps")) k.put_number("attention.layer_norm_rms_epsilon", k.number("rms_norm_eps", 0));
  for (const char* key : {"layer_norm_eps", "norm_epsilon"})
    if (k.find(key)) k.put_number("attention.layer_norm_epsilon", k.number(key, 0));
  if (k.find("head_dim")) {
    k.put_size("attention.key_length", k.size("head_dim"));
    k.put_size("attention.value_length", k.size("head_dim"));
  }
}

void no_window(const OutputKeys& k) {
  if (!k.find("sliding_window") || (k.find("use_sliding_window") && !k.config["use_sliding_window"].get<bool>())) return;
  if (k.size("sliding_window") < k.size("max_position_embeddings"))
    k.keys.notes.push_back(
        fmt::format("llama.cpp attends to all of a text, where config.json has a window of {}", k.size("sliding_window")));
}

void llama_output(const OutputKeys& k) {
  common_keys(k);
  no_window(k);
  k.put_size("vocab_size", k.size("vocab_size"));
  k.put_size("rope.dimension_count", k.head_dim());
}

void mixtral_output(const OutputKeys& k) {
  llama_output(k);
  k.keys.experts = static_cast<int64_t>(k.size("num_local_experts"));
  k.put_size("expert_count", k.size("num_local_experts"));
  k.put_size("expert_used_count", k.size("num_experts_per_tok"));
}

void plain_output(const OutputKeys& k) {
  common_keys(k);
  no_window(k);
}

void qwen_moe_output(const OutputKeys& k) {
  plain_output(k);
  const bool newer = k.keys.architecture->name == "qwen3moe";
  if (k.find("norm_topk_prob") && k.config["norm_topk_prob"].get<bool>() != newer)
    k.refuse(fmt::format("has norm_topk_prob: {}", k.config["norm_topk_prob"].dump()));
  if (k.find("mlp_only_layers") && !k.config["mlp_only_layers"].empty()) k.refuse("has mlp_only_layers");
  const uint64_t experts = k.size(k.has_size("num_experts") ? "num_experts" : "num_local_experts");
  k.keys.experts = static_cast<int64_t>(experts);
  k.put_size("expert_count", experts);
  k.put_size("expert_used_count", k.size("num_experts_per_tok"));
  k.put_size("expert_feed_forward_length", k.size("moe_intermediate_size"));
  if (k.find("shared_expert_intermediate_size")) k.put_size("expert_shared_feed_forward_length", k.size("shared_expert_intermediate_size"));
}

void gemma_output(const OutputKeys& k) {
  common_keys(k);
  k.put_size("attention.key_length", k.size("head_dim", 256));
  k.put_size("attention.value_length", k.size("head_dim", 256));
}

// Which layers have windows and what scores are divided by stands in llama.cpp's code, not in the file.
void gemma_rules(const OutputKeys& k, uint64_t pattern, uint64_t layers_of_27b) {
  const uint64_t layers = k.size("num_hidden_layers");
  const uint64_t by = layers == layers_of_27b ? k.size("hidden_size") / k.size("num_attention_heads") : k.size("head_dim", 256);
  if (k.find("query_pre_attn_scalar") && k.number("query_pre_attn_scalar", 0) != static_cast<double>(by))
    k.refuse(fmt::format("has query_pre_attn_scalar {}, where llama.cpp takes {}", k.number("query_pre_attn_scalar", 0), by));
  if (const Json* types = k.find("layer_types"))
    for (uint64_t layer = 0; layer < layers && layer < types->size(); ++layer)
      if (((*types)[layer] == "sliding_attention") != ((layer + 1) % pattern != 0))
        k.refuse(fmt::format("has {} in layer {}, where llama.cpp has one full layer in {}", (*types)[layer].dump(), layer, pattern));
}

void gemma2_output(const OutputKeys& k) {
  gemma_output(k);
  gemma_rules(k, 2, 46);
  k.put_number("attn_logit_softcapping", k.number("attn_logit_softcapping", 50));
  k.put_number("final_logit_softcapping", k.number("final_logit_softcapping", 30));
  k.put_size("attention.sliding_window", k.size("sliding_window", 4096));
}

void gemma3_output(const OutputKeys& k) {
  gemma_output(k);
  gemma_rules(k, 6, 62);
  if (k.find("attn_logit_softcapping")) k.refuse("has attn_logit_softcapping");
  if (!k.rope().contains("rope_theta")) k.put_number("rope.freq_base", 1000000.0);
  const double local = k.find("rope_parameters") && (*k.find("rope_parameters")).contains("sliding_attention")
                           ? (*k.find("rope_parameters"))["sliding_attention"].value("rope_theta", 10000.0)
                           : k.number("rope_local_base_freq", 10000.0);
  k.put_number("rope.freq_base_swa", local);
  k.copy_number("final_logit_softcapping", "final_logit_softcapping");
  k.put_size("attention.sliding_window", k.size("sliding_window"));
}

void phi3_output(const OutputKeys& k) {
  common_keys(k);
  const Json rope = k.rope();
  const double partial = rope.value("partial_rotary_factor", k.number("partial_rotary_factor", 1.0));
  const auto rotated = static_cast<uint64_t>(partial * static_cast<double>(k.size("hidden_size"))) / k.size("num_attention_heads");
  const uint64_t longest = k.size("max_position_embeddings"),
                 original = rope.value("original_max_position_embeddings", k.size("original_max_position_embeddings", longest));
  k.put_size("rope.dimension_count", rotated);
  k.put_size("rope.scaling.original_context_length", original);
  k.put_size("attention.sliding_window", k.size("sliding_window", 0));
  if (!rope.contains("long_factor")) return;
  const double stretched = static_cast<double>(longest) / static_cast<double>(original);
  k.put_number("rope.scaling.attn_factor",
               stretched > 1 ? std::sqrt(1 + std::log(stretched) / std::log(static_cast<double>(original))) : 1);
  for (const auto& [from, tensor] : {std::pair{"long_factor", "rope_factors_long.weight"}, {"short_factor", "rope_factors_short.weight"}}) {
    const auto factors = rope.at(from).get<std::vector<float>>();
    if (factors.size() * 2 != rotated) k.refuse(fmt::format("has {} {}s for {} columns that turn", factors.size(), from, rotated));
    k.keys.made.push_back({tensor, factors});
  }
}

void granite_output(const OutputKeys& k) {
  llama_output(k);
  k.copy_number("attention_multiplier", "attention.scale");
  k.copy_number("embedding_multiplier", "embedding_scale");
  k.copy_number("residual_multiplier", "residual_scale");
  k.copy_number("logits_scaling", "logit_scale");
}

void smollm3_output(const OutputKeys& k) {
  llama_output(k);
  if (const Json* turns = k.find("no_rope_layers"))
    for (size_t layer = 0; layer < turns->size(); ++layer)
      if (((*turns)[layer].get<int>() != 0) != ((layer + 1) % 4 != 0))
        k.refuse(fmt::format("turns other layers than three of four ({})", layer));
}

void olmo2_output(const OutputKeys& k) {
  common_keys(k);
  if (!k.find("sliding_window") || !k.find("layer_types")) return;
  k.put_size("attention.sliding_window", k.size("sliding_window"));
  std::vector<bool> slides;
  for (const Json& type : *k.find("layer_types")) slides.push_back(type == "sliding_attention");
  k.keys.metadata.put_booleans(k.name("attention.sliding_window_pattern"), slides);
  const Json* rotations = k.find("rope_parameters");
  if (!rotations || !rotations->contains("sliding_attention")) return;
  const Json& sliding = (*rotations)["sliding_attention"];
  if (sliding.contains("rope_theta")) k.put_number("rope.freq_base_swa", sliding["rope_theta"].get<double>());
}

struct WrittenFamily {
  const char *model_type, *architecture;
  void (*keys)(const OutputKeys&);
};
constexpr WrittenFamily kFamilies[] = {
    {"llama", "llama", llama_output},           {"mistral", "llama", llama_output},         {"internlm3", "llama", llama_output},
    {"mixtral", "llama", mixtral_output},       {"qwen2", "qwen2", plain_output},           {"qwen3", "qwen3", plain_output},
    {"qwen2_moe", "qwen2moe", qwen_moe_output}, {"qwen3_moe", "qwen3moe", qwen_moe_output}, {"gemma", "gemma", gemma_output},
    {"gemma2", "gemma2", gemma2_output},        {"gemma3_text", "gemma3", gemma3_output},   {"phi3", "phi3", phi3_output},
    {"granite", "granite", granite_output},     {"smollm3", "smollm3", smollm3_output},     {"arcee", "arcee", llama_output},
    {"olmo2", "olmo2", olmo2_output},           {"olmo3", "olmo2", olmo2_output},           {"starcoder2", "starcoder2", plain_output}};

}  // namespace

GgufModelKeys gguf_model_keys(const Json& config) {
  const std::string type = config.value("model_type", std::string());
  std::string known;
  for (const WrittenFamily& family : kFamilies) {
    known += (known.empty() ? "" : ", ") + std::string(family.model_type);
    if (type != family.model_type) continue;
    GgufModelKeys keys;
    for (const GgufArchitecture& each : gguf_architectures())
      if (each.name == family.architecture) keys.architecture = &each;
    keys.metadata.put_text("general.architecture", family.architecture);
    const OutputKeys k{config, keys};
    keys.layers = static_cast<int64_t>(k.size("num_hidden_layers"));
    keys.heads = {static_cast<int64_t>(k.size("num_attention_heads")),
                  static_cast<int64_t>(k.size("num_key_value_heads", k.size("num_attention_heads")))};
    family.keys(k);
    return keys;
  }
  throw Error(ErrorKind::unsupported, "a GGUF of model_type \"" + type + "\" is not written; written are " + known,
              "export with export_format: huggingface, and convert that folder with llama.cpp's convert_hf_to_gguf.py");
}

}  // namespace loraine
