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
  std::string text;                     // where the answer echoes it
  std::vector<TokenLogprobs> logprobs;  // of all ids but the first
};

struct AnswerPiece {  // what is new of one choice
  std::string text;
  std::vector<int32_t> ids;
  std::vector<TokenLogprobs> logprobs;  // of those that are text: not of the token that ended it
};

struct ChoiceState {
  size_t prompt = 0;  // which of the prompts
  AnswerPiece all;    // so far
  int64_t tokens = 0;
  std::string finish_reason;  // stop, length; empty: it goes on
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
  int64_t answer_tokens() const;
};

class AnswerForm {
 public:
  virtual ~AnswerForm() = default;
  virtual WireJson whole(const AnswerState& answer) const = 0;
  // Of a stream, as text to be sent; each may be empty.
  virtual std::string begin(const AnswerState&) const { return {}; }
  virtual std::string piece(const AnswerState& answer, size_t choice, const AnswerPiece& piece) const = 0;
  virtual std::string choice_end(const AnswerState& answer, size_t choice) const = 0;
  virtual std::string end(const AnswerState& answer) const = 0;
  virtual std::string failure(const ApiError& error) const = 0;
  virtual const char* content_type() const { return "text/event-stream; charset=utf-8"; }  // of a stream
  virtual const char* ping() const { return ": ping\n\n"; }                                // sent in silence
};

std::string sse(const WireJson& value);  // "data: …\n\n"

}  // namespace loraine
