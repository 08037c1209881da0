// tokenizer.ggml.pre and the patterns it stands for: one table for reading and writing.
#pragma once
#include <span>
#include <string_view>
#include <vector>

namespace loraine {

// How a byte-level tokenizer cuts text into words: by patterns, or (none) as GPT-2 does, with each digit by itself or not.
struct PreTokenizer {
  std::string_view name;
  std::vector<const char*> patterns = {};
  bool nfc = false, ignore_merges = false, add_bos = false, digits = false;
};

std::span<const PreTokenizer> pre_tokenizers();
const PreTokenizer* find_pre_tokenizer(std::string_view name);  // nullptr when unknown

}  // namespace loraine
