// See weighted_sum.h.
#include "loraine/adapters/weighted_sum.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/adapters/attach.h"
#include "loraine/adapters/expert_lora.h"
#include "loraine/adapters/lora.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

constexpr const char* kMergeInstead = "merge them one after the other with loraine export";

struct WeightedLora {
  const Lora* lora;
  float weight;
};

std::unique_ptr<Adapter> sum_at_site(const std::vector<WeightedLora>& adapters, int64_t in, size_t site) {
  std::vector<LoraPart> parts;
  for (const auto& [lora, weight] : adapters)
    for (LoraPart part : lora->parts()) {
      part.scale *= weight;
      parts.push_back(std::move(part));
    }
  if (parts.empty()) return nullptr;
  auto joined = std::make_unique<Lora>(in, std::move(parts), 0.0f, site, false);
  size_t next = 0;
  for (const auto& [lora, weight] : adapters)
    for (size_t i = 0; i < lora->parts().size(); ++i, ++next) {
      std::copy_n(lora->a(i).f32(), lora->a(i).numel(), joined->a(next).f32());
      std::copy_n(lora->b(i).f32(), lora->b(i).numel(), joined->b(next).f32());
    }
  return joined;
}

}  // namespace

AdapterSet weighted_sum(const std::vector<WeightedAdapter>& adapters, const std::vector<const Weight*>& sites) {
  for (const auto& [set, weight] : adapters)
    if (set->dense || set->embedding)
      throw Error(
          ErrorKind::unsupported,
          fmt::format("the adapter {} trains whole tensors (modules_to_save, bias) or the embedding; such adapters are neither added "
                      "up nor scaled",
                      set->name),
          kMergeInstead);
  for (const auto& [set, weight] : adapters)
    if (!set->invocation.empty())
      throw Error(
          ErrorKind::unsupported,
          fmt::format("the adapter {} is on from its invocation tokens on alone (alora_invocation_tokens), so that it is neither added "
                      "to others nor scaled",
                      set->name),
          "run it by itself, or beside others in one batch");
  AdapterSet out;
  out.sites.resize(sites.size());
  out.head_site = adapters.front().set->head_site;
  size_t experts = 0;
  for (const auto& [set, weight] : adapters) experts = std::max(experts, set->experts.size());
  out.experts.resize(experts);
  for (size_t s = 0; s < sites.size(); ++s) {
    std::vector<WeightedLora> here;
    for (const auto& [set, weight] : adapters) {
      if (!set->sites[s]) continue;
      const Lora* lora = set->sites[s]->as_lora();
      if (!lora)
        throw Error(ErrorKind::unsupported,
                    fmt::format("the adapter {} is not of A and B alone (DoRA, lora_bias, OFT and others), so that it is neither added to "
                                "others nor scaled",
                                set->name),
                    kMergeInstead);
      here.push_back({lora, weight});
    }
    out.sites[s] = sum_at_site(here, sites[s]->in(), s);
  }
  for (size_t i = 0; i < experts; ++i) {
    std::vector<const ExpertLora*> here;
    std::vector<float> weights;
    for (const auto& [set, weight] : adapters)
      if (const ExpertLora* lora = set->expert(static_cast<int64_t>(i))) here.push_back(lora), weights.push_back(weight);
    if (!here.empty()) out.experts[i] = join(here, weights);
  }
  return out;
}

AdapterSet combine_adapters(const std::vector<const AdapterSet*>& sets, const std::vector<const Weight*>& sites) {
  std::vector<WeightedAdapter> adapters;
  for (const AdapterSet* set : sets) adapters.push_back({set, 1.0f});
  return weighted_sum(adapters, sites);
}

}  // namespace loraine
