// A conversation to its answer on the way: adapter, prompt, how the answer is read, what it may be. Shared by the handlers of chat
// completions, responses, Anthropic's messages and Ollama's protocol.
#pragma once
#include <functional>
#include <memory>
#include <string>

#include "loraine/api/chat_prompt.h"
#include "loraine/serve/protocol/answer_form.h"
#include "loraine/serve/protocol/asked.h"
#include "loraine/serve/service.h"

namespace loraine {

// Its prompt, tools included. Throws ApiError. service.text_mutex is held by the caller.
ChatPrompt conversation_prompt(Service& service, const AskedChat& chat, const ServedAdapter* adapter);

// In a worker. form: made of what is asked, once the prompt is known.
using FormMaker = std::function<std::unique_ptr<AnswerForm>(const Asked& asked, const std::string& id)>;
void start_conversation(Service& service, Call& call, AskedChat chat, std::string id, const FormMaker& form);

// What the grammar of a request's shape is; nullptr: none is asked for. Throws ApiError naming the field. The lock as above.
std::shared_ptr<const grammar::TokenGrammar> shape_grammar(Service& service, const Asked& asked, const ServedAdapter* adapter);

// Before a body is even read: there is no place for what it asks, and the call has been told.
bool refused_early(Service& service, const Call& call);
void note_ignored(const Call& call, const std::string& names);  // fields, to the log

}  // namespace loraine
