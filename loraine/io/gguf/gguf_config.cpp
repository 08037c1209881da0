// config.json from the metadata of a GGUF file.
#include "loraine/io/gguf/gguf_config.h"

#include <fmt/format.h>

#include <cmath>
#include <cstring>
#include <numbers>

#include "loraine/core/error.h"
#include "loraine/io/gguf/gguf_names.h"

namespace loraine {
namespace {

[[noreturn]] void refuse(const GgufFile& file, const std::string& what) {
  throw Error(ErrorKind::bad_data, file.path + ": " + what, "give the model as a Hugging Face folder");
}

// Llama 3 keeps its frequency factors as the tensor rope_freqs; config.json names the rule that made them. The rule is found again by
// trying the published settings: wavelengths beyond 8192 / 1 are slowed by `factor`, below 8192 / 4 kept, a line between.
Json llama3_scaling(const GgufFile& file, const GgufTensor& tensor, double theta, uint64_t head_dim) {
  if (tensor.type != 0 || tensor.shape.size() != 1 || static_cast<uint64_t>(tensor.shape[0]) * 2 != head_dim)
    refuse(file, "rope_freqs.weight is not an F32 list of half the head dimension");
  std::vector<float> factors(static_cast<size_t>(tensor.shape[0]));
  std::memcpy(factors.data(), file.file.data() + tensor.offset, factors.size() * 4);
  const double original = 8192, low = 1, high = 4, factor = std::round(factors.back());
  for (size_t i = 0; i < factors.size(); ++i) {
    double wavelength = 2 * std::numbers::pi * std::pow(theta, 2.0 * static_cast<double>(i) / static_cast<double>(head_dim));
    double expected = factor;
    if (wavelength < original / high) {
      expected = 1;
    } else if (wavelength <= original / low) {
      double smooth = (original / wavelength - low) / (high - low);
      expected = 1 / ((1 - smooth) / factor + smooth);
    }
    if (!(std::fabs(factors[i] - expected) <= 1e-3 * expected))
      refuse(file, fmt::format("rope_freqs.weight is not the Llama 3 rule with factor {}: entry {} is {}, expected {}", factor, i,
                               factors[i], expected));
  }
  return {{"rope_type", "llama3"},
          {"factor", factor},
          {"low_freq_factor", low},
          {"high_freq_factor", high},
          {"original_max_position_embeddings", 8192}};
}

Json rope_scaling(const GgufFile& file, const std::string& architecture, double theta, uint64_t head_dim) {
  for (const GgufTensor& tensor : file.tensors)
    if (tensor.name == "rope_freqs.weight") return llama3_scaling(file, tensor, theta, head_dim);
  std::string prefix = architecture + ".rope.scaling.";
  std::string type = file.text(prefix + "type").value_or("none");
  if (type == "none") return nullptr;
  if (type != "linear" && type != "yarn") refuse(file, "the rope scaling \"" + type + "\" is not supported");
  auto factor = file.number(prefix + "factor");
  if (!factor || *factor <= 0) refuse(file, "rope scaling has no factor");
  Json scaling = {{"rope_type", type}, {"factor", *factor}};
  if (auto original = file.unsigned_integer(prefix + "original_context_length")) scaling["original_max_position_embeddings"] = *original;
  return scaling;
}

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

}  // namespace

Json gguf_config(const GgufFile& file, const TensorSource& tensors) {
  const std::string architecture = gguf_architecture(file);
  const uint64_t hidden = required_gguf_size(file, "embedding_length"), heads = required_gguf_size(file, "attention.head_count");
  const uint64_t kv_heads = gguf_size(file, "attention.head_count_kv").value_or(heads);
  uint64_t head_dim = hidden / heads;
  if (auto rotated = gguf_size(file, "rope.dimension_count")) head_dim = *rotated;
  if (auto length = gguf_size(file, "attention.key_length")) head_dim = *length;
  auto value_length = gguf_size(file, "attention.value_length");
  if (value_length && *value_length != head_dim) refuse(file, "keys and values of different length are not supported");
  auto rotated = gguf_size(file, "rope.dimension_count");
  if (rotated && *rotated != head_dim) refuse(file, "partial rotary embeddings are not supported");
  if (kv_heads == 0 || heads % kv_heads != 0) refuse(file, fmt::format("{} heads and {} key-value heads do not divide", heads, kv_heads));
  auto eps = file.number(architecture + ".attention.layer_norm_rms_epsilon");
  if (!eps || *eps <= 0) refuse(file, architecture + ".attention.layer_norm_rms_epsilon is missing or not positive");
  const double theta = file.number(architecture + ".rope.freq_base").value_or(10000.0);
  if (theta <= 0) refuse(file, architecture + ".rope.freq_base is not positive");
  const TensorInfo* embeddings = tensors.find("model.embed_tokens.weight");
  if (!embeddings || embeddings->shape.size() != 2) refuse(file, "has no matrix token_embd.weight");

  uint64_t window = architecture == "llama" ? gguf_size(file, "attention.sliding_window").value_or(0) : 0;
  const std::string model_type = architecture == "qwen2" || architecture == "qwen3" ? architecture : window > 0 ? "mistral" : "llama";
  const char* classes = model_type == "qwen2"     ? "Qwen2ForCausalLM"
                        : model_type == "qwen3"   ? "Qwen3ForCausalLM"
                        : model_type == "mistral" ? "MistralForCausalLM"
                                                  : "LlamaForCausalLM";
  Json config = {{"architectures", {classes}},
                 {"model_type", model_type},
                 {"hidden_size", hidden},
                 {"intermediate_size", required_gguf_size(file, "feed_forward_length")},
                 {"num_hidden_layers", required_gguf_size(file, "block_count")},
                 {"num_attention_heads", heads},
                 {"num_key_value_heads", kv_heads},
                 {"head_dim", head_dim},
                 {"hidden_act", "silu"},
                 {"rms_norm_eps", *eps},
                 {"rope_theta", theta},
                 {"max_position_embeddings", required_gguf_size(file, "context_length")},
                 {"vocab_size", embeddings->shape[0]},
                 {"tie_word_embeddings", tensors.find("lm_head.weight") == nullptr},
                 {"attention_dropout", 0.0},
                 {"initializer_range", 0.02},
                 {"use_cache", true},
                 {"torch_dtype", matrix_dtype(tensors)}};
  if (window > 0) config["sliding_window"] = window;
  if (model_type == "llama" || model_type == "qwen3")
    config["attention_bias"] = tensors.find("model.layers.0.self_attn.q_proj.bias") != nullptr;
  if (model_type == "llama") config["mlp_bias"] = tensors.find("model.layers.0.mlp.gate_proj.bias") != nullptr;
  if (Json scaling = rope_scaling(file, architecture, theta, head_dim); !scaling.is_null()) config["rope_scaling"] = scaling;
  for (auto [key, name] :
       {std::pair{"bos_token_id", "bos_token_id"}, {"eos_token_id", "eos_token_id"}, {"padding_token_id", "pad_token_id"}}) {
    auto id = file.unsigned_integer(std::string("tokenizer.ggml.") + key);
    if (id && *id < static_cast<uint64_t>(embeddings->shape[0])) config[name] = *id;
  }
  return config;
}

}  // namespace loraine
