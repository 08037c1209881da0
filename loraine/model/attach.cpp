// LoRA on layers, experts, embedding and head, and what else an adapter has; loading a folder.
#include "loraine/model/attach.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "loraine/adapters/dense.h"
#include "loraine/adapters/embedding_lora.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"
#include "loraine/io/open_tensors.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/kernels/experts/grouped_product.h"
#include "loraine/kernels/products/row_dots.h"
#include "loraine/model/base_tensors.h"
#include "loraine/model/older_adapters.h"
#include "loraine/model/stored_beside.h"

namespace loraine {
namespace {

std::string module_of(const std::string& tensor) { return tensor.substr(0, tensor.rfind('.')); }

// Names in PEFT's file: modules_to_save keep their own, a bias at an adapted module lies in its base_layer.
ChooseTensor peft_names(const LoraConfig& config) {
  return [&config](const std::string& name) -> std::string {
    const std::string module = module_of(name), kind = name.substr(module.size());
    const std::string in_file = "base_model.model." + module;
    if (is_saved_module(config, module)) return in_file + kind;
    if (config.bias == "none") return "";
    if (kind == ".bias" && target_rank(config, module)) return in_file + ".base_layer.bias";
    const bool is_bias = kind == ".bias" || kind.ends_with("_proj_bias");  // the latter of experts
    return is_bias && config.bias == "all" ? in_file + kind : "";
  };
}

void check_saved_modules(const LoraConfig& config, const Model& model) {
  const std::vector<BaseTensor> all = base_tensors(model, false);
  for (const std::string& name : config.modules_to_save) {
    LoraConfig one;
    one.modules_to_save = {name};
    if (std::ranges::none_of(all, [&](const BaseTensor& t) { return is_saved_module(one, module_of(t.name)); }))
      throw Error(ErrorKind::usage, "the model has no module '" + name + "' (additional_target, modules_to_save)",
                  "use names like embed_tokens, lm_head, norm");
  }
}

constexpr std::string_view kPrefix = "base_model.model.", kBaseLayer = ".base_layer";

// ensure_weight_tying over a base whose embedding and head are one tensor: what is said of one of them holds for both.
void tie_targets(LoraConfig& config, const Model& model) {
  if (!config.ensure_weight_tying || !model.config.tie_word_embeddings) return;
  const ModelNames& names = model.config.names;
  if (is_saved_module(config, names.embedding) || is_saved_module(config, names.head)) {
    for (const std::string& path : {names.embedding, names.head})
      if (!is_saved_module(config, path)) config.modules_to_save.push_back(path);
    return;
  }
  const bool embedding = target_rank(config, names.embedding).has_value(), head = target_rank(config, names.head).has_value();
  if (embedding == head) return;
  const std::string& other = embedding ? names.head : names.embedding;
  if (config.target_regex.empty()) config.target_modules.push_back(other);
  else config.target_regex = fmt::format("(?:{})|\\Q{}\\E", config.target_regex, other);
}

bool ties_saved(const LoraConfig& config, const Model& model) {
  return config.ensure_weight_tying && model.config.tie_word_embeddings && is_saved_module(config, model.config.names.embedding);
}

}  // namespace

void check_merges(const AdapterSet& set) {
  if (set.invocation.empty()) return;
  throw Error(ErrorKind::unsupported,
              "the adapter is on from its invocation tokens on alone (alora_invocation_tokens), which no merged model can be, as in PEFT",
              "run it beside its base");
}

void merge_into_base(Model& model, const AdapterSet& set) {
  check_merges(set);
  if (set.dense || set.embedding || set.head())
    throw Error(ErrorKind::unsupported, "an adapter that trains whole tensors, the embedding or the head is not merged while training",
                "merge it first with loraine export, and train on the result");
  merge_into_weights(model.sites_to_change(), set);
  Context ctx;
  for (ExpertWeights* w : model.experts_to_change())
    if (const ExpertLora* lora = set.expert(w->index))
      for (ExpertStack& stack : w->stacks)
        for (int64_t e = 0; e < w->experts; ++e)
          add_to_weight(
              stack.parts[static_cast<size_t>(e)], [&](const Tensor& sum) { lora->merge_into(ctx, sum, e, stack.first, w->transposed); },
              true);
}

bool unties(const Model& model, const AdapterSet& set) {
  if (!model.config.tie_word_embeddings) return false;
  if (set.embedding || set.head()) return true;
  if (!set.dense) return false;
  const Tensor embedding = set.dense->embedding.value;
  const auto& head = set.dense->sites.back().weight.parts;
  return (head.empty() ? nullptr : head[0].weight.data) != embedding.data;
}

namespace {

// What methods other than LoRA are not built for.
void check_combination(const LoraConfig& config, const AdapterSet& set, const ModelNames& names) {
  const char* method = config.method                                    ? config.method->kind->peft_type
                       : config.use_dora                                ? "use_dora"
                       : config.adalora                                 ? "AdaLoRA"
                       : changes_base(config) || quantises_base(config) ? "a start out of the base (PiSSA, OLoRA, LoftQ)"
                                                                        : nullptr;
  if (config.lora_bias && set.embedding)
    throw Error(ErrorKind::unsupported, fmt::format("lora_bias is not built for {}, as in PEFT", names.embedding),
                "leave it out of the targets");
  if (config.lora_bias && (method || (config.init_lora_weights != "true" && config.init_lora_weights != "false")))
    throw Error(
        ErrorKind::unsupported,
        fmt::format("lora_bias goes with neither DoRA nor AdaLoRA, and as in PEFT with init_lora_weights true or false only; it is {}",
                    config.init_lora_weights),
        "leave one of them out");
  if (config.adalora && !set.token_rows.empty())
    throw Error(ErrorKind::unsupported, "trainable_token_indices is not built with AdaLoRA", "use LoRA");
  if (!set.invocation.empty()) {
    const char* with = method                        ? method
                       : set.dense                   ? "tensors that are trained whole (modules_to_save, bias, trainable_token_indices)"
                       : set.embedding || set.head() ? "LoRA on embedding or head"
                       : !config.target_parameters.empty() ? "LoRA on experts"
                                                           : nullptr;
    if (with)
      throw Error(ErrorKind::unsupported, fmt::format("alora_invocation_tokens is not built with {}", with), "leave one of the two out");
  }
  if (!method) return;
  const bool head = set.head() && !config.adalora;
  if (set.embedding || head)
    throw Error(ErrorKind::unsupported, fmt::format("{} is not built for {}", method, set.embedding ? names.embedding : names.head),
                "leave it out of the targets, or train it whole (additional_target, modules_to_save)");
  if (!config.use_dora || !set.dense) return;
  for (const std::string& name : set.dense->base_name)
    if (name.ends_with(".bias") && target_rank(config, module_of(name)))
      throw Error(ErrorKind::unsupported, fmt::format("use_dora is not built beside a trained bias ({})", name), "set bias: none");
}

// LoRA on the experts' parameters that target_parameters names.
void attach_experts(AdapterSet& set, const Model& model, const LoraConfig& config, bool trained) {
  if (config.target_parameters.empty()) return;
  const std::vector<const ExpertWeights*> all = model.experts();
  const auto wanted = [&](const ExpertWeights& w) { return parameter_rank(config, w.name()); };
  const auto refuse = [](const std::string& what, const char* hint) {
    throw Error(ErrorKind::unsupported, "LoRA on experts (target_parameters) is not built with " + what + ", as in PEFT", hint);
  };
  if (trained && config.lora_dropout > 0)
    refuse(fmt::format("lora_dropout {}", config.lora_dropout),
           "set lora_dropout: 0, for an adapter that is there in its adapter_config.json");
  if (config.use_dora) refuse("use_dora", "leave it out");
  if (config.lora_bias) refuse("lora_bias", "leave it out");
  if (config.adalora) refuse("AdaLoRA", "use LoRA");
  if (config.method) refuse(config.method->kind->peft_type, "use LoRA");
  if (changes_base(config) || quantises_base(config))
    refuse("init_lora_weights " + config.init_lora_weights, "use true, false or gaussian");
  set.experts.resize(all.size());
  bool any = std::ranges::any_of(set.sites, [](const auto& site) { return site != nullptr; });
  for (size_t i = 0; i < all.size(); ++i) {
    const ExpertWeights& w = *all[i];
    const auto rank = wanted(w);
    if (!rank) continue;
    if (w.interleaved && w.stacks.size() > 1 && w.stacks.front().step == 1)
      throw Error(ErrorKind::unsupported, w.name() + ": its rows lie in another order than those of adapters on it in this file",
                  "give the model as safetensors");
    const bool inside = w.nested && std::ranges::any_of(all, [&](const ExpertWeights* other) {
                          return other != &w && other->module == w.module && wanted(*other);
                        });
    set.experts[i] =
        std::make_shared<ExpertLora>(ExpertLoraShape{std::string(kPrefix) + w.module + (inside ? std::string(kBaseLayer) : ""), w.experts,
                                                     w.in, w.out, rank->r, rank->scale, w.a_gives_output, w.older_differs},
                                     trained);
    any = true;
  }
  if (any) return;
  std::string names;
  for (const std::string& name : config.target_parameters) names += (names.empty() ? "" : ", ") + name;
  throw Error(
      ErrorKind::usage, "target_parameters (" + names + ") names no experts and no router of the model",
      all.empty() ? "the model has no experts" : "use names like " + all.front()->name().substr(all.front()->name().find("experts")));
}

// A weight that is held in codes, as it was before: from the file, in the type that was quantised.
void read_whole(const Model& model, const WeightPart& part, const Tensor& room) {
  const TensorInfo* info = model.source->find(part.stored + ".weight");
  if (!info) throw Error(ErrorKind::internal, part.name + ": not in the file that it was read from");
  const Dtype type = part.quant_state->values;
  if (type == Dtype::F32) {
    model.source->read(*info, room);
  } else {
    const Buffer memory(static_cast<size_t>(bytes_of(type, room.numel())));
    const Tensor rounded(memory.data(), type, {room.rows(), room.cols()});
    model.source->read(*info, rounded);
    widen_row(room.f32(), rounded);
  }
  if (const Tensor mapped = model.source->map(*info); mapped.data) release_pages(mapped.data, mapped.bytes());
}

// Where biases are trained, a site holds views of the base's weights: they follow a base that has changed.
void follow_base(const AdapterSet& set, const Model& model) {
  if (!set.dense) return;
  const std::vector<const Weight*> sites = model.layer_sites();
  for (size_t site = 0; site < sites.size(); ++site) {
    const Weight& base = *sites[site];
    std::vector<WeightPart>& parts = set.dense->sites[site].weight.parts;
    for (size_t p = 0; p < parts.size(); ++p)
      if (!set.dense->find(base.parts[p].name + ".weight").data) parts[p].weight = base.parts[p].weight;
  }
}

// Before the tensors of an adapter are read: its base as it was at its start.
void change_base(AdapterSet& set, Model& model, const LoraConfig& config) {
  if (quantises_base(config)) {
    quantise_base(set, model.sites_to_change(), config, false,
                  [&](const WeightPart& part, const Tensor& room) { read_whole(model, part, room); });
    check_mapped_files();
  } else if (changes_base(config)) {
    init_lora(set, model.sites(), config, 0);
    subtract_from_base(model.sites_to_change(), set);
  }
  follow_base(set, model);
}

void check_exact_base(const Model& model, const LoraConfig& config, const std::string& folder) {
  if (!changes_base(config) && !quantises_base(config)) return;
  const std::vector<const Weight*> sites = model.sites();
  const auto site = std::ranges::find_if(sites, &Weight::integer_products);
  if (site == sites.end()) return;
  const Dtype type = (*site)->parts[0].weight.dtype;
  const std::string what =
      type == Dtype::INT8
          ? "which frozen_matmul: int8 has rounded"
          : fmt::format("which have to be taken out of it, and frozen_matmul: int8 multiplies its {} blocks as they lie in the file",
                        name_of(type));
  throw Error(ErrorKind::usage,
              folder + ": this adapter began with values of its base (init_lora_weights " + config.init_lora_weights + "), " + what,
              "leave frozen_matmul out, or merge the adapter with loraine export first");
}

AdapterSet attach_from_file(const Model& model, LoraConfig& config, const std::string& folder, const AdapterFile& file, bool trained) {
  AdapterSet set;
  try {
    tie_targets(config, model);
    set = attach_adapter(model, config, trained);
  } catch (const Error& error) {  // a bad value inside adapter_config.json is a bad file
    throw Error(ErrorKind::bad_data, folder + "/adapter_config.json: " + error.what(), error.hint);
  }
  find_beside(set, model, config, *file.tensors);
  return set;
}

}  // namespace

std::vector<std::string> expert_parameters(const Model& model) {
  std::vector<std::string> names;
  for (const ExpertWeights* experts : model.experts()) names.push_back(experts->name());
  return names;
}

std::vector<std::string> name_targets(LoraConfig& config, const Model& model) {
  struct Unfit {
    const char *model_type, *module, *why;
  };
  static constexpr Unfit kUnfit[] = {{"falcon_h1", "out_proj", "PEFT refuses it"},
                                     {"nemotron_h", "out_proj", "PEFT refuses it"},
                                     {"jamba", "dt_proj", "transformers passes by what lies over it"},
                                     {"gemma3n", "correction_coefs", "transformers passes by what lies over it in training"},
                                     {"gemma3n_text", "correction_coefs", "transformers passes by what lies over it in training"}};
  const bool all = config.target_modules == std::vector<std::string>{kAllLinear};
  name_all_linear(config, model.sites(), model.config.nested);
  name_bare_weights(config, model.sites());
  std::vector<std::string> left_out;
  for (const Unfit& unfit : kUnfit) {
    if (model.config.model_type != unfit.model_type) continue;
    if (all) {
      if (std::erase(config.target_modules, unfit.module))
        left_out.push_back(fmt::format("lora_target all leaves out {}: {}", unfit.module, unfit.why));
      continue;
    }
    for (const Weight* site : model.sites())
      for (const WeightPart& part : site->parts)
        if (part.name.ends_with(std::string(".") + unfit.module) && target_rank(config, part.name))
          throw Error(ErrorKind::usage, fmt::format("lora_target names {} of a {} model: {}", part.name, unfit.model_type, unfit.why),
                      fmt::format("leave {} out, or use all, which does", unfit.module));
  }
  return left_out;
}

AdapterSet attach_adapter(const Model& model, const LoraConfig& given, bool trained) {
  const ModelNames& names = model.config.names;
  LoraConfig config = given;
  if (trained && config.method && !config.method->kind->trains)
    throw Error(ErrorKind::unsupported,
                fmt::format("training an adapter of {} is not built: it is run and merged", config.method->kind->peft_type),
                "merge it with loraine export, and train another adapter on the result");
  name_experts(config, expert_parameters(model));
  AdapterSet set = attach_lora(model.sites(), config, trained, names.embedding);
  const auto beside = [&](const std::string& path, const Tensor& value) {
    set.beside.push_back({"base_model.model." + path + ".base_layer.weight", value, {}});
  };
  if (const auto rank = target_rank(config, names.embedding)) {
    set.embedding =
        std::make_shared<EmbeddingLora>(names.embedding, model.config.vocab_size, model.config.hidden_size, rank->r, rank->scale, trained);
    beside(names.embedding, model.embedding);
  }
  if (set.head()) beside(names.head, model.head.weight.parts.at(0).weight);
  check_saved_modules(config, model);
  attach_experts(set, model, config, trained);
  attach_token_rows(set, model, config, trained);
  const auto rows_only = [&](const std::string& name) {
    return std::ranges::any_of(set.token_rows, [&](const TokenRows& t) { return t.base_name == name; });
  };
  const auto choose = [&, whole = peft_names(config)](const std::string& name) -> std::string {
    const std::string chosen = whole(name);
    return chosen.empty() && rows_only(name) ? std::string(kPrefix) + name : chosen;
  };
  const bool tied = ties_saved(config, model);
  attach_dense(set, model, choose, trained, tied || shares_token_rows(set, model, config), rows_only);
  if (tied) set.beside.push_back({std::string(kPrefix) + names.head + ".weight", set.dense->embedding.value, {}});  // stored twice
  set.invocation = config.alora_invocation_tokens;
  check_combination(config, set, names);
  return set;
}

void start_adapter(AdapterSet& set, Model& model, const LoraConfig& config, uint64_t seed) {
  start_adapter(set, model.sites_to_change(), config, seed,
                [&](const WeightPart& part, const Tensor& room) { read_whole(model, part, room); });
  check_mapped_files();
  follow_base(set, model);
  if (set.embedding) set.embedding->initialize(seed);
  std::mt19937_64 random(seed + 1);
  for (const auto& experts : set.experts)
    if (experts) experts->initialise(config.init_lora_weights, random);
}

void take_out_of_base(AdapterSet& set, Model& model, const AdapterSet& start) {
  subtract_from_base(model.sites_to_change(), start);
  check_mapped_files();
  follow_base(set, model);
}

void check_side_by_side(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders)
    if (folders.size() > 1 && quantises_base(read_lora_config(folder)))
      throw Error(ErrorKind::usage,
                  folder +
                      ": this adapter is LoftQ's, which runs over a base of its own (quantised as at its start), so that no other "
                      "adapter can be on beside it",
                  "give it alone, or merge it with loraine export");
}

AdapterSet load_adapter(Model& model, const std::string& folder, LoraConfig* config_out) {
  LoraConfig config = read_lora_config(folder);
  check_exact_base(model, config, folder);
  const AdapterFile file = adapter_as_named_today(model, config, folder);
  AdapterSet set = attach_from_file(model, config, folder, file, false);
  if (quantises_base(config)) change_base(set, model, config);
  read_lora_tensors(set, file);
  read_beside(set, model, file, false);
  if (config_out) *config_out = config;
  if (changes_base(config)) {
    AdapterSet start = attach_lora(model.sites(), config, false);
    init_lora(start, model.sites(), config, 0);
    set = over_whole_base(set, start, model.sites(), config);
  }
  return set;
}

AdapterSet load_adapter_to_train(Model& model, const std::string& folder, LoraConfig* config_out, bool with_dropout) {
  LoraConfig config = read_lora_config(folder);
  if (config.adalora && !config.adalora->rank_pattern.empty())
    throw Error(ErrorKind::unsupported, folder + ": the ranks of this AdaLoRA adapter are settled, so that it cannot be trained on",
                "merge it and train a new adapter: create_new_adapter: true");
  const AdapterFile file = adapter_as_named_today(model, config, folder);
  LoraConfig used = config;
  if (!with_dropout) used.lora_dropout = 0;
  AdapterSet set = attach_from_file(model, used, folder, file, true);
  used.lora_dropout = config.lora_dropout;
  config = used;
  if (config.ensure_weight_tying && set.embedding && set.head())
    throw Error(ErrorKind::unsupported, folder + ": LoRA on embedding and head that ensure_weight_tying keeps equal is not trained on",
                "merge it with loraine export, and train a new adapter");
  change_base(set, model, config);
  read_lora_tensors(set, file);
  read_beside(set, model, file, true);
  if (config_out) *config_out = config;
  return set;
}

}  // namespace loraine
