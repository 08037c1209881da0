// Answers of /v1/responses that clients asked to be kept: the latest of them, in memory, each for the key it came with.
#pragma once
#include <cstdint>
#include <list>
#include <mutex>
#include <optional>
#include <string>

#include "loraine/serve/protocol/errors.h"

namespace loraine {

struct StoredResponse {
  std::string id, client;
  WireJson response;  // as it was answered
  WireJson messages;  // of the conversation up to its end, without instructions
};

class StoredResponses {
 public:
  void put(StoredResponse one);
  std::optional<StoredResponse> find(const std::string& id, const std::string& client) const;
  bool erase(const std::string& id, const std::string& client);

 private:
  mutable std::mutex mutex_;
  std::list<std::pair<StoredResponse, size_t>> kept_;  // with their bytes, the latest first
  size_t bytes_ = 0;
};

}  // namespace loraine
