// What ends an answer in a model's own chat template, found in its renderings. Called where rows are encoded and where answers are asked
// for: what training teaches to say is what generation stops at.
#pragma once
#include <optional>
#include <vector>

#include "loraine/text/chat_template.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

struct EndOfTurn {
  // The special token that the template writes behind the last answer: <|im_end|>, <end_of_turn>, gpt-oss's <|return|>.
  std::optional<int32_t> written;
  // It writes none there, as GLM's: whoever trains has to put an end behind the answer.
  bool missing = false;
  // All that may end an answer: that one, the one behind calls of tools (gpt-oss's <|call|>), and where none is written the one that the
  // next turn begins with (GLM's <|user|>).
  std::vector<int32_t> stop;
};

// eos: the tokenizer's end token, which counts as special. Of a template that renders no plain conversation: nothing.
EndOfTurn end_of_turn(const ChatTemplate& chat, const Tokenizer& tokenizer, std::optional<int32_t> eos);

}  // namespace loraine
