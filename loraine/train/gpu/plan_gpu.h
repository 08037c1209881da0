// The memory of a run on the GPU, and the move there. Called by plan_memory.
#pragma once
#include <cstdint>

#include "loraine/train/train.h"

namespace loraine {

struct Run;

// Shows the summary, whose parameters and steps are filled in, throws out_of_memory where the card has too little, and unless it is a dry
// run moves everything. unsupported for an adapter (of adapter_name_or_path) that has more than LoRA at the layers.
// side_rows: of the largest batch beside the one that trains, where the objective has any.
void plan_gpu(Run& run, int64_t most_rows, int64_t side_rows, TrainSummary summary);

}  // namespace loraine
