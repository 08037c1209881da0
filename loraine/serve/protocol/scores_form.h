// LLaMA-Factory's scores of texts: the request's JSON and the answer's. Called by the handler of the route.
#pragma once
#include <optional>
#include <string>
#include <vector>

#include "loraine/serve/protocol/fields.h"

namespace loraine {

struct AskedScores {
  std::string model;
  std::vector<std::string> texts;
  std::optional<int64_t> max_length;  // tokens of a text that count
  std::string ignored;                // fields that nobody knows, for the log
};
AskedScores read_scores(const WireJson& body, bool strict);  // throws ApiError

WireJson scores_json(const std::vector<double>& scores, const std::string& model, const std::string& id);

}  // namespace loraine
