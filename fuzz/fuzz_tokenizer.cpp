// Bytes as a tokenizer.json, then a few texts through what it describes; and as a text through a tokenizer that is good. See ./dev fuzz.
#include <cstdlib>

#include "loraine/core/error.h"
#include "loraine/text/tokenizer/tokenizer.h"

using namespace loraine;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::string_view bytes(reinterpret_cast<const char*>(data), size);
  try {
    auto tokenizer = Tokenizer::from_json(bytes, "tokenizer.json");
    for (std::string_view text : {std::string_view("Hello  wörld 12\n"), std::string_view("aaaaaaaa"), bytes.substr(0, 2000)}) {
      auto ids = tokenizer->encode(text, true);
      tokenizer->decode(ids, true);
      Detokenizer stream(*tokenizer, false);
      for (int32_t id : ids) stream.push(id);
      stream.finish();
    }
  } catch (const Error&) {}
  static const auto good = Tokenizer::from_json(
      R"({"added_tokens": [{"id": 9, "content": "<s>", "special": true}, {"id": 10, "content": "é", "normalized": true, "lstrip": true}],
        "normalizer": {"type": "NFC"}, "pre_tokenizer": {"type": "Split", "pattern": {"Regex": "\\p{N}|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\s+(?!\\S)|\\s+"},
        "behavior": "Isolated", "invert": false}, "decoder": {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]},
        "model": {"type": "BPE", "unk_token": "u", "fuse_unk": true, "vocab": {"a": 0, "b": 1, "aa": 2, "ab": 3, "u": 4, " ": 5, "aaaa": 6, "1": 7,
        "  ": 8}, "merges": ["a a", "a b", "aa aa"]}})",
      "good");
  for (bool split : {false, true}) {
    auto ids = good->encode(bytes, true, split);
    good->decode(ids);
    for (int32_t id : ids)
      if (!good->id_to_token(id)) std::abort();
  }
  return 0;
}
