// Which of a few answers a model holds likely, without writing any: the probabilities of labels at the place where its answer would begin.
// Used by the handlers of /v1/decisions and /v1/systemone.
#pragma once
#include <functional>
#include <string>
#include <vector>

#include "loraine/data/decisions/label_tree.h"
#include "loraine/serve/service.h"

namespace loraine {

struct LabelledPrompt {
  std::vector<int32_t> ids;
  std::vector<std::vector<int32_t>> labels;  // ids of each; none begins another
};

struct Decided {
  std::vector<LabelShares> shares;               // one for each prompt
  int64_t prompt_tokens = 0, cached_tokens = 0;  // of all prompts; those found in the cache of prefixes
};

// From a worker; `done` runs in one too. The prompt that comes first is read first, so that the others find what they begin with. A label
// of several tokens counts as the product of theirs. Shares are over the temperature that was fitted for the adapter, where one was. Throws
// ApiError where a prompt is too long. param: the field that they come from.
void decide(Service& service, Call call, std::shared_ptr<const ServedAdapter> adapter, const std::vector<LabelledPrompt>& prompts,
            const char* param, std::function<void(Call&, const Decided&)> done);

}  // namespace loraine
