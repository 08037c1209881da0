// Keys of experts, and their layers.
#include "loraine/model/families/expert_parts.h"

#include <fmt/format.h>

namespace loraine {
namespace {

// The first of the keys that the file has.
const char* found(const ConfigReader& hf, std::initializer_list<const char*> keys) {
  for (const char* key : keys)
    if (hf.get(key)) return key;
  return *keys.begin();
}

// A number, or a list with one for every layer, which must agree.
int64_t number_or_list(const ConfigReader& hf, const char* key) {
  const nlohmann::json* value = hf.get(key);
  if (!value || !value->is_array()) return hf.positive(key);
  const std::vector<double> all = hf.numbers(key);
  for (const double one : all)
    if (one != all.front() || one < 1) hf.wrong(key, "one number above 0 for all layers");
  if (all.empty()) hf.wrong(key, "a number");
  return static_cast<int64_t>(all.front());
}

}  // namespace

ExpertsConfig experts_config(const ConfigReader& hf, Decoder& d) {
  ExpertsConfig e;
  e.hidden_size = d.config.hidden_size;
  e.activation = d.mlp.activation;
  e.router.experts = number_or_list(hf, found(hf, {"num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"}));
  const char* per_token = found(hf, {"num_experts_per_tok", "num_experts_per_token", "top_k_experts", "moe_topk", "moe_k"});
  e.router.per_token = number_or_list(hf, per_token);
  if (e.router.per_token > e.router.experts) hf.wrong(per_token, fmt::format("at most the number of experts, {}", e.router.experts));
  const char* width = found(hf, {"moe_intermediate_size", "intermediate_size"});
  e.intermediate_size = number_or_list(hf, width);
  e.router.normalise = hf.flag_or("norm_topk_prob", false);
  d.config.num_experts = e.router.experts;
  if (hf.flag_or("output_router_logits", false)) d.config.router_aux_loss_coef = hf.number_or("router_aux_loss_coef", 0.001);
  return e;
}

void route_by_sigmoid(const ConfigReader& hf, ExpertsConfig& e) {
  RouterShape& r = e.router;
  r.scores = RouterScores::sigmoid;
  r.normalise = hf.flag_or(found(hf, {"norm_topk_prob", "moe_renormalize"}), true);
  r.normaliser_floor = 1e-20f;
  r.scale = static_cast<float>(hf.number_or("routed_scaling_factor", 1));
  const char* groups = found(hf, {"n_group", "num_expert_group"});
  r.groups = hf.get(groups) ? hf.positive(groups) : 1;
  r.kept_groups = hf.get("topk_group") ? hf.positive("topk_group") : r.groups;
  if (r.experts % r.groups) hf.wrong(groups, fmt::format("a divisor of the number of experts, {}", r.experts));
  if (r.kept_groups > r.groups || r.kept_groups * (r.experts / r.groups) < r.per_token)
    hf.wrong("topk_group", fmt::format("groups enough for {} experts, and at most {} {}", r.per_token, groups, r.groups));
  e.correction = "gate.e_score_correction_bias";
}

void name_w1_w2_w3(ExpertsConfig& e) {
  e.gate_piece = "w1";
  e.up_piece = "w3";
  e.down_piece = "w2";
}

void add_shared(ExpertsConfig& e, const MlpConfig& like, const std::string& folder, int64_t columns) {
  e.shared = like;
  e.shared->folder = folder;
  e.shared->intermediate_size = columns;
}

std::set<int64_t> dense_layers(const ConfigReader& hf, const Decoder& d, int64_t when_absent) {
  std::set<int64_t> dense;
  const nlohmann::json* types = hf.get("mlp_layer_types");
  if (types && (!types->is_array() || static_cast<int64_t>(types->size()) != d.config.num_hidden_layers))
    hf.wrong("mlp_layer_types", fmt::format("a list of {} types", d.config.num_hidden_layers));
  const int64_t first = static_cast<int64_t>(hf.number_or("first_k_dense_replace", static_cast<double>(when_absent)));
  for (int64_t layer = 0; layer < d.config.num_hidden_layers; ++layer)
    if (types ? (*types)[static_cast<size_t>(layer)] == "dense" : layer < first) dense.insert(layer);
  return dense;
}

std::set<int64_t> qwen_dense_layers(const Decoder& d) {
  std::set<int64_t> dense;
  if (d.hf.get("mlp_only_layers"))
    for (const double layer : d.hf.numbers("mlp_only_layers")) dense.insert(static_cast<int64_t>(layer));
  const int64_t step = d.hf.positive_or("decoder_sparse_step", 1);
  for (int64_t layer = 0; layer < d.config.num_hidden_layers; ++layer)
    if ((layer + 1) % step != 0) dense.insert(layer);
  return dense;
}

ModelConfig with_experts(Decoder& d, const ExpertsConfig& experts, const std::set<int64_t>& dense) {
  const auto mlp = share(d.mlp);
  const auto sparse = share(experts);
  return d.with_layers([&](int64_t layer) {
    if (dense.contains(layer)) return d.pre_norm(d.attention, mlp);
    return d.pre_norm(d.attention, sparse);
  });
}

void name_block_sparse(ModelConfig& config) { config.names.stored = {{{".mlp", ".block_sparse_moe"}}}; }

}  // namespace loraine
