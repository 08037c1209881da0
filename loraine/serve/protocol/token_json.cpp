// See token_json.h.
#include "loraine/serve/protocol/token_json.h"

#include <cmath>

namespace loraine {
namespace {

WireJson token_json(int32_t id, float logprob, const Tokenizer& tokens) {
  const std::string text = tokens.token_bytes(id);
  WireJson bytes = WireJson::array();
  for (const char c : text) bytes.push_back(static_cast<unsigned char>(c));
  return {{"token", text}, {"logprob", finite_logprob(logprob)}, {"bytes", std::move(bytes)}};
}

}  // namespace

double finite_logprob(float logprob) { return std::isfinite(logprob) ? static_cast<double>(logprob) : -9999.0; }

WireJson token_logprobs_json(std::span<const TokenLogprobs> told, const Tokenizer& tokens) {
  WireJson content = WireJson::array();
  for (const TokenLogprobs& one : told) {
    WireJson entry = token_json(one.id, one.logprob, tokens);
    entry["top_logprobs"] = WireJson::array();
    for (const auto& [id, logprob] : one.top) entry["top_logprobs"].push_back(token_json(id, logprob, tokens));
    content.push_back(std::move(entry));
  }
  return content;
}

}  // namespace loraine
