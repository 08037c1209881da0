// What decides which tokens a sequence may go on with: `generate` asks it before it draws, `grammar` is one. And what a grammar has to know
// of a token, which `text` tells. Plain data and an interface, so that the three do not know each other.
#pragma once
#include <cstdint>
#include <span>
#include <string>

namespace loraine {

struct TokenBytes {
  std::string bytes;     // what it adds in the middle of a text; of a special token its spelling
  bool special = false;  // allowed where a grammar names it, nowhere else
};

struct TokenMask {
  virtual ~TokenMask() = default;
  // Writes all words: bit id % 64 of word id / 64 is set where the token may come next. bits: [(tokens of the mask + 63) / 64].
  virtual void fill(std::span<uint64_t> bits) = 0;
  virtual int64_t tokens() const = 0;  // ids from here on are never allowed
  // The token that was drawn. False where it is not allowed.
  virtual bool accept(int32_t id) = 0;
};

}  // namespace loraine
