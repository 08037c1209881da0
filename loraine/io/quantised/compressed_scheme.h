// config_groups of compressed-tensors: which module's weight is quantised how. Called by compressed_tensors.
#pragma once
#include <string>
#include <vector>

#include "loraine/io/quantised/grouped_weight.h"

namespace loraine {

struct CompressedScheme {
  std::vector<std::string> targets;  // names of modules, of classes, or "re:" and an expression that the beginning of a name matches
  int64_t bits = 0;
  bool is_float = false, symmetric = true;
  std::string strategy;  // tensor, channel, group, tensor_group or block
  int64_t group_size = 0, block_rows = 0, block_cols = 0;
  bool rounds_activations = false;  // says so: here they stay as they are
};

class CompressedSchemes {
 public:
  explicit CompressedSchemes(const QuantisedFolder& folder);  // throws bad_data for what is not read
  // Of the module whose weight `info` belongs to: a group that names it, else one whose expression matches it, else one for its class.
  const CompressedScheme& of(const TensorInfo& info, const std::string& module) const;

 private:
  const QuantisedFolder& folder_;
  std::vector<CompressedScheme> all_;
};

}  // namespace loraine
