// A model's tensors with more rows in the embedding, and in a head of its own: for tokens that its vocabulary did not have. Called by
// api/new_tokens.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/model_files.h"

namespace loraine {

struct NewRows {
  int64_t rows = 0;                                   // of the embedding from now on; at least those that it has
  std::vector<int32_t> ids;                           // new tokens among the rows that it has already (padding of the vocabulary)
  std::map<int32_t, std::vector<int32_t>> described;  // new token → tokens of its description, whose mean it starts at
  bool noise_on_described = false;
  uint64_t seed = 42;
};

// Every other new row starts at the mean of the old ones with normal noise of standard deviation 1 / √hidden_size, as in LLaMA-Factory; the
// noise is not torch's. files.config gets the new vocab_size. Throws bad_data where the embedding is quantised or lacks config.json's rows.
void grow_vocabulary(ModelFiles& files, const NewRows& rows);

}  // namespace loraine
