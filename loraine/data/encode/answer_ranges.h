// Where the assistant's turns lie in a conversation that a model's own chat template has written. Called by chat_encode.cpp.
#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

// Byte ranges [begin, end) of them in `text`, the rendering of `messages` with `kwargs` by a template without {% generation %} blocks: from
// behind the head of the answer to behind what ends it. Throws bad_data where that cannot be told from renderings.
std::vector<std::pair<size_t, size_t>> assistant_ranges(const ChatTemplate& chat, const Tokenizer& tokenizer,
                                                        const nlohmann::ordered_json& messages, const nlohmann::ordered_json& kwargs,
                                                        const std::string& text);

}  // namespace loraine
