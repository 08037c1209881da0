// Gemma 3n: several residual streams (AltUp), a learned residual beside attention (LAuReL), inputs per layer, MLPs whose gates are sparse,
// and Gemma 4's attention: norms over heads of q, k and v, the last layers attending to keys and values of earlier ones.
#include <fmt/format.h>

#include <cmath>

#include "loraine/kernels/activations/gaussian_topk.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/gemma_parts.h"
#include "loraine/model/mixers/altup.h"
#include "loraine/model/mixers/laurel.h"

namespace loraine {
namespace {

// One number for all layers, or a list with one for each.
std::vector<double> number_per_layer(const ConfigReader& hf, const char* key, double otherwise) {
  const auto layers = static_cast<size_t>(hf.positive("num_hidden_layers"));
  const nlohmann::json* value = hf.get(key);
  if (!value || !value->is_array()) return std::vector<double>(layers, hf.get(key) ? hf.number_or(key, 0) : otherwise);
  std::vector<double> all = hf.numbers(key);
  if (all.size() != layers) hf.wrong(key, fmt::format("a number, or a list of {}", layers));
  return all;
}

std::vector<int64_t> widths(const ConfigReader& hf) {
  std::vector<int64_t> all;
  for (const double width : number_per_layer(hf, "intermediate_size", 16384)) {
    if (!(width >= 1 && width <= 2147483648.0 && width == std::floor(width))) hf.wrong("intermediate_size", "whole numbers above 0");
    all.push_back(static_cast<int64_t>(width));
  }
  return all;
}

// The share of each layer's gates that is 0; as transformers, absent it is most of them in the first ten layers.
std::vector<double> sparsities(const ConfigReader& hf) {
  const char* key = "activation_sparsity_pattern";
  std::vector<double> all = number_per_layer(hf, key, 0);
  if (!hf.get(key) && all.size() > 10) std::fill_n(all.begin(), 10, 0.95);
  for (const double share : all)
    if (!(share >= 0 && share < 1)) hf.wrong(key, "numbers from 0 to below 1");
  return all;
}

AltUpShape altup_shape(const Decoder& d) {
  AltUpShape shape;
  shape.hidden_size = d.config.hidden_size;
  shape.streams = d.hf.positive_or("altup_num_inputs", 4);
  shape.layers = d.config.num_hidden_layers;
  shape.start_branch = 1;  // behind the inputs per layer
  if (shape.streams < 2 || shape.streams > 16) d.hf.wrong("altup_num_inputs", "a number from 2 to 16");
  if (d.hf.number_or("altup_active_idx", 0) != 0) d.hf.wrong("altup_active_idx", "0: layers work on the first stream");
  return shape;
}

}  // namespace

ModelConfig gemma3n_config(const ConfigReader& all) {
  const std::vector<int64_t> inner = widths(all);
  nlohmann::json keys = all.keys();
  keys["intermediate_size"] = inner.front();
  const ConfigReader hf(keys, all.file());
  Decoder d(hf);
  const int64_t H = d.config.hidden_size, layers = d.config.num_hidden_layers;
  if (!hf.get("tie_word_embeddings")) d.config.tie_word_embeddings = true;
  d.config.embedding_scale = std::sqrt(static_cast<float>(H));
  if (!hf.given_as_null("final_logit_softcapping"))
    d.config.logit_softcap = static_cast<float>(hf.number_or("final_logit_softcapping", 30));
  d.mlp.activation = activation(hf, "hidden_activation", "gelu_pytorch_tanh");
  if (d.mlp.activation != Activation::gelu_tanh) hf.wrong("hidden_activation", "gelu_pytorch_tanh");
  const bool bias = hf.flag_or("attention_bias", false);
  d.attention_biases(bias, bias);
  d.attention.scale = 1;
  d.attention.q_norm = named(d.norm, "q_norm");
  d.attention.k_norm = named(d.norm, "k_norm");
  d.attention.v_norm = weightless(d.norm);
  d.rope_keys.theta = 1000000;

  const std::vector<bool> sliding = d.sliding(5);
  const int64_t window = hf.positive_or("sliding_window", 512);
  const auto full = d.rope_of("full_attention"), local = sliding_rope(d);
  const KvSharing shared = kv_sharing(hf, sliding, 15);
  const std::vector<double> sparsity = sparsities(hf);
  const PerLayerInputsConfig inputs = per_layer_inputs_config(d, hf.positive_or("hidden_size_per_layer_input", 256), 262144);
  const AltUpShape shape = altup_shape(d);
  AltUpStartConfig start;
  AltUpEndConfig end;
  start.shape = end.shape = shape;
  LaurelConfig laurel;
  laurel.hidden_size = H;
  laurel.rank = hf.positive_or("laurel_rank", 64);
  laurel.norm = named(d.norm, "post_laurel_norm");

  return d.with_layers([&](int64_t layer) {
    const auto i = static_cast<size_t>(layer);
    const auto predict_branch = [](int64_t of_layer) { return of_layer == 0 ? size_t{2} : size_t{0}; };
    AttentionConfig attention = d.attention;
    attention.window = sliding[i] ? window : 0;
    attention.rope = sliding[i] ? local : full;
    attention.shared_kv = shared.kind[i];
    attention.kv_layer = shared.giver[i];
    attention.kv_branch = predict_branch(attention.kv_layer) + 1;
    MlpConfig mlp = d.mlp;
    mlp.intermediate_size = inner[i];
    if (sparsity[i] > 0) mlp.gate_deviations = normal_quantile(sparsity[i]);

    AltUpPredictConfig predict;
    predict.shape = shape;
    predict.router_norm = named(d.norm, "router_norm");
    AltUpCorrectConfig correct;
    correct.shape = shape;
    correct.predict_branch = predict_branch(layer);
    correct.scales_output = hf.flag_or("altup_correct_scale", true);
    correct.bounded = !hf.given_as_null("altup_coef_clip");
    correct.input.hidden_size = H;
    correct.input.width = inputs.width;
    correct.input.layer = layer;
    correct.input_norm = named(d.norm, "post_per_layer_input_norm");

    const LayerConfig usual = d.sandwich(attention, share(mlp));
    BranchConfig residual{usual.branches[0].before, {}, share(laurel)};
    residual.beside = true;
    residual.stream_scale = std::sqrt(0.5f);
    LayerConfig out;
    out.branches = {{{}, {}, share(predict)}, usual.branches[0], residual, usual.branches[1], {{}, {}, share(correct)}};
    if (layer == 0) out.branches.insert(out.branches.begin(), {{{}, {}, share(inputs)}, {{}, {}, share(start)}});
    if (layer + 1 == layers) out.branches.push_back({{}, {}, share(end)});
    return out;
  });
}

}  // namespace loraine
