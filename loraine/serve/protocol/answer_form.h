// How an answer stands at any time, and what a protocol makes of it: one JSON, or events as they come. A protocol is a class of these.
#pragma once
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "loraine/generate/sampling.h"
#include "loraine/serve/protocol/errors.h"

namespace loraine {

class Tokenizer;

struct PromptState {
  std::vector<int32_t> ids;
  std::string text = {};                     // where it is echoed, or the answer is read by it
  std::vector<TokenLogprobs> logprobs = {};  // of all ids but the first
  int64_t cached = 0;                        // tokens of it that were read for an earlier request
};

struct AnswerCall {
  std::string id, name, arguments;  // arguments: JSON text
  bool begins = true, ends = true;  // of a piece: whether the call begins and ends with it; where it does not begin, id and name are empty
};

struct AnswerPiece {            // what is new of one choice
  std::string text, reasoning;  // reasoning: thoughts, which come before the text
  std::vector<AnswerCall> calls;
  std::vector<int32_t> ids;
  std::vector<TokenLogprobs> logprobs;  // of those that are text: not of the token that ended it
  void add(const AnswerPiece& more);    // text, reasoning and calls of it join
  size_t begun_calls() const;
  bool says_nothing() const { return text.empty() && reasoning.empty() && calls.empty(); }
};

struct ChoiceState {
  size_t prompt = 0;  // which of the prompts
  AnswerPiece all;    // so far
  int64_t tokens = 0, reasoning_tokens = 0;
  std::string finish_reason;  // stop, length, tool_calls; empty: it goes on
  WireJson stop_reason;       // null, an id, a stop string
};

struct AnswerTimings {
  double prompt_ms = 0, predicted_ms = 0;
};

struct AnswerState {
  std::string id, model, fingerprint;
  int64_t created = 0;
  std::vector<PromptState> prompts;
  std::vector<ChoiceState> choices;  // numbered prompt by prompt
  AnswerTimings timings;
  int64_t prompt_tokens() const;
  int64_t cached_tokens() const;  // of prompt_tokens
  int64_t answer_tokens() const;
  int64_t reasoning_tokens() const;  // of answer_tokens
};

// One object for one answer; it may remember what it said.
class AnswerForm {
 public:
  virtual ~AnswerForm() = default;
  virtual WireJson whole(const AnswerState& answer) = 0;
  // Of a stream, as text to be sent; each may be empty. A piece is part of answer.choices[choice].all already.
  virtual std::string begin(const AnswerState&) { return {}; }
  virtual std::string piece(const AnswerState& answer, size_t choice, const AnswerPiece& piece) = 0;
  virtual std::string choice_end(const AnswerState& answer, size_t choice) = 0;
  virtual std::string end(const AnswerState& answer) = 0;
  virtual std::string failure(const ApiError& error) = 0;
  virtual const char* content_type() const { return "text/event-stream; charset=utf-8"; }  // of a stream
  virtual const char* ping() const { return ": ping\n\n"; }                                // sent in silence
};

std::string sse(const WireJson& value);                                  // "data: …\n\n"
std::string named_sse(const std::string& event, const WireJson& value);  // "event: …\ndata: …\n\n"

}  // namespace loraine
