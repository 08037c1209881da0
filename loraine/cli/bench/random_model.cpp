// Weights and adapters of made-up values.
#include "loraine/cli/bench/random_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <functional>

#include "loraine/adapters/start.h"

namespace loraine {
namespace {

// Weights of the shape of SmolLM2-135M, made from a hash of their place: without a model folder there is still something to measure.
class RandomWeights : public TensorSource {
 public:
  RandomWeights(const Json& config, Dtype dtype) {
    int64_t C = config["hidden_size"], F = config["intermediate_size"], V = config["vocab_size"], D = config["head_dim"];
    int64_t q = config["num_attention_heads"].get<int64_t>() * D, kv = config["num_key_value_heads"].get<int64_t>() * D;
    auto add = [&](const std::string& name, std::vector<int64_t> shape) {
      all_.push_back({name, shape.size() == 1 ? Dtype::F32 : dtype, shape, name_of(dtype), "random"});
    };
    add("model.embed_tokens.weight", {V, C});
    add("model.norm.weight", {C});
    for (int64_t layer = 0; layer < config["num_hidden_layers"].get<int64_t>(); ++layer) {
      std::string p = fmt::format("model.layers.{}.", layer);
      add(p + "input_layernorm.weight", {C});
      add(p + "post_attention_layernorm.weight", {C});
      add(p + "self_attn.q_proj.weight", {q, C});
      add(p + "self_attn.k_proj.weight", {kv, C});
      add(p + "self_attn.v_proj.weight", {kv, C});
      add(p + "self_attn.o_proj.weight", {C, q});
      add(p + "mlp.gate_proj.weight", {F, C});
      add(p + "mlp.up_proj.weight", {F, C});
      add(p + "mlp.down_proj.weight", {C, F});
    }
    std::sort(all_.begin(), all_.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    bool norm = info.shape.size() == 1;
    uint32_t state = static_cast<uint32_t>(std::hash<std::string>{}(info.name));
    for (int64_t i = 0; i < out.numel(); ++i) {
      state = state * 1664525u + 1013904223u;
      float value = norm ? 1.0f : (static_cast<float>(state >> 8) / 16777216.0f - 0.5f) * 0.1f;
      if (out.dtype == Dtype::F32) static_cast<float*>(out.data)[i] = value;
      else convert(static_cast<uint16_t*>(out.data) + i, out.dtype, &value, Dtype::F32, 1);
    }
  }

 private:
  std::vector<TensorInfo> all_;
};

}  // namespace

ModelFiles random_files(Dtype dtype) {
  ModelFiles files;
  files.path = "random weights, SmolLM2-135M shape";
  files.config = {{"model_type", "llama"},
                  {"vocab_size", 49152},
                  {"hidden_size", 576},
                  {"intermediate_size", 1536},
                  {"num_hidden_layers", 30},
                  {"num_attention_heads", 9},
                  {"num_key_value_heads", 3},
                  {"head_dim", 64},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 100000.0},
                  {"tie_word_embeddings", true},
                  {"hidden_act", "silu"},
                  {"max_position_embeddings", 8192},
                  {"eos_token_id", 2},
                  {"bos_token_id", 1}};
  files.tensors = std::make_unique<RandomWeights>(files.config, dtype);
  return files;
}

AdapterSet random_adapter(const Model& model, int64_t rank, bool trained) {
  LoraConfig lora;
  lora.r = rank;
  lora.lora_alpha = static_cast<double>(2 * rank);
  set_targets(lora, "all");
  AdapterSet adapter = attach_lora(model.sites(), lora, trained);
  init_lora(adapter, model.sites(), lora, 42);
  return adapter;
}

}  // namespace loraine
