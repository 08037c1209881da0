// A small model whose weights are a formula, for tests of the decoder and of what runs it.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "loraine/model/load.h"

namespace loraine {

inline constexpr int64_t kHidden = 64, kInner = 96, kVocab = 101, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kLayers = 2;

inline float noise(size_t i, size_t seed) {
  return std::sin(static_cast<float>(i % 9973) * 12.9898f + static_cast<float>(seed) * 78.233f) * 0.2f;
}

// Weights from a formula, rounded to bf16 when asked.
class FormulaWeights : public TensorSource {
 public:
  explicit FormulaWeights(bool rounded) : rounded_(rounded) {
    add("model.embed_tokens.weight", {kVocab, kHidden});
    add("model.norm.weight", {kHidden});
    for (int layer = 0; layer < kLayers; ++layer) {
      std::string p = "model.layers." + std::to_string(layer) + ".";
      add(p + "input_layernorm.weight", {kHidden});
      add(p + "post_attention_layernorm.weight", {kHidden});
      add(p + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
      add(p + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
      add(p + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
      add(p + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
      add(p + "mlp.gate_proj.weight", {kInner, kHidden});
      add(p + "mlp.up_proj.weight", {kInner, kHidden});
      add(p + "mlp.down_proj.weight", {kHidden, kInner});
    }
    std::sort(all_.begin(), all_.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    for (int64_t i = 0; i < out.numel(); ++i) {
      float v = noise(static_cast<size_t>(i), info.name.size() * 31 + static_cast<size_t>(info.name[13]));
      if (info.shape.size() == 1) v = 1 + v;
      else if (rounded_) v = bf16_to_f32(f32_to_bf16(v));
      if (out.dtype == Dtype::F32) static_cast<float*>(out.data)[i] = v;
      else convert(static_cast<uint16_t*>(out.data) + i, out.dtype, &v, Dtype::F32, 1);
    }
  }

 private:
  void add(const std::string& name, std::vector<int64_t> shape) { all_.push_back({name, Dtype::F32, std::move(shape), "F32", "formula"}); }
  std::vector<TensorInfo> all_;
  bool rounded_;
};

inline Model make_model(std::unique_ptr<TensorSource> weights, bool bf16) {
  ModelFiles files;
  files.path = "formula";
  files.config = {{"model_type", "llama"},
                  {"vocab_size", kVocab},
                  {"hidden_size", kHidden},
                  {"intermediate_size", kInner},
                  {"num_hidden_layers", kLayers},
                  {"num_attention_heads", kHeads},
                  {"num_key_value_heads", kKvHeads},
                  {"head_dim", kHeadDim},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", true},
                  {"hidden_act", "silu"},
                  {"max_position_embeddings", 512},
                  {"eos_token_id", 2},
                  {"bos_token_id", 1}};
  files.tensors = std::move(weights);
  return load_model(files, bf16);
}

inline Model make_model(bool bf16, bool rounded) { return make_model(std::make_unique<FormulaWeights>(rounded), bf16); }

}  // namespace loraine
