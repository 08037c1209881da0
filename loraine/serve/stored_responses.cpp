// See stored_responses.h.
#include "loraine/serve/stored_responses.h"

#include <algorithm>

namespace loraine {
namespace {

constexpr size_t kMostResponses = 256, kMostBytes = 64u << 20;  // of their JSON texts

}  // namespace

void StoredResponses::put(StoredResponse one) {
  const size_t bytes = wire_text(one.response).size() + wire_text(one.messages).size();
  const std::lock_guard lock(mutex_);
  bytes_ += bytes;
  kept_.emplace_front(std::move(one), bytes);
  while (kept_.size() > kMostResponses || (bytes_ > kMostBytes && kept_.size() > 1)) {
    bytes_ -= kept_.back().second;
    kept_.pop_back();
  }
}

std::optional<StoredResponse> StoredResponses::find(const std::string& id, const std::string& client) const {
  const std::lock_guard lock(mutex_);
  for (const auto& [one, bytes] : kept_)
    if (one.id == id && one.client == client) return one;
  return {};
}

bool StoredResponses::erase(const std::string& id, const std::string& client) {
  const std::lock_guard lock(mutex_);
  const auto found = std::ranges::find_if(kept_, [&](const auto& one) { return one.first.id == id && one.first.client == client; });
  if (found == kept_.end()) return false;
  bytes_ -= found->second;
  kept_.erase(found);
  return true;
}

}  // namespace loraine
