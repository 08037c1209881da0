// What exported models are compared on, and how the outcome is said. Called by the parts of loraine export.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "loraine/export/check.h"
#include "loraine/io/model_files.h"

namespace loraine {

// The sample texts as this model's tokens; made-up ids where it has no tokenizer that knows them.
struct ComparedText {
  std::vector<std::vector<int32_t>> ids;
  bool made_up = false;
};
ComparedText compared_text(const ModelFiles& files, const Model& model);

std::string divergence_text(const Divergence& d);  // "mean KL 1e-05, the same first token 100.0 %"

}  // namespace loraine
