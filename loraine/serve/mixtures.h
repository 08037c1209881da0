// Adapters that are on together for one request, each with a scale (llama-server's `lora`): a sum of them in memory of its own, made once
// for all requests that ask for the same. Owned by Service; every call may come from any thread.
#pragma once
#include <list>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "loraine/serve/adapters.h"

namespace loraine {

using ScaledAdapter = std::pair<std::shared_ptr<const ServedAdapter>, double>;

class AdapterMixtures {
 public:
  explicit AdapterMixtures(const Model& model) : model_(model) {}
  // The template and the ends of an answer are the first one's. Nothing: nullptr; one with scale 1: itself. Throws unsupported for adapters
  // that do more than add a low-rank product.
  std::shared_ptr<const ServedAdapter> find(const std::vector<ScaledAdapter>& parts);

 private:
  static constexpr size_t kMostKept = 8;  // beside those in use
  struct Made {
    std::string key;
    std::weak_ptr<const ServedAdapter> used;
    std::shared_ptr<const ServedAdapter> kept;
  };
  const Model& model_;
  std::mutex mutex_;
  std::list<Made> made_;  // the latest first
};

}  // namespace loraine
