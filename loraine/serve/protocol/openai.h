// OpenAI's chat completions and completions: from a request's JSON, and to answers. Called by the handlers of these routes.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

// Throws ApiError.
AskedChat read_chat(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory, bool strict);
// Messages checked and made plain: developer is system, contents are texts, arguments of calls are objects.
WireJson read_messages(Fields& fields);
// The arguments of a call in a message as an object, which templates want; place: of the call, for errors.
WireJson read_arguments(const WireJson& arguments, const std::string& place);
// chat_template_kwargs, reasoning_effort, enable_thinking, add_generation_prompt, continue_final_message.
WireJson read_template_kwargs(Fields& fields);

struct AskedCompletion {
  Asked asked;
  std::vector<std::string> texts;         // prompts, either as texts
  std::vector<std::vector<int32_t>> ids;  // or as ids
  bool add_special_tokens = true;
  std::string ignored;
};
AskedCompletion read_completion(const WireJson& body, const SamplingDefaults& defaults, int64_t vocab, bool llama_factory, bool strict);

std::unique_ptr<AnswerForm> chat_form(const Asked& asked, const Tokenizer& tokens);
std::unique_ptr<AnswerForm> completion_form(const Asked& asked, const Tokenizer& tokens);

}  // namespace loraine
