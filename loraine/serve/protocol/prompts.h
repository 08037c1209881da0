// A field that holds one text or many, each as a string or as token ids: completions and embeddings have one.
#pragma once
#include <string>
#include <vector>

#include "loraine/serve/protocol/fields.h"

namespace loraine {

struct Prompts {
  std::vector<std::string> texts;         // either these
  std::vector<std::vector<int32_t>> ids;  // or these
};

// A string, a list of ids, or a list of at most `most` such prompts, none of the lists empty. Throws ApiError.
Prompts read_prompts(Fields& fields, const char* name, int64_t vocab, size_t most);

}  // namespace loraine
