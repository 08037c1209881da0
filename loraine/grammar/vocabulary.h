// The tokens of a model as bytes, sorted into a trie that grammars walk. Made once for a model, shared by all its grammars.
#pragma once
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/core/token_mask.h"

namespace loraine::grammar {

class Vocabulary {
 public:
  // tokens: by id; those without bytes are never allowed, special ones where a grammar names them (special_token in rules.h). ends: ids
  // that end an answer, allowed where the grammar is at its end. drops_first_space: whether the text of an answer loses a space at its
  // beginning, as SentencePiece's does.
  Vocabulary(std::span<const TokenBytes> tokens, std::vector<int32_t> ends, bool drops_first_space = false);

  size_t size() const { return offsets_.size() - 1; }
  size_t words() const { return (size() + 63) / 64; }  // of a mask: bit id % 64 of word id / 64
  std::string_view bytes(int32_t id) const {           // as the trie has them: special tokens between their marks
    const size_t i = static_cast<size_t>(id);
    return std::string_view(bytes_).substr(offsets_[i], offsets_[i + 1] - offsets_[i]);
  }
  const std::vector<int32_t>& ends() const { return ends_; }
  bool is_end(int32_t id) const;
  bool drops_first_space() const { return drops_first_space_; }

  // The trie: nodes in the order of a walk, 0 is the root. Children of a node lie behind it, up to `end`.
  struct Node {
    uint32_t end;       // the node after its subtree
    uint32_t first_id;  // in `ids`; those of the next node end them
    uint16_t depth;     // bytes from the root
    uint8_t byte;
  };
  std::span<const Node> nodes() const { return nodes_; }  // the last one is beyond all
  std::span<const int32_t> ids() const { return ids_; }
  int32_t longest() const { return longest_; }  // bytes of a token

 private:
  std::string bytes_;
  std::vector<size_t> offsets_;
  std::vector<int32_t> ends_, ids_;
  std::vector<Node> nodes_;
  int32_t longest_ = 0;
  bool drops_first_space_;
};

}  // namespace loraine::grammar
