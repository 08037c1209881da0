// Bytes as a regular expression and, behind a NUL, a text: both ways of matching it, over characters and over bytes, agree. See ./dev fuzz.
#include <algorithm>
#include <cstdlib>

#include "loraine/grammar/characters.h"
#include "loraine/grammar/grammar.h"
#include "loraine/text/tokenizer/unicode.h"

using namespace loraine;
using namespace loraine::grammar;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto vocabulary = [] {
    std::vector<TokenBytes> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
    tokens.push_back({"</s>", true});
    return std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{256});
  }();
  const std::string_view all(reinterpret_cast<const char*>(data), size);
  const size_t nul = std::min(all.find('\0'), all.size());
  const std::string pattern = tokens::repair_utf8(all.substr(0, nul)),
                    text = tokens::repair_utf8(all.substr(std::min(nul + 1, all.size())));
  try {
    const CharacterAutomaton characters = parse_regex(pattern);
    GrammarState state(std::make_shared<const TokenGrammar>(regex(pattern), vocabulary));
    if ((state.accept_text(text) && state.complete()) != characters.matches(text)) std::abort();
  } catch (const Error&) {}
  return 0;
}
