// Bytes as a tokenizer's file of another kind than tokenizer.json: tiktoken's, Mistral's tekken.json, else SentencePiece's; then a few
// texts through what it becomes. See ./dev fuzz.
#include "loraine/core/error.h"
#include "loraine/io/vocabulary/sentencepiece_tokenizer.h"
#include "loraine/io/vocabulary/token_ranks.h"
#include "loraine/text/tokenizer/tokenizer.h"

using namespace loraine;

static void use(const TokenizerParts& parts, const Json& added, std::string_view bytes) {
  const auto tokenizer = Tokenizer::from_json(tokenizer_text(parts, added), "made");
  for (std::string_view text :
       {std::string_view("Hello  w\xC3\xB6rld 12\n"), std::string_view("aaaa \xE2\x96\x81 e\xCC\x81"), bytes.substr(0, 2000)}) {
    const auto ids = tokenizer->encode(text, true);
    (void)tokenizer->decode(ids, true);
  }
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    if (is_tiktoken(bytes)) {
      use(token_rank_parts(read_tiktoken(bytes, "ranks"), 0, "\\S+|\\s+", "ranks"), Json::array(), bytes);
    } else if (bytes.starts_with('{')) {
      const Json content = Json::parse(bytes, nullptr, false);
      if (content.is_discarded()) return 0;
      const Tekken tekken = read_tekken(content, "tekken");
      use(token_rank_parts(tekken.ranks, static_cast<int64_t>(tekken.special.size()), tekken.pattern.c_str(), "tekken"), Json::array(),
          bytes);
    } else {
      const SentencePieceFile file = read_sentencepiece(bytes, "pieces");
      for (const PieceRules rules : {PieceRules::sentencepiece, PieceRules::llama_legacy, PieceRules::llama, PieceRules::gemma}) {
        SentencePieceFile renamed = file;
        const PieceUse how = {.rules = rules, .renamed = {{1, "<s>"}, {2, "a"}}};
        rename_pieces(renamed, how);
        use(sentencepiece_parts(renamed, how, "pieces"), sentencepiece_added_tokens(renamed, how), bytes);
      }
    }
  } catch (const Error&) {}
  return 0;
}
