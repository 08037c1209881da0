// An answer as it comes, told apart into thoughts, text and calls of tools. What it gives in all does not depend on how the answer was cut
// into pieces, and it never throws for what a model writes: what looks like a call and is none stays text.
//
//   AnswerReader reader({.calls = &call_format_of_template(text), .tools = tools, .thoughts = thought_marks_of_template(text), …});
//   AnswerPart part = reader.push(piece);      // for each piece of the Detokenizer, which must keep special tokens: they are the marks
//   AnswerPart rest = reader.finish();
#pragma once
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/text/calls/call_format.h"
#include "loraine/text/calls/call_pieces.h"
#include "loraine/text/calls/read_call.h"
#include "loraine/text/calls/tool_call.h"

namespace loraine {

struct AnswerPart {
  std::string reasoning, content;
  std::vector<ToolCall> calls;    // each whole
  std::vector<CallPiece> pieces;  // of calls as they come, with Options::in_pieces; such calls are not among `calls`
};

// What stands around the thoughts at the beginning of an answer.
struct ThoughtMarks {
  std::string open, close;
};
// By markers in the text of a chat template; none where it has none.
std::optional<ThoughtMarks> thought_marks_of_template(std::string_view chat_template);
// By name: think, mistral, seed_oss, gpt_oss, gemma4, or vLLM's name of a parser (qwen3, deepseek_r1, …). Throws usage, with the names.
ThoughtMarks thought_marks(std::string_view name);
// Whether the end of a prompt has opened a thought already.
bool begins_in_thought(const ThoughtMarks& marks, std::string_view prompt);
// Whether the end of a prompt holds a whole thought, an empty one: the answer has none.
bool begins_behind_thought(const ThoughtMarks& marks, std::string_view prompt);

class AnswerReader {
 public:
  struct Options {
    const CallFormat* calls = nullptr;  // nullptr: no calls are looked for
    nlohmann::ordered_json tools = {};  // the request's, for the types of arguments
    std::optional<ThoughtMarks> thoughts = {};
    bool in_thought = false;  // the answer begins inside one
    // Calls are told before they are whole, their arguments as they are written. Only where a grammar holds the answer to calls that
    // can be read (call_grammar.h), and in forms that write arguments as JSON; others are told whole.
    bool in_pieces = false;
  };
  explicit AnswerReader(Options options);
  AnswerPart push(std::string_view text);
  AnswerPart finish();
  bool in_thought() const { return stage_ == Stage::thought; }

 private:
  void read_thought(AnswerPart& out, bool at_end);
  void read_content(AnswerPart& out, bool at_end);
  void give(AnswerPart& out, std::string_view text);  // as content, blanks at its end held back

  Options options_;
  ToolTypes types_;
  enum class Stage : uint8_t { before_thought, thought, behind_thought, content } stage_;
  std::string buffer_;  // not told apart yet
  std::string blanks_;  // before what comes next
  size_t tried_ = 0;    // bytes of the buffer, which begins like a call, that were looked at
  CallPieces pieces_;
  bool in_call_ = false, some_ = false, after_call_ = false;
};

}  // namespace loraine
