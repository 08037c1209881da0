// See mixtures.h.
#include "loraine/serve/mixtures.h"

#include <fmt/format.h>

#include <algorithm>
#include <ctime>

#include "loraine/adapters/weighted_sum.h"
#include "loraine/io/hub/hash.h"

namespace loraine {

std::shared_ptr<const ServedAdapter> AdapterMixtures::find(const std::vector<ScaledAdapter>& parts) {
  if (parts.empty()) return nullptr;
  if (parts.size() == 1 && parts[0].second == 1) return parts[0].first;
  std::string key, name;
  for (const auto& [adapter, scale] : parts) {
    // An adapter that was opened with its base has no hash: its name stays as long as the server runs.
    key += fmt::format("{}:{}*{}\n", adapter->name, adapter->hash, scale);
    name += fmt::format("{}{}*{:.4g}", name.empty() ? "" : "+", adapter->name, scale);
  }
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(made_, [&](const Made& one) { return one.key == key; });
  std::shared_ptr<const ServedAdapter> sum = found == made_.end() ? nullptr : found->used.lock();
  if (found != made_.end()) made_.erase(found);
  if (!sum) {
    std::vector<WeightedAdapter> weighted;
    for (const auto& [adapter, scale] : parts) weighted.push_back({&adapter->set, static_cast<float>(scale)});
    auto made = std::make_shared<ServedAdapter>();
    made->name = name;
    Hash hash = Hash::sha256();
    hash.add(key.data(), key.size());
    made->hash = hash.hex();
    made->set = weighted_sum(weighted, model_.sites());
    made->set.name = name;
    made->format = parts[0].first->format;
    made->created = std::time(nullptr);
    sum = std::move(made);
  }
  made_.push_front({std::move(key), sum, sum});
  size_t kept = 0;
  for (Made& one : made_)
    if (++kept > kMostKept) one.kept.reset();
  std::erase_if(made_, [](const Made& one) { return one.used.expired(); });
  return sum;
}

}  // namespace loraine
