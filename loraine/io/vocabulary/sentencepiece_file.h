// SentencePiece's model file (tokenizer.model): a protocol buffer, read here by hand, every length checked. Called by
// sentencepiece_tokenizer.cpp.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

enum class PieceType { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };

struct Piece {
  std::string text;
  float score = 0;
  PieceType type = PieceType::normal;
};

struct SentencePieceFile {  // with the format's defaults
  std::vector<Piece> pieces;
  int64_t model_type = 1;  // 1 Unigram, 2 BPE, 3 words, 4 characters
  bool byte_fallback = false, whitespace_as_suffix = false;
  int64_t unk_id = 0, bos_id = 1, eos_id = 2, pad_id = -1;  // -1: has none
  std::string character_map;                                // precompiled_charsmap; empty: identity
  bool add_dummy_prefix = true, remove_extra_whitespaces = true, escape_whitespaces = true;
};

// `file` names it in errors. Throws bad_data for anything that is not such a file, or is not whole.
SentencePieceFile read_sentencepiece(std::string_view bytes, const std::string& file);

}  // namespace loraine
