// Log-probabilities of tokens as OpenAI's chat completions and responses write them.
#pragma once
#include <span>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

double finite_logprob(float logprob);  // what JSON can carry of it: -inf has no number there
// [{"token", "logprob", "bytes", "top_logprobs": [{"token", "logprob", "bytes"}]}]
WireJson token_logprobs_json(std::span<const TokenLogprobs> told, const Tokenizer& tokens);

}  // namespace loraine
