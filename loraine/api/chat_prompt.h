// Messages of a request, as chat templates take them, to the prompt that an answer continues. Called by serving.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loraine/api/chat_format.h"

namespace loraine {

struct ChatPrompt {
  std::string text;  // of a named template what its ids spell
  std::vector<int32_t> ids;
};

// messages: a list of {"role": system, user, assistant or tool, "content": text, …}. kwargs: add_generation_prompt, continue_final_message,
// tools and the template's own variables; what they leave out is as the format was trained. A model's own template gets them as they are. A
// named one knows turns only: throws usage where user (or tool) and assistant do not take turns, and for kwargs that it has no word for.
// Throws bad_data with the template's own message.
ChatPrompt chat_prompt(const ChatFormat& format, const Tokenizer& tokenizer, const nlohmann::ordered_json& messages,
                       const nlohmann::ordered_json& kwargs, bool split_special_tokens);

// The messages as turns, system text apart; throws usage where they are none.
Conversation conversation_of(const nlohmann::ordered_json& messages);

}  // namespace loraine
