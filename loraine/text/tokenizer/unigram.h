// The Unigram model of SentencePiece: of all ways to write a word in tokens, the one whose scores sum up highest. Called by tokenizer.cpp.
#pragma once
#include <array>
#include <string>
#include <unordered_map>

#include "loraine/text/tokenizer/tokenizer_json.h"
#include "loraine/text/tokenizer/word_model.h"

namespace loraine::tokens {

class Unigram final : public WordModel {
 public:
  // `model`: {"type": "Unigram", "vocab": [["token", score], …], "unk_id": id or null, "byte_fallback": bool}.
  Unigram(const Json& model, const Place& place);

  // Takes time in proportion to the word's length times the length of the longest token. Throws bad_data where a character is no token
  // and the model has no unknown token.
  void encode_word(std::string_view word, std::vector<int32_t>& ids) const override;
  std::optional<int32_t> id_of(std::string_view token) const override;
  std::optional<std::string_view> token_of(int32_t id) const override;
  int32_t size() const override { return static_cast<int32_t>(tokens_.size()); }

 private:
  struct Node {  // of the trie of tokens; its children lie side by side, by byte
    uint32_t first_child = 0;
    uint16_t children = 0;
    uint8_t byte = 0;
    int32_t id = -1;  // of the token that ends here
  };
  struct Best {  // the best way to reach a place
    double score = 0;
    size_t from = SIZE_MAX;
    int32_t id = -1;
  };
  void build_trie();
  uint32_t child(uint32_t node, unsigned char byte) const;  // 0: none
  void best_ways(std::string_view word, std::vector<Best>& ways) const;
  void append_piece(std::string_view piece, std::vector<int32_t>& ids) const;

  std::vector<std::string> tokens_;
  std::vector<double> scores_;
  std::unordered_map<std::string_view, int32_t> ids_;
  std::vector<Node> nodes_;
  std::array<uint32_t, 256> root_{};
  std::array<int32_t, 256> byte_ids_{};  // of "<0x00>" …, -1 for none
  double unknown_score_ = 0;
  int32_t unknown_ = -1;
  bool byte_fallback_ = false;
};

}  // namespace loraine::tokens
