// Weights that are held as codes with scales of groups, shown as matrices. Called by quantised_checkpoint.
#pragma once
#include <memory>
#include <vector>

#include "loraine/io/quantised/grouped_weight.h"

namespace loraine {

// The folder's source with the weights in the place of what they are made of. Codes are mapped where they lie row by row, else taken into
// the memory of whoever asks (take_packed); tables are made when a weight is first used.
std::unique_ptr<TensorSource> grouped_source(std::shared_ptr<QuantisedFolder> folder, std::vector<GroupedWeight> weights);

}  // namespace loraine
