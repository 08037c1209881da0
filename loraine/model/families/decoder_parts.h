// The parts that decoders are put together from, as most families have them: a family's function changes what differs and lays out the
// layers.
#pragma once
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "loraine/model/config.h"
#include "loraine/model/families/config_reader.h"
#include "loraine/model/families/rope_config.h"
#include "loraine/model/mixers/attention.h"
#include "loraine/model/mixers/mlp.h"

namespace loraine {

NormConfig rms(const std::string& name, double eps, float offset = 0);
NormConfig layer_norm_config(const std::string& name, double eps, bool bias, float offset = 0);
NormConfig named(NormConfig norm, const std::string& name);
NormConfig weightless(NormConfig norm);

template <class Config>
std::shared_ptr<const MixerConfig> share(const Config& mixer) {
  return std::make_shared<const Config>(mixer);
}

// hidden_act and the like; absent gives `otherwise`. "gelu" is the exact one.
Activation activation(const ConfigReader& hf, const char* key, const char* otherwise);

// Sizes, names and tokens from config.json; RMS norms, SwiGLU without biases, attention without norms, and rope.
struct Decoder {
  explicit Decoder(const ConfigReader& hf, const char* eps_key = "rms_norm_eps", double eps = 1e-6);

  const ConfigReader& hf;
  ModelConfig config;
  NormConfig norm;  // without a name
  AttentionConfig attention;
  MlpConfig mlp;
  RopeKeys rope_keys;

  // attention_bias and the like: on q, k, v and on the output.
  void attention_biases(bool qkv, bool output);
  void rope();  // reads attention.rope by rope_keys
  std::shared_ptr<const Rope> rope_of(const std::string& layer_type) const;
  // Per layer, whether layer_types calls it sliding_attention; otherwise by the pattern: every `pattern`th layer is full. pattern 0: none
  // slides.
  std::vector<bool> sliding(int64_t pattern) const;
  // sliding_window, and on which layers: those that layer_types names, else from `first` on. As transformers, an absent size is 4096 and
  // null is none.
  std::vector<int64_t> windows(int64_t first) const;

  // The usual layer: norm, attention, norm, MLP.
  LayerConfig pre_norm(const AttentionConfig& attention, const std::shared_ptr<const MixerConfig>& mlp) const;
  LayerConfig pre_norm() const { return pre_norm(attention, share(mlp)); }
  // Gemma's: a norm after each as well.
  LayerConfig sandwich(const AttentionConfig& attention, const std::shared_ptr<const MixerConfig>& mlp) const;
  ModelConfig with_layers(const std::function<LayerConfig(int64_t layer)>& layer);
};

// Where a nested model keeps its language model, in memory and in its files.
void name_nested(ModelConfig& config, const std::string& in_files);
// The same where all of it, the head too, is called by one module in memory as in files.
void name_inside(ModelConfig& config, const std::string& module);

}  // namespace loraine
