// See grammars.h.
#include "loraine/serve/grammars.h"

#include <algorithm>

namespace loraine {
namespace {

constexpr size_t kMostGrammars = 32, kMostWords = 8;
constexpr size_t kMaskBytes = 16u << 20;  // of one grammar

// Everything that a grammar is made of, as one text.
std::string key_of(const CallGrammar& wanted) {
  nlohmann::ordered_json key = {wanted.format ? wanted.format->name : "", wanted.tools, wanted.required, wanted.name, wanted.parallel};
  if (wanted.shape) key.push_back({static_cast<int>(wanted.shape->kind), wanted.shape->text, wanted.shape->texts});
  if (wanted.thoughts) key.push_back({{"thoughts", {wanted.thoughts->open, wanted.thoughts->close, wanted.in_thought}}});
  return key.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

}  // namespace

std::shared_ptr<const Grammars::Words> Grammars::words(const std::vector<int32_t>& ends) {
  std::string key = std::to_string(tokenizer_.new_tokens().size());
  for (const int32_t id : ends) key += "," + std::to_string(id);
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = words_.find(key); found != words_.end()) return found->second;
  }
  const std::vector<TokenBytes> tokens = vocabulary_tokens(tokenizer_);
  auto made = std::make_shared<Words>();
  std::vector<int32_t> known;
  for (const int32_t id : ends)
    if (id >= 0 && static_cast<size_t>(id) < tokens.size()) known.push_back(id);
  made->vocabulary = std::make_shared<const grammar::Vocabulary>(tokens, std::move(known), tokenizer_.drops_first_space());
  for (const TokenBytes& token : tokens)
    if (token.special) made->special_tokens.push_back(token.bytes);
  const std::lock_guard lock(mutex_);
  if (words_.size() >= kMostWords) words_.clear();
  return words_.try_emplace(key, std::move(made)).first->second;
}

std::shared_ptr<const grammar::TokenGrammar> Grammars::find(CallGrammar wanted, std::vector<int32_t> ends) {
  std::sort(ends.begin(), ends.end());
  ends.erase(std::unique(ends.begin(), ends.end()), ends.end());
  const std::shared_ptr<const Words> words = this->words(ends);
  std::string key = key_of(wanted);
  const auto kept = [&] {
    return std::find_if(kept_.begin(), kept_.end(),
                        [&](const auto& one) { return &one.second->vocabulary() == words->vocabulary.get() && one.first == key; });
  };
  {
    const std::lock_guard lock(mutex_);
    if (const auto found = kept(); found != kept_.end()) {
      kept_.splice(kept_.begin(), kept_, found);
      ++counts_.found;
      return kept_.front().second;
    }
  }
  wanted.special_tokens = words->special_tokens;
  const std::shared_ptr<const grammar::Automaton> automaton = call_grammar(wanted);
  if (!automaton) return nullptr;
  auto made = std::make_shared<const grammar::TokenGrammar>(automaton, words->vocabulary, kMaskBytes);
  const std::lock_guard lock(mutex_);
  ++counts_.made;
  if (const auto found = kept(); found != kept_.end()) return found->second;  // somebody else was faster
  kept_.emplace_front(std::move(key), made);
  if (kept_.size() > kMostGrammars) kept_.pop_back();
  return made;
}

Grammars::Counts Grammars::counts() const {
  const std::lock_guard lock(mutex_);
  return counts_;
}

}  // namespace loraine
