// OpenAI's responses: from a request's JSON, and to answers. Called by the handlers of /v1/responses.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

struct AskedResponse {
  AskedChat chat;            // its messages: the request's own; instructions and what came before are not among them yet
  std::string instructions;  // of this request alone
  std::string previous;      // id of the response that it goes on from; empty: none
  bool store = false;
  WireJson settings;  // as the answer repeats them
};
// Throws ApiError.
AskedResponse read_response(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory, bool strict);

// kept: called with the whole response once it is complete, in the server's thread; may be empty.
std::unique_ptr<AnswerForm> response_form(const Asked& asked, WireJson settings, const Tokenizer& tokens,
                                          std::function<void(const WireJson& response)> kept);

// What a response said, as a message of the assistant.
WireJson message_of_response(const WireJson& response);

}  // namespace loraine
