// Low-rank modules as an adapter's folder that PEFT loads. Called by what makes adapters out of adapters: merge, resize, extract, convert.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/stored/low_rank_file.h"

namespace loraine {

struct WrittenLowRank {
  std::vector<LowRankModule> modules;
  std::vector<std::string> targets;  // names for target_modules; empty: the paths of the modules
  std::string base;                  // base_model_name_or_path
  Dtype dtype = Dtype::F32;          // F32, F16 or BF16
  std::string story;                 // what the model card says of how it was made, Markdown
  // Tensors that are stored whole, under the names of modules_to_save.
  std::vector<std::pair<std::string, Tensor>> whole;
  std::vector<std::string> modules_to_save;
  std::optional<LoraConfig> like;  // the method, biases and tokens of an adapter whose other tensors are in `whole`
};

// r, lora_alpha and the patterns that give each module its rank and scale: r is the largest rank. A rank of 0 is left out.
LoraConfig config_for(const WrittenLowRank& written);
// Both files and a model card in `folder`, together or not at all. usage where one is there already and `overwrite` is not set.
void write_low_rank(const WrittenLowRank& written, const std::string& folder, bool overwrite);
void check_free(const std::string& folder, bool overwrite);  // the same refusal, before any work

// Zero rows of A and zero columns of B behind the others, up to rank r.
void pad_rank(LowRankModule& module, int64_t r);

}  // namespace loraine
