// See low_rank_file.h.
#include "loraine/adapters/stored/low_rank_file.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cmath>
#include <map>

#include "loraine/adapters/peft_methods/peft_method.h"
#include "loraine/adapters/start.h"
#include "loraine/adapters/stored/facts.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

// What a module's tensors are, by their kinds.
struct TensorsOfModule {
  const TensorInfo *a = nullptr, *b = nullptr, *e = nullptr;
  bool embedding = false;
};

[[noreturn]] void misfit(const std::string& file, const std::string& what) {
  throw Error(ErrorKind::bad_data, file + ": " + what, "is its file damaged, or its adapter_config.json another's?");
}

void take_tensor(TensorsOfModule& module, const std::string& kind, const TensorInfo& info) {
  if (kind.starts_with("lora_A") || kind == "lora_embedding_A") module.a = &info;
  else if (kind.starts_with("lora_B") || kind == "lora_embedding_B") module.b = &info;
  else if (kind == "lora_E") module.e = &info;
  module.embedding |= kind.starts_with("lora_embedding_");
}

// Of the config, which may say `all-linear`: then every module of the file is meant.
LoraConfig with_named_targets(LoraConfig config, const std::map<std::string, TensorsOfModule>& modules) {
  if (std::ranges::find(config.target_modules, kAllLinear) == config.target_modules.end()) return config;
  config.target_modules.clear();
  for (const auto& [path, module] : modules) config.target_modules.push_back(path);
  return config;
}

LowRankPlace place_of(const std::string& file, const std::string& path, const TensorsOfModule& module, const LoraConfig& config) {
  if (!module.a || !module.b)
    misfit(file, fmt::format("{} has {} and no {}", path, module.a ? "lora_A" : "lora_B", module.a ? "lora_B" : "lora_A"));
  for (const TensorInfo* info : {module.a, module.b})
    if (info->shape.size() != 2)
      misfit(file, fmt::format("{} has {} dimensions, expected 2: loraine knows LoRA on linear layers and embeddings", info->name,
                               info->shape.size()));
  const LowRankPlace place{path,     module.embedding, module.a->shape[1], module.b->shape[0], module.a->shape[0], 1, module.a,
                           module.b, module.e};
  if (module.b->shape[1] != place.r) misfit(file, fmt::format("{}: lora_A has rank {} and lora_B {}", path, place.r, module.b->shape[1]));
  LowRankPlace out = place;
  if (config.adalora) {
    if (place.r > 0 && (!module.e || module.e->shape != std::vector<int64_t>{place.r, 1})) misfit(file, path + ": its lora_E does not fit");
    const double alpha = config.lora_alpha > 0 ? config.lora_alpha : static_cast<double>(config.r);
    out.scale = alpha / (static_cast<double>(config.adalora->init_r) + 1e-5);
    return out;
  }
  const std::optional<TargetRank> rank = target_rank(config, path);
  if (!rank) misfit(file, path + " has low-rank tensors, and adapter_config.json does not target it");
  if (rank->r != place.r) misfit(file, fmt::format("{}: has rank {}, adapter_config.json says {}", path, place.r, rank->r));
  out.scale = static_cast<double>(rank->scale);
  return out;
}

std::vector<float> stored_values(const TensorSource& source, const TensorInfo& info) {
  int64_t count = 1;
  for (const int64_t size : info.shape) count *= size;
  std::vector<float> values(static_cast<size_t>(count));
  source.read(info, Tensor(values.data(), Dtype::F32, info.shape));
  if (!std::all_of(values.begin(), values.end(), [](float x) { return std::isfinite(x); }))
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} holds values that are not finite numbers", info.file, info.name));
  return values;
}

void name_what_is_beside(const LoraConfig& config, const std::vector<std::string>& whole, std::vector<std::string>& beside) {
  if (config.use_dora) beside.push_back("rescales the base's rows (use_dora)");
  if (config.lora_bias) beside.push_back("adds biases (lora_bias)");
  if (!config.alora_invocation_tokens.empty()) beside.push_back("is on from its invocation tokens on alone (alora_invocation_tokens)");
  if (changes_base(config))
    beside.push_back(fmt::format("counts over a base that its start has changed (init_lora_weights {})", config.init_lora_weights));
  if (quantises_base(config)) beside.push_back("counts over a base that its start has quantised (init_lora_weights loftq)");
  if (!whole.empty())
    beside.push_back(fmt::format("holds {} tensor{} trained whole ({}{})", whole.size(), whole.size() == 1 ? "" : "s", whole[0],
                                 whole.size() > 1 ? ", …" : ""));
}

}  // namespace

bool before_by_number(const std::string& a, const std::string& b) {
  size_t i = 0, j = 0;
  const auto digit = [](char c) { return std::isdigit(static_cast<unsigned char>(c)) != 0; };
  while (i < a.size() && j < b.size()) {
    if (digit(a[i]) && digit(b[j])) {
      size_t end_a = i, end_b = j;
      while (end_a < a.size() && digit(a[end_a])) ++end_a;
      while (end_b < b.size() && digit(b[end_b])) ++end_b;
      if (end_a - i != end_b - j) return end_a - i < end_b - j;
      if (const int order = a.compare(i, end_a - i, b, j, end_b - j); order != 0) return order < 0;
      i = end_a, j = end_b;
    } else if (a[i] != b[j]) {
      return a[i] < b[j];
    } else {
      ++i, ++j;
    }
  }
  return a.size() - i < b.size() - j;
}

LowRankFile::LowRankFile(const std::string& folder) : folder_(folder), config_(read_lora_config(folder)), file_(open_adapter_file(folder)) {
  if (config_.method)
    throw Error(
        ErrorKind::unsupported,
        fmt::format("{}: is one of {}, and the tools for adapters take LoRA's low-rank products", folder, config_.method->kind->peft_type),
        "merge it into its base with loraine export");
  if (!config_.target_parameters.empty())
    throw Error(ErrorKind::unsupported,
                fmt::format("{}: adapts experts or other parameters (target_parameters), whose matrices are stacks; the tools for adapters "
                            "take those of linear layers and of the embedding",
                            folder),
                "merge it into its base with loraine export");
  std::map<std::string, TensorsOfModule> modules;
  std::vector<std::string> whole;
  for (const TensorInfo& info : file_.tensors->tensors()) {
    const auto [path, kind] = adapter_tensor_name(info.name);
    if (!kind.empty()) {
      if (info.dtype != Dtype::F32 && info.dtype != Dtype::F16 && info.dtype != Dtype::BF16)
        misfit(file_.path, fmt::format("{} is stored as {}, expected F32, F16 or BF16", info.name, info.stored_as));
      if (kind.starts_with("lora_magnitude_vector") || kind == "lora_B.bias") others_.push_back(&info);
      else take_tensor(modules[path], kind, info);
    } else if (!path.ends_with(".base_layer.weight")) {
      whole.push_back(path);
      others_.push_back(&info);
    }
  }
  const LoraConfig named = with_named_targets(config_, modules);
  for (const auto& [path, module] : modules) modules_.push_back(place_of(file_.path, path, module, named));
  if (modules_.empty()) misfit(file_.path, "holds no low-rank matrices");
  std::ranges::sort(modules_, before_by_number, &LowRankPlace::path);
  name_what_is_beside(config_, whole, beside_);
}

const LowRankPlace* LowRankFile::find(const std::string& path) const {
  const auto at = std::ranges::find(modules_, path, &LowRankPlace::path);
  return at == modules_.end() ? nullptr : &*at;
}

LowRankModule LowRankFile::read(const LowRankPlace& place) const {
  LowRankModule out{place.path, place.embedding, place.in, place.out, place.r, place.scale, {}, {}};
  out.a = stored_values(*file_.tensors, *place.a);
  out.b = stored_values(*file_.tensors, *place.b);
  if (!place.e || place.r == 0) return out;
  const std::vector<float> e = stored_values(*file_.tensors, *place.e);
  for (int64_t k = 0; k < place.r; ++k)
    for (int64_t i = 0; i < place.in; ++i) out.a[static_cast<size_t>(k * place.in + i)] *= e[static_cast<size_t>(k)];
  return out;
}

Tensor LowRankFile::read_other(const TensorInfo& info, Buffer& memory) const {
  const std::vector<float> values = stored_values(*file_.tensors, info);
  memory = Buffer(values.size() * sizeof(float));
  std::ranges::copy(values, static_cast<float*>(memory.data()));
  return {memory.data(), Dtype::F32, info.shape};
}

void refuse_changed_base(const LowRankFile& file, const std::string& what) {
  const LoraConfig& c = file.config();
  if (!changes_base(c) && !quantises_base(c)) return;
  throw Error(ErrorKind::unsupported,
              fmt::format("the adapter {} began with values of its base (init_lora_weights {}), which its own rank says, so that it cannot "
                          "be {}",
                          file.folder(), c.init_lora_weights, what),
              "merge it into its base with loraine export; one of PiSSA or OLoRA can be trained with pissa_convert: true");
}

void refuse_beside(const LowRankFile& file, const std::string& what) {
  if (file.beside().empty()) return;
  throw Error(ErrorKind::unsupported,
              fmt::format("the adapter {} {}, so that it cannot be {}: what it does is more than a sum of low-rank products", file.folder(),
                          fmt::join(file.beside(), ", and "), what),
              "merge it into its base with loraine export, which loraine adapter extract takes a low-rank adapter out of; one of PiSSA or "
              "OLoRA can be trained with pissa_convert: true");
}

}  // namespace loraine
