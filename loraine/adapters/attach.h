// From adapter_config.json's words (targets, ranks, patterns) to an AdapterSet over the sites of a model. Called by train, chat, export,
// trace.
#pragma once
#include <functional>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"

namespace loraine {

// Which ranks of an AdaLoRA adapter live: module path → one value per rank of init_r.
using RankPattern = std::map<std::string, std::vector<bool>>;

// PEFT's keys of AdaLoRA (rank_budget.h says what they do).
struct AdaloraConfig {
  int64_t init_r = 12, target_r = 8, tinit = 0, tfinal = 0, deltaT = 1, total_step = 0;
  double beta1 = 0.85, beta2 = 0.85, orth_reg_weight = 0.5;
  RankPattern rank_pattern;  // empty: all live
};

// PEFT's eva_config, corda_config and lora_ga_config (data_start.h says what they do).
struct EvaConfig {
  double rho = 2, tau = 0.99;
  bool use_label_mask = true, whiten = false, adjust_scaling_factors = true;
};
struct CordaConfig {
  std::string method = "ipm";  // ipm, kpm
};
struct LoraGaConfig {
  std::string direction = "ArB2r", scale = "stable";
  double stable_gamma = 16;
};

class PeftMethod;  // adapters/peft_methods/peft_method.h

// The keys of PEFT's LoraConfig that loraine builds; those of other methods that mean the same are kept in them.
struct LoraConfig {
  std::shared_ptr<const PeftMethod> method;  // another peft_type than LORA and ADALORA, with its own keys; or nothing
  int64_t r = 8;
  double lora_alpha = 8;
  double lora_dropout = 0;
  bool use_rslora = false;
  bool use_dora = false;
  bool lora_bias = false;                  // B has a bias
  bool frozen_a = false;                   // of a run alone (LoRA-FA): A has no gradient
  std::string init_lora_weights = "true";  // see start.h
  int64_t loftq_bits = 4, loftq_iter = 1;  // PEFT's loftq_config; for init_lora_weights loftq alone
  EvaConfig eva;                           // for init_lora_weights eva, and so on
  CordaConfig corda;
  LoraGaConfig lora_ga;
  std::vector<std::string> target_modules;     // names matched as suffixes of module paths
  std::string target_regex;                    // instead of names: full match of the whole path
  std::vector<std::string> target_parameters;  // names of parameters, matched as suffixes: experts' matrices, a router's weight
  std::vector<std::string> exclude_modules;
  std::string exclude_regex;
  std::vector<int64_t> layers_to_transform;
  std::vector<std::string> layers_pattern;  // names before the layer's number; empty: the first number counts
  std::vector<std::pair<std::string, int64_t>> rank_pattern;
  std::vector<std::pair<std::string, double>> alpha_pattern;
  std::optional<AdaloraConfig> adalora;  // peft_type ADALORA
  std::string base_model_name_or_path;
  std::vector<std::string> modules_to_save;  // modules that are trained whole
  std::string bias = "none";                 // none, all, lora_only: biases that are trained
  std::vector<std::pair<std::string, std::vector<int64_t>>>
      trainable_tokens;                          // module (empty: the embedding) → ids of rows that are trained
  std::vector<int32_t> alora_invocation_tokens;  // aLoRA: the adapter is on from the last place of this sequence; empty: everywhere
  bool ensure_weight_tying = false;              // embedding and head, where the base ties them, are adapted as one
  std::vector<std::string> unknown_keys;         // of the file that was read, each with its value; of a later PEFT, perhaps
};

// Whether a regular expression matches the whole text. usage for one that is none, or that searches without end.
bool matches_whole(const std::string& pattern, const std::string& text);

// LLaMA-Factory's lora_target: "all", a comma list of names, or a regular expression (anything holding one of \ * + ? ( [ | ^ $ or {). In a
// list, `experts` stands for all matrices of experts and names like experts.down_proj for one of them: they become target_parameters.
void set_targets(LoraConfig& config, const std::string& lora_target);

// The word that stands for every linear layer of a model until it is known which those are.
inline constexpr const char* kAllLinear = "all-linear";
// Writes their names in its place: the last words of their paths, as PEFT does, or the whole paths, as LLaMA-Factory does for models with a
// vision tower. The head is none of them.
void name_all_linear(LoraConfig& config, const std::vector<const Weight*>& sites, bool whole_paths);

// The word for all matrices of experts, until it is known which a model has.
inline constexpr const char* kExperts = "experts";
// Writes their names in its place, of `parameters` ("model.layers.0.mlp.experts.gate_up_proj", …) the last two words. usage where there are
// none.
void name_experts(LoraConfig& config, const std::vector<std::string>& parameters);

// Names of weights that are no layers but parameters of their modules (routers, as a rule) move from target_modules to target_parameters,
// where PEFT has them: "gate" becomes "gate.weight".
void name_bare_weights(LoraConfig& config, const std::vector<const Weight*>& sites);

// exclude_modules, written in the same way.
void set_excluded(LoraConfig& config, const std::string& modules);

// The path without the module that a model with a vision tower has around its language model, however a version of transformers calls it:
// adapters name the layers with and without it.
std::string without_wrapper(std::string path);

// Whether the config gives the module at `path` an adapter, and of which rank (0: all ranks of AdaLoRA were cut) and scale.
struct TargetRank {
  int64_t r;
  float scale;
};
std::optional<TargetRank> target_rank(const LoraConfig& config, const std::string& path);
// The same for a parameter that target_parameters names.
std::optional<TargetRank> parameter_rank(const LoraConfig& config, const std::string& name);
bool is_saved_module(const LoraConfig& config, const std::string& path);  // modules_to_save names it, or a module around it

inline constexpr const char* kEmbeddingPath = "model.embed_tokens";

// What the config names and none of the modules at `paths` answers to, a line each with its key: a target or excluded name, a pattern, a
// layer. Such words have no effect.
std::vector<std::string> words_without_effect(const LoraConfig& config, const std::vector<std::string>& paths);

// The weights by the model's numbers (their parts' names are the module paths), the last one may be the head. Throws usage
// when nothing matches (the embedding and target_parameters count; model/attach.h attaches what they name beside weights).
AdapterSet attach_lora(const std::vector<const Weight*>& sites, const LoraConfig& config, bool trained,
                       const std::string& embedding = kEmbeddingPath);
// Several sets as one that adds all of them (for chat, export and its check; not trained).
AdapterSet combine_adapters(const std::vector<const AdapterSet*>& sets, const std::vector<const Weight*>& sites);
// Throws unsupported for a part without a bias, to which none can be added (lora_bias), as in PEFT.
void check_takes_bias(const WeightPart& part);
// A weight in memory becomes the sum of itself and what is added to it in f32, with one rounding to the stored type; what was mapped
// becomes owned, what was packed f32. keep_codes: codes that quantise_part made are made anew of the sum.
void add_to_weight(WeightPart& part, const std::function<void(const Tensor& sum)>& add, bool keep_codes);
// Adds what the set has at the sites (whole tensors and the embedding are left alone) to weights and biases in memory, as add_to_weight
// does.
void merge_into_weights(const std::vector<Weight*>& sites, const AdapterSet& set);

}  // namespace loraine
