// The "model" of tokenizer.json: what turns a word into ids. Bpe and Unigram are the two; tokenizer.cpp asks through this.
#pragma once
#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

namespace loraine::tokens {

class WordModel {
 public:
  virtual ~WordModel() = default;
  // True if encode_word takes raw bytes, false if it takes the vocabulary's spelling.
  virtual bool takes_bytes() const { return false; }
  virtual void encode_word(std::string_view word, std::vector<int32_t>& ids) const = 0;  // appends
  virtual std::optional<int32_t> id_of(std::string_view token) const = 0;
  virtual std::optional<std::string_view> token_of(int32_t id) const = 0;
  virtual int32_t size() const = 0;  // one more than the largest id
};

}  // namespace loraine::tokens
