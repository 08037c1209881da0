// A small model whose weights are a formula, for tests of the decoder and of what runs it.
#pragma once
#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "loraine/model/load.h"

namespace loraine {

struct FormulaShape {
  int64_t hidden = 64, inner = 96, vocab = 101, heads = 4, kv_heads = 2, head_dim = 16, layers = 2;
};
inline constexpr FormulaShape kShape;
inline constexpr int64_t kHidden = kShape.hidden, kInner = kShape.inner, kVocab = kShape.vocab, kHeads = kShape.heads,
                         kKvHeads = kShape.kv_heads, kHeadDim = kShape.head_dim, kLayers = kShape.layers;

inline float noise(size_t i, size_t seed) {
  return std::sin(static_cast<float>(i % 9973) * 12.9898f + static_cast<float>(seed) * 78.233f) * 0.2f;
}

// Weights from a formula, rounded to bf16 when asked.
class FormulaWeights : public TensorSource {
 public:
  explicit FormulaWeights(bool rounded, const FormulaShape& m = kShape) : rounded_(rounded) {
    add("model.embed_tokens.weight", {m.vocab, m.hidden});
    add("model.norm.weight", {m.hidden});
    for (int64_t layer = 0; layer < m.layers; ++layer) {
      std::string p = "model.layers." + std::to_string(layer) + ".";
      add(p + "input_layernorm.weight", {m.hidden});
      add(p + "post_attention_layernorm.weight", {m.hidden});
      add(p + "self_attn.q_proj.weight", {m.heads * m.head_dim, m.hidden});
      add(p + "self_attn.k_proj.weight", {m.kv_heads * m.head_dim, m.hidden});
      add(p + "self_attn.v_proj.weight", {m.kv_heads * m.head_dim, m.hidden});
      add(p + "self_attn.o_proj.weight", {m.hidden, m.heads * m.head_dim});
      add(p + "mlp.gate_proj.weight", {m.inner, m.hidden});
      add(p + "mlp.up_proj.weight", {m.inner, m.hidden});
      add(p + "mlp.down_proj.weight", {m.hidden, m.inner});
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

inline Model make_model(std::unique_ptr<TensorSource> weights, bool bf16, const FormulaShape& m = kShape) {
  ModelFiles files;
  files.path = "formula";
  files.config = {{"model_type", "llama"},
                  {"vocab_size", m.vocab},
                  {"hidden_size", m.hidden},
                  {"intermediate_size", m.inner},
                  {"num_hidden_layers", m.layers},
                  {"num_attention_heads", m.heads},
                  {"num_key_value_heads", m.kv_heads},
                  {"head_dim", m.head_dim},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", true},
                  {"hidden_act", "silu"},
                  {"max_position_embeddings", 512},
                  {"eos_token_id", 2},
                  {"bos_token_id", 1}};
  files.tensors = std::move(weights);
  return load_model(files, {bf16});
}

inline Model make_model(bool bf16, bool rounded) { return make_model(std::make_unique<FormulaWeights>(rounded), bf16); }

}  // namespace loraine
