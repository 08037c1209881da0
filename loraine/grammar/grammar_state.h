// Where one sequence stands in a grammar. Copying it is forking it (for n > 1): the copies share the masks, nothing else.
#pragma once
#include <memory>
#include <span>

#include "loraine/core/token_mask.h"
#include "loraine/grammar/token_grammar.h"

namespace loraine::grammar {

class GrammarState final : public TokenMask {
 public:
  explicit GrammarState(std::shared_ptr<const TokenGrammar> grammar);

  // Bits of the tokens that may come next: [words() of the vocabulary], written whole. Ends of the answer are allowed where the grammar is
  // at its end, and nothing else once one was accepted. Where no token fits what must come (a vocabulary without some byte) they are
  // allowed too, so that the answer ends; stuck() tells.
  void fill(std::span<uint64_t> bits) override;
  int64_t tokens() const override { return static_cast<int64_t>(grammar_->vocabulary().size()); }
  // The next token. False, and nothing changes, where it is not allowed.
  bool accept(int32_t id) override;
  // The same for a text that is given, such as the beginning of an answer in the prompt.
  bool accept_text(std::string_view bytes);

  bool complete() const { return stacks_.bottom; }                                      // what was accepted is a whole text of the grammar
  bool finished() const { return ended_ || (stacks_.bottom && stacks_.tops.empty()); }  // nothing may follow but an end
  bool stuck() const { return stuck_; }

 private:
  void tidy();
  std::shared_ptr<const TokenGrammar> grammar_;
  Frames frames_;
  Stacks stacks_;
  bool ended_ = false, stuck_ = false;
};

}  // namespace loraine::grammar
