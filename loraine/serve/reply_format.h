// How the answers of a model are written, and how one is told apart into thoughts, text and calls of tools as it comes. Text generation
// knows nothing of it: this lies between the text of an answer and the protocols.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <variant>

#include "loraine/api/chat_format.h"
#include "loraine/serve/protocol/errors.h"
#include "loraine/text/calls/answer_reader.h"
#include "loraine/text/calls/response_template.h"

namespace loraine {

// What does not change from request to request.
struct ReplyFormat {
  const CallFormat* calls = nullptr;
  std::optional<ThoughtMarks> thoughts;
  std::shared_ptr<const ResponseTemplate> response_template;  // reads instead of the two above, where nothing is enforced
  bool template_tools = true;                                 // the template writes tools
  bool system_tools = false;                                  // else they are written into the system text
  std::string marks;                                          // special tokens among these are told apart by, and stay in the text
  std::string problem;                                        // why calls are not read; empty: they are
};

// What an operator chose: `auto`, or a name (text/calls). Throws usage.
struct ReplyParsers {
  std::string calls = "auto", thoughts = "auto";  // thoughts also none
};
void check_reply_parsers(const ReplyParsers& parsers);

// response_template: of the model's tokenizer_config.json. The texts of the model's own templates are in `files`.
ReplyFormat reply_format(const ChatFormat& format, const ModelFiles& files, std::shared_ptr<const ResponseTemplate> response_template,
                         const ReplyParsers& parsers);

// Of one request.
struct ReplyReading {
  ReplyFormat format = {};
  bool reads_calls = false, enforced = false;  // enforced: a grammar holds calls to the form `format.calls`
  bool in_pieces = false;                      // calls are told as they come; a grammar holds the answer to what can be read
  WireJson tools = {};
  std::string prompt = {};
  bool plain() const { return !format.response_template && !format.thoughts && !reads_calls; }
};
// Where the answer to a prompt begins.
bool begins_in_thought(const ReplyReading& reading);
bool begins_behind_thought(const ReplyReading& reading);

class ReplyReader {
 public:
  explicit ReplyReader(const ReplyReading& reading);
  AnswerPart push(std::string_view text);
  AnswerPart finish();
  bool in_thought() const;

 private:
  std::shared_ptr<const ResponseTemplate> kept_;
  std::variant<std::monostate, AnswerReader, ResponseTemplate::Reader> reader_;
};

}  // namespace loraine
