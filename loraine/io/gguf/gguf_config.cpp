// config.json from the metadata of a GGUF file: the keys that all architectures share.
#include "loraine/io/gguf/gguf_config.h"

#include <fmt/format.h>

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/io/gguf/gguf_keys.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine {
namespace {

// The type all matrices share, else F32.
const char* matrix_dtype(const TensorSource& tensors) {
  bool f16 = false, bf16 = false, f32 = false;
  for (const TensorInfo& info : tensors.tensors()) {
    if (info.shape.size() < 2) continue;
    (info.dtype == Dtype::F16 ? f16 : info.dtype == Dtype::BF16 ? bf16 : f32) = true;
  }
  if (f32 || (f16 && bf16)) return "float32";
  return f16 ? "float16" : bf16 ? "bfloat16" : "float32";
}

// From a tensor of the first layer that has it: sizes that the keys do not always say.
std::optional<uint64_t> rows_of(const GgufFile& file, std::string_view tensor) {
  for (const GgufTensor& each : file.tensors)
    if (each.name.starts_with("blk.") && each.name.ends_with(tensor) && each.shape.size() == 2) return static_cast<uint64_t>(each.shape[0]);
  return std::nullopt;
}

void read_sizes(GgufKeys& keys) {
  const GgufFile& file = keys.file;
  keys.layers = required_gguf_size(file, "block_count");
  if (keys.layers > 100000) keys.refuse(fmt::format("block_count is {}, which cannot be", keys.layers));
  keys.hidden = required_gguf_size(file, "embedding_length");
  keys.heads = required_gguf_size(file, "attention.head_count");
  keys.kv_heads = keys.heads;
  if (keys.architecture.traits.layers_differ) {
    for (const uint64_t size : gguf_layer_sizes(file, "attention.head_count_kv", keys.layers)) {
      keys.kv_heads = size;
      if (size != 0) break;
    }
  } else {
    keys.kv_heads = gguf_size(file, "attention.head_count_kv").value_or(keys.heads);
  }
  if (keys.kv_heads == 0 || keys.heads % keys.kv_heads != 0)
    keys.refuse(fmt::format("{} heads and {} key-value heads do not divide", keys.heads, keys.kv_heads));
  keys.head_dim = keys.hidden / keys.heads;
  if (auto rows = rows_of(file, ".attn_q.weight"); rows && *rows % keys.heads == 0) keys.head_dim = *rows / keys.heads;
  if (auto length = keys.size("attention.key_length")) keys.head_dim = *length;
  if (keys.head_dim == 0) keys.refuse("has heads of no width");
  const auto value_length = keys.size("attention.value_length");
  if (!keys.architecture.traits.latent && value_length && *value_length != keys.head_dim)
    keys.refuse("keys and values of different length are not supported");
  keys.theta = keys.number("rope.freq_base").value_or(10000.0);
  if (keys.theta <= 0) keys.refuse("rope.freq_base is not positive");
}

void read_rope(GgufKeys& keys) {
  keys.config["rope_theta"] = keys.theta;
  if (const auto rotated = keys.size("rope.dimension_count"); rotated && *rotated != keys.head_dim) {
    if (*rotated == 0 || *rotated > keys.head_dim) keys.refuse(fmt::format("{} of the {} columns of a head turn", *rotated, keys.head_dim));
    keys.config["partial_rotary_factor"] = static_cast<double>(*rotated) / static_cast<double>(keys.head_dim);
  }
  if (Json scaling = gguf_rope_scaling(keys); !scaling.is_null()) keys.config["rope_scaling"] = scaling;
}

}  // namespace

void GgufKeys::refuse(const std::string& what) const {
  throw Error(ErrorKind::bad_data, file.path + ": " + what, "give the model as a Hugging Face folder");
}
std::optional<double> GgufKeys::number(const std::string& key) const { return file.number(std::string(architecture.name) + "." + key); }
std::optional<uint64_t> GgufKeys::size(const std::string& key) const { return gguf_size(file, key); }
std::optional<bool> GgufKeys::flag(const std::string& key) const { return file.boolean(std::string(architecture.name) + "." + key); }
const TensorInfo* GgufKeys::first(const std::string& tensor) const {
  for (uint64_t layer = 0; layer < layers; ++layer)
    if (const TensorInfo* info = tensors.find(fmt::format("{}.{}.{}", architecture.traits.layers, layer, tensor))) return info;
  return nullptr;
}
void GgufKeys::set_type(const char* model_type, const char* model_class) {
  config["model_type"] = model_type;
  config["architectures"] = {model_class};
}
void GgufKeys::copy_number(const std::string& key, const char* name) {
  if (auto value = number(key)) config[name] = *value;
}
void GgufKeys::copy_size(const std::string& key, const char* name) {
  if (auto value = size(key)) config[name] = *value;
}
bool GgufKeys::windows(uint64_t pattern) {
  const uint64_t window = size("attention.sliding_window").value_or(0);
  if (window == 0) return false;
  const std::string key = std::string(architecture.name) + ".attention.sliding_window_pattern";
  std::vector<int64_t> slides;
  if (const GgufValue* given = file.find(key); given && given->type == GgufType::Array) slides = file.integers(key);
  else if (given) pattern = *file.unsigned_integer(key);
  if (!slides.empty() && slides.size() < layers) refuse(fmt::format("{} has {} entries for {} layers", key, slides.size(), layers));
  config["sliding_window"] = window;
  config["layer_types"] = Json::array();
  for (uint64_t layer = 0; layer < layers; ++layer)
    config["layer_types"].push_back((slides.empty() ? pattern > 0 && (layer + 1) % pattern != 0 : slides[layer] != 0) ? "sliding_attention"
                                                                                                                      : "full_attention");
  return true;
}

Json gguf_config(const GgufFile& file, const TensorSource& tensors) {
  GgufKeys keys{file, tensors, gguf_architecture(file)};
  const GgufArchitecture& architecture = keys.architecture;
  read_sizes(keys);
  const std::string eps_key = architecture.traits.layer_norm.empty() ? "attention.layer_norm_rms_epsilon" : "attention.layer_norm_epsilon";
  const auto eps = keys.number(eps_key);
  if (!eps || *eps <= 0) keys.refuse(fmt::format("{}.{} is missing or not positive", architecture.name, eps_key));
  const auto target = gguf_target(architecture, "token_embd.weight");
  const TensorInfo* embeddings = tensors.find(target->name);
  if (!embeddings || embeddings->shape.size() != 2) keys.refuse("has no matrix token_embd.weight");

  Json& config = keys.config;
  const auto inner = rows_of(file, ".ffn_gate.weight");
  config = {
      {"architectures", {architecture.model_class}},
      {"model_type", architecture.model_type},
      {"hidden_size", keys.hidden},
      {"num_hidden_layers", keys.layers},
      {"num_attention_heads", keys.heads},
      {"num_key_value_heads", keys.kv_heads},
      {"head_dim", keys.head_dim},
      {"hidden_act", "silu"},
      {architecture.traits.layer_norm.empty() ? std::string(architecture.traits.rms_norm) : std::string(architecture.traits.layer_norm),
       *eps},
      {"max_position_embeddings", required_gguf_size(file, "context_length")},
      {"vocab_size", embeddings->shape[0]},
      {"tie_word_embeddings", tensors.find(gguf_target(architecture, "output.weight")->name) == nullptr},
      {"attention_dropout", 0.0},
      {"initializer_range", 0.02},
      {"use_cache", true},
      {"torch_dtype", matrix_dtype(tensors)}};
  const bool experts_alone = keys.size("expert_count").value_or(0) > 0 && !keys.size("feed_forward_length");
  if (!experts_alone) config["intermediate_size"] = inner ? *inner : required_gguf_size(file, "feed_forward_length");
  read_rope(keys);
  for (auto [key, name] :
       {std::pair{"bos_token_id", "bos_token_id"}, {"eos_token_id", "eos_token_id"}, {"padding_token_id", "pad_token_id"}}) {
    auto id = file.unsigned_integer(std::string("tokenizer.ggml.") + key);
    if (id && *id < static_cast<uint64_t>(embeddings->shape[0])) config[name] = *id;
  }
  if (architecture.keys) architecture.keys(keys);
  return config;
}

}  // namespace loraine
