// `response_template` of tokenizer_config.json (transformers from 5 on): a model's own description of its answers, as fields between marks.
// It is used instead of the forms of call_format.h where a model has one.
#pragma once
#include <memory>
#include <string>
#include <string_view>

#include "loraine/text/calls/answer_reader.h"

namespace loraine {

class ResponseTemplate {
 public:
  // Throws bad_data, with `file` and the field, where it is no such template, or a version other than 1.
  ResponseTemplate(const nlohmann::ordered_json& given, const std::string& file);
  ~ResponseTemplate();

  // An answer as it comes. The end of the prompt may have opened a field already: it is read first, from its last anchor on, and gives
  // nothing. Fields: `content`; `thinking` or `reasoning_content`; `tool_calls`; others are dropped. What does not parse as its field says
  // stays content, marks included; a text that comes again is added to the first. The template must stay.
  class Reader {
   public:
    Reader(const ResponseTemplate& response_template, std::string_view prompt, const nlohmann::ordered_json& tools = {});
    AnswerPart push(std::string_view text);
    AnswerPart finish();
    bool in_thought() const;

   private:
    void read(AnswerPart& out, bool at_end);
    void close(AnswerPart& out, std::string_view body, std::string_view whole);
    void give(AnswerPart& out, size_t field, std::string_view text);
    const ResponseTemplate& template_;
    ToolTypes types_;
    std::string buffer_;            // not told apart yet
    std::string opening_;           // the mark that opened the field, as it was written
    std::string blanks_;            // of a text, before what comes next
    nlohmann::ordered_json names_;  // groups of the opening mark
    int field_ = -1;                // that is open; -1: the one without a mark
    int last_text_ = -2;            // the field that got text last
    size_t looked_ = 0;             // bytes of an open field in which its end is not
    bool some_ = false;
    bool in_prompt_ = false;
  };

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace loraine
