// What each token says, as bytes: of a byte-level vocabulary a token may be half a character. Used for log-probabilities.
#pragma once
#include <string>

#include "loraine/text/tokenizer/tokenizer.h"

namespace loraine {

class TokenBytes {
 public:
  explicit TokenBytes(const Tokenizer& tokenizer);
  std::string operator()(int32_t id) const;

 private:
  const Tokenizer& tokenizer_;
  int32_t anchor_ = -1;  // stands before the token: some decoders drop the blank of the first
  std::string anchor_text_;
};

}  // namespace loraine
