// Bytes as a JSON schema, compiled and walked: a schema may be refused, but only with an Error; every mask is what tokens tried one by one
// give, and a text that a grammar took is JSON. See ./dev fuzz.
#include <cstdlib>
#include <nlohmann/json.hpp>

#include "loraine/grammar/grammar.h"

using namespace loraine;
using namespace loraine::grammar;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const auto vocabulary = [] {
    std::vector<TokenBytes> tokens;
    for (int byte = 0; byte < 256; ++byte) tokens.push_back({std::string(1, static_cast<char>(byte))});
    for (const char* text : {"{\"", "\": ", "\": \"", "\"}", "\", \"", "}}", "[1, ", "true", "null", "aaaa", "\n  ", "é", "2024-"})
      tokens.push_back({text});
    tokens.push_back({"</s>", true});
    return std::make_shared<const Vocabulary>(tokens, std::vector<int32_t>{static_cast<int32_t>(tokens.size() - 1)});
  }();
  try {
    const auto masks =
        std::make_shared<const TokenGrammar>(json_schema(std::string_view(reinterpret_cast<const char*>(data), size)), vocabulary);
    GrammarState state(masks);
    std::vector<uint64_t> bits(vocabulary->words());
    std::string text;
    uint32_t random = static_cast<uint32_t>(size) * 2654435761u + 1;
    for (int step = 0; step < 12; ++step) {
      state.fill(bits);
      std::vector<int32_t> ids;
      for (int32_t id = 0; id < static_cast<int32_t>(vocabulary->size()); ++id) {
        GrammarState copy = state;
        const bool allowed = (bits[static_cast<size_t>(id) / 64] >> (id & 63) & 1) != 0;
        if (copy.accept(id) != allowed) std::abort();
        if (allowed) ids.push_back(id);
      }
      if (ids.empty() || state.stuck()) std::abort();  // every byte is a token
      random = random * 1664525 + 1013904223;
      const int32_t id = ids[(random >> 8) % ids.size()];
      if (!state.accept(id)) std::abort();
      if (vocabulary->is_end(id)) break;
      text += vocabulary->bytes(id);
    }
    if (state.complete() && nlohmann::json::parse(text, nullptr, false).is_discarded()) std::abort();
  } catch (const Error&) {}
  return 0;
}
