// One encoded training example, what every reader of data sets ends in.
#pragma once
#include <cstdint>
#include <vector>

namespace loraine {

struct Example {
  std::vector<int32_t> input_ids;
  std::vector<int32_t> labels;  // same length; kIgnoreLabel where nothing is trained; not shifted
};

}  // namespace loraine
