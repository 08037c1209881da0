// At most so many tokens of thoughts: then the mark that closes them is all that may come. Asked by the engine's thread.
#pragma once
#include <memory>
#include <string>
#include <vector>

#include "loraine/core/token_mask.h"
#include "loraine/grammar/vocabulary.h"
#include "loraine/text/calls/answer_reader.h"

namespace loraine {

// What does not change from answer to answer of a request.
struct ThoughtLimit {
  std::shared_ptr<const grammar::Vocabulary> vocabulary;
  ThoughtMarks marks;
  std::vector<int32_t> close;  // the ids of marks.close
  int64_t tokens = 0;          // of thoughts, without their marks
  int64_t vocab = 0;           // ids are below it
  bool in_thought = false;     // the prompt has opened one
};

class ThoughtBudget final : public TokenMask {
 public:
  // inner: what else the answer has to be, such as a grammar; nullptr: anything. It has to allow the closing mark in a thought.
  ThoughtBudget(std::shared_ptr<const ThoughtLimit> limit, std::shared_ptr<TokenMask> inner);
  void fill(std::span<uint64_t> bits) override;
  int64_t tokens() const override { return inner_ ? inner_->tokens() : limit_->vocab; }
  bool accept(int32_t id) override;

 private:
  enum class Stage : uint8_t { before, thought, closing, behind };
  void read(int32_t id);
  std::shared_ptr<const ThoughtLimit> limit_;
  std::shared_ptr<TokenMask> inner_;
  Stage stage_;
  std::string text_;     // before: of the answer without blanks at its beginning; thought: its last bytes
  int64_t thought_ = 0;  // tokens
  size_t closed_ = 0;    // ids of the mark that have come
};

}  // namespace loraine
