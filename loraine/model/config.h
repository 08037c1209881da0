// What a model is, made from Hugging Face's config.json by the families: sizes and names, and its layers as a list of branches.
#pragma once
#include <cstdint>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace loraine {

enum class NormKind { none, rms, layer };

struct NormConfig {
  NormKind kind = NormKind::none;
  std::string name;  // within its layer, or the whole path for one outside: "input_layernorm"
  float eps = 1e-6f;
  float offset = 0;  // added to the weight: 1 in Gemma
  bool has_weight = true, has_bias = false;
};

class MixerConfig;

// x ← stream_scale · (x + scale · after(mixer(before(x)))), the one step that all decoders are made of.
struct BranchConfig {
  NormConfig before, after;
  std::shared_ptr<const MixerConfig> mixer;
  float scale = 1;
  bool beside = false;     // reads the same x as the branch before it, whose sum it adds to (parallel attention and MLP)
  float stream_scale = 1;  // of branches beside each other only the last may have one
  // x ← normed_residual · before(x) + scale · after(mixer(before(x))): the stream goes on from its norm (MiniMax). Not for a branch beside.
  std::optional<float> normed_residual = {};
};

struct LayerConfig {
  std::vector<BranchConfig> branches;
  std::string scalar;  // a tensor [1] that x is multiplied with at the layer's end; empty: none
};

// Module paths as transformers has them in memory, and how the files of the model call them where that differs.
struct ModelNames {
  std::string embedding = "model.embed_tokens", layers = "model.layers", final_norm = "model.norm", head = "lm_head";
  // The beginning of a path → what stands there in the files, or, with a dot before it (".mlp"), whole words within a path. Several forms
  // in which files are found, the first one counts.
  std::vector<std::vector<std::pair<std::string, std::string>>> stored;
  std::vector<std::string> turned;  // ends of the modules' paths whose weights the files hold as [in, out]
  std::string in_files(const std::string& path) const;
  std::string layer(int64_t number) const { return layers + "." + std::to_string(number) + "."; }
};

struct ModelConfig {
  std::string model_type;
  int64_t vocab_size = 0, hidden_size = 0, num_hidden_layers = 0, num_attention_heads = 0, max_position_embeddings = 0;
  bool tie_word_embeddings = false;
  bool nested = false;  // the text part of a model with more parts
  ModelNames names;
  NormConfig embedding_norm, final_norm;  // of the embeddings (often none), and after the last layer
  float embedding_scale = 1;
  std::vector<LayerConfig> layers;  // [num_hidden_layers]
  bool head_bias = false;
  float logit_scale = 1, logit_softcap = 0;  // logits = softcap · tanh(logit_scale · head(x) / softcap); 0: no cap
  int64_t num_experts = 0;
  double router_aux_loss_coef = 0;       // of the load-balancing loss of experts, where config.json asks for it
  std::vector<int32_t> placeholder_ids;  // tokens that stand for images and sounds; `placeholder_as` is embedded in their place
  int32_t placeholder_as = 0;
  std::vector<int32_t> eos_token_ids;  // config.json's eos_token_id, one or several
  int32_t bos_token_id = -1;
};

// Throws bad_data naming the key (a bad value, a head count that does not divide) or the model_type that no family knows.
ModelConfig model_config(const nlohmann::json& hf, const std::string& file);

}  // namespace loraine
