// The grammars of requests, compiled, each kept for the next request that wants the same. Owned by Service; from any thread, with the
// tokenizer's lock held.
#pragma once
#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "loraine/grammar/grammar.h"
#include "loraine/text/calls/call_grammar.h"
#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

class Grammars {
 public:
  explicit Grammars(const Tokenizer& tokenizer) : tokenizer_(tokenizer) {}

  // What an answer that ends with one of `ends` may be; wanted.special_tokens is filled in here. nullptr: there is nothing to enforce.
  // Throws what call_grammar throws.
  std::shared_ptr<const grammar::TokenGrammar> find(CallGrammar wanted, std::vector<int32_t> ends);

  // The tokens as bytes, with these that end an answer.
  std::shared_ptr<const grammar::Vocabulary> vocabulary(const std::vector<int32_t>& ends) { return words(ends)->vocabulary; }

  struct Counts {
    int64_t found = 0, made = 0;
  };
  Counts counts() const;

 private:
  struct Words {  // of the tokenizer as it is, with these ends
    std::shared_ptr<const grammar::Vocabulary> vocabulary;
    std::vector<std::string> special_tokens;
  };
  std::shared_ptr<const Words> words(const std::vector<int32_t>& ends);

  const Tokenizer& tokenizer_;
  mutable std::mutex mutex_;
  std::map<std::string, std::shared_ptr<const Words>> words_;
  std::list<std::pair<std::string, std::shared_ptr<const grammar::TokenGrammar>>> kept_;  // the latest first
  Counts counts_;
};

}  // namespace loraine
