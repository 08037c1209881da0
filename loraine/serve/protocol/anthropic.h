// Anthropic's messages: from a request's JSON, and to answers. Called by the handlers of /v1/messages.
#pragma once
#include <memory>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"

namespace loraine {

// Throws ApiError.
AskedChat read_anthropic(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool strict);

std::unique_ptr<AnswerForm> anthropic_form();

}  // namespace loraine
