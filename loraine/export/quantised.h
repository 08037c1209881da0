// A model that was quantised while it was loaded, as transformers + bitsandbytes save it. Called by merge and loraine export.
#pragma once
#include <vector>

#include "loraine/io/model_files.h"
#include "loraine/io/weight_files.h"
#include "loraine/model/model.h"

namespace loraine {

// Puts the codes and scales of every weight that the model holds quantised (WeightPart::quant_state) in the place of its tensor.
void write_quantised(const Model& model, std::vector<WeightToWrite>& weights);
// quantization_config of config.json for what is written: of such a model, else none.
void describe_quantisation(Json& config, const Model& model);

}  // namespace loraine
