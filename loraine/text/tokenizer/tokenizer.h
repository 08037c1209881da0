// tokenizer.json (byte-level BPE, SentencePiece's BPE and Unigram): text to ids and back, equal to the `tokenizers` library.
#pragma once
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/core/token_mask.h"

namespace loraine {

struct NewToken {
  std::string content;
  int32_t id;
  bool special;
};

class Tokenizer {
 public:
  // bytes of a tokenizer.json; `file` names it in errors (bad_data; what it uses and we do not know is named).
  static std::unique_ptr<Tokenizer> from_json(std::string_view bytes, const std::string& file);
  virtual ~Tokenizer() = default;

  // split_special_tokens: the spelling of special tokens in `text` is plain text (the library's encode_special_tokens).
  virtual std::vector<int32_t> encode(std::string_view text, bool add_special_tokens = false, bool split_special_tokens = false) const = 0;
  // For a text where the spelling of special tokens counts in some parts only: `guard` breaks it up in a part (with U+FDD0, a noncharacter,
  // which is dropped where the text has it), `encode_guarded` takes the whole text, guarded parts and others, without special tokens around
  // it.
  virtual std::string guard(std::string_view part) const = 0;
  virtual std::vector<int32_t> encode_guarded(std::string_view text) const = 0;
  virtual std::string decode(std::span<const int32_t> ids, bool skip_special_tokens = false) const = 0;
  virtual std::optional<int32_t> token_to_id(std::string_view token) const = 0;
  virtual std::optional<std::string> id_to_token(int32_t id) const = 0;
  // The bytes that a token adds in the middle of a text: with a byte-level vocabulary or SentencePiece's byte tokens they may be a part of
  // a character. Empty: no such id.
  virtual std::string token_bytes(int32_t id) const { return id_to_token(id).value_or(std::string()); }
  virtual bool drops_first_space() const { return false; }  // of a text that begins with one, as SentencePiece's decoder does
  virtual int64_t vocab_size() const = 0;                   // added tokens included: one more than the largest id
  virtual bool is_special(int32_t id) const = 0;
  // Adds a token behind the vocabulary (or marks an existing one as added); returns its id.
  virtual int32_t add_token(const std::string& content, bool special) = 0;
  // What add_token added or marked since the tokenizer was read.
  const std::vector<NewToken>& new_tokens() const { return new_tokens_; }

 protected:
  std::vector<NewToken> new_tokens_;
};

// token_bytes of every id below vocab_size(), with what is special: what grammars are walked with.
std::vector<TokenBytes> vocabulary_tokens(const Tokenizer& tokenizer);

// tokenizer.json with these tokens among its added_tokens; every other byte stays.
std::string with_new_tokens(std::string_view tokenizer_json, const std::vector<NewToken>& tokens);

// Turns a stream of ids into text pieces that never end inside a UTF-8 character. Used by chat and serving.
class Detokenizer {
 public:
  Detokenizer(const Tokenizer& tokenizer, bool skip_special_tokens) : tokenizer_(tokenizer), skip_(skip_special_tokens) {}
  std::string push(int32_t id);  // new text that is certain by now
  std::string finish();          // the rest

 private:
  const Tokenizer& tokenizer_;
  bool skip_;
  std::vector<int32_t> ids_;
  size_t prefix_ = 0, read_ = 0;
};

}  // namespace loraine
