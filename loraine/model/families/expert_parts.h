// What families with experts share: sizes under whichever of transformers' keys a file has, and which layers have them.
#pragma once
#include <memory>
#include <set>

#include "loraine/model/families/decoder_parts.h"
#include "loraine/model/mixers/experts.h"

namespace loraine {

// Router and experts as config.json has their numbers and widths; softmax over all, weights by norm_topk_prob. Throws bad_data where a
// token has more experts than there are.
ExpertsConfig experts_config(const ConfigReader& hf, Decoder& d);
// Sigmoid scores, a correction that counts in choosing, groups: the router of DeepSeek V3.
void route_by_sigmoid(const ConfigReader& hf, ExpertsConfig& experts);
// Files that call an expert's matrices w1 (gate), w3 (up) and w2 (down).
void name_w1_w2_w3(ExpertsConfig& experts);
// The MLP beside the experts, `columns` wide.
void add_shared(ExpertsConfig& experts, const MlpConfig& like, const std::string& folder, int64_t columns);
// Layers with a dense MLP instead: below first_k_dense_replace (or `when_absent`), or where mlp_layer_types says so.
std::set<int64_t> dense_layers(const ConfigReader& hf, const Decoder& d, int64_t when_absent = 0);
// Qwen: those that mlp_only_layers names, and all but every decoder_sparse_step-th.
std::set<int64_t> qwen_dense_layers(const Decoder& d);
// Attention and, by layer, the dense MLP or the experts.
ModelConfig with_experts(Decoder& d, const ExpertsConfig& experts, const std::set<int64_t>& dense);
// Files that have what transformers calls `mlp` under block_sparse_moe.
void name_block_sparse(ModelConfig& config);

}  // namespace loraine
