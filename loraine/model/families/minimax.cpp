// MiniMax-Text-01 and M1: seven layers of lightning attention to one of attention, experts in all of them, and a stream that goes on from
// its norm.
#include <cmath>

#include "loraine/model/families/expert_parts.h"
#include "loraine/model/families/families.h"
#include "loraine/model/families/hybrid.h"
#include "loraine/model/mixers/lightning_attention.h"

namespace loraine {
namespace {

// The decays of ALiBi's slopes, smaller from layer to layer; files hold them too, computed.
std::vector<float> decays(int64_t heads, int64_t layer, int64_t layers) {
  const double base = std::exp2(-8.0 / static_cast<double>(heads));
  const double factor = 1 - static_cast<double>(layer) / (static_cast<double>(layers - 1) + 1e-5) + 1e-5;
  std::vector<float> all;
  for (int64_t head = 1; head <= heads; ++head) all.push_back(static_cast<float>(-std::pow(base, static_cast<double>(head)) * factor));
  return all;
}

}  // namespace

ModelConfig minimax_config(const ConfigReader& hf) {
  Decoder d(hf, "rms_norm_eps", 1e-5);
  d.mlp.activation = activation(hf, "hidden_act", "silu");
  d.rope_keys.theta = 1000000;
  d.rope();
  if (hf.get("sliding_window")) d.attention.window = hf.positive("sliding_window");
  ExpertsConfig experts = experts_config(hf, d);
  experts.router.normalise = true;
  name_w1_w2_w3(experts);
  name_block_sparse(d.config);
  LightningAttentionConfig lightning;
  lightning.hidden_size = d.config.hidden_size;
  lightning.heads = d.attention.heads;
  lightning.head_dim = d.attention.head_dim;
  lightning.activation = d.mlp.activation;
  const std::vector<bool> linear = recurrent_layers(d, {"linear_attention"}, [](int64_t layer) { return layer % 2 != 0; });
  const auto factor = [&](const std::string& key) { return static_cast<float>(hf.number_or(key.c_str(), 1)); };
  const auto sparse = share(experts);
  return d.with_layers([&](int64_t layer) {
    const bool recurrent = linear[static_cast<size_t>(layer)];
    lightning.decay = decays(lightning.heads, layer, d.config.num_hidden_layers);
    LayerConfig out = d.pre_norm(d.attention, sparse);
    if (recurrent) out.branches[0].mixer = share(lightning);
    const std::string kinds[] = {recurrent ? "linear_attn" : "full_attn", "mlp"};
    for (size_t b = 0; b < 2; ++b) {
      out.branches[b].normed_residual = factor(kinds[b] + "_alpha_factor");
      out.branches[b].scale = factor(kinds[b] + "_beta_factor");
    }
    return out;
  });
}

}  // namespace loraine
