// Everything that gpu_decoder computes is named here by what it leaves out.
#include "loraine/model/gpu/gpu_support.h"

#include "loraine/adapters/dora.h"
#include "loraine/adapters/lora.h"
#include "loraine/model/mixers/attention.h"
#include "loraine/model/mixers/mlp.h"

namespace loraine {
namespace {

std::string norm_lacks(const NormConfig& norm) { return norm.kind == NormKind::rms && norm.has_bias ? "RMSNorm with a bias" : ""; }

std::string attention_lacks(const AttentionConfig& c) {
  if (c.qkv_by_head) return "q, k and v of one matrix by heads";
  if (c.gated()) return "attention with an output gate";
  if (c.qkv.empty() && c.v.empty()) return "attention whose values are its keys";
  if (c.shared_kv != SharedKv::none) return "keys and values that layers share";
  if (c.sinks) return "attention sinks";
  if (c.clip != 0) return "clipped q, k and v";
  if (c.temperature_beta != 0) return "attention with a temperature";
  if (c.rope && c.rope->original_length != 0) return "rotations that depend on the length of a sequence";
  if (c.head_norms != HeadNorms::shared && c.head_norms != HeadNorms::whole) return "head norms with weights of their own per head";
  for (const NormConfig* norm : {&c.q_norm, &c.k_norm, &c.v_norm})
    if (norm->kind == NormKind::layer) return "LayerNorm of heads";
    else if (const std::string lacks = norm_lacks(*norm); !lacks.empty()) return lacks;
  return "";
}

std::string mlp_lacks(const MlpConfig& c) {
  if (c.learned_activation) return "an activation with learned numbers";
  if (c.gate_deviations) return "a gate that is thinned out";
  return c.gate_scale != 1 ? "a scaled gate" : "";
}

std::string branch_lacks(const BranchConfig& branch) {
  if (branch.stream_scale != 1) return "a scaled residual stream";
  if (branch.normed_residual) return "a residual stream that goes on from its norm";
  for (const NormConfig* norm : {&branch.before, &branch.after})
    if (const std::string lacks = norm_lacks(*norm); !lacks.empty()) return lacks;
  if (const auto* attention = dynamic_cast<const AttentionConfig*>(branch.mixer.get())) return attention_lacks(*attention);
  if (const auto* mlp = dynamic_cast<const MlpConfig*>(branch.mixer.get())) return mlp_lacks(*mlp);
  return "layers other than attention and dense MLPs (experts, recurrent and latent ones)";
}

}  // namespace

std::string gpu_lacks(const ModelConfig& c) {
  if (c.embedding_norm.kind != NormKind::none) return "a norm on the embeddings";
  if (!c.placeholder_ids.empty()) return "placeholders of images and sounds";
  if (c.final_norm.kind == NormKind::none) return "a model without a norm at its end";
  if (const std::string lacks = norm_lacks(c.final_norm); !lacks.empty()) return lacks;
  for (const LayerConfig& layer : c.layers) {
    if (!layer.scalar.empty()) return "layers scaled as a whole";
    for (const BranchConfig& branch : layer.branches)
      if (const std::string lacks = branch_lacks(branch); !lacks.empty()) return lacks;
  }
  return "";
}

std::string gpu_lacks(const AdapterSet& set, bool trained) {
  if (set.dense) return "tensors that are trained whole";
  if (set.embedding) return "LoRA on the embedding";
  if (set.head()) return "LoRA on the head";
  for (const auto& one : set.experts)
    if (one) return "LoRA on experts";
  for (const auto& site : set.sites)
    if (site && !dynamic_cast<const Dora*>(site.get()) && (trained ? !dynamic_cast<const Lora*>(site.get()) : !site->as_lora()))
      return trained ? "a method other than LoRA and DoRA (AdaLoRA, …)" : "a method other than LoRA and DoRA";
  return "";
}

}  // namespace loraine
