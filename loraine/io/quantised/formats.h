// The formats of quantised checkpoints whose weights become codes with tables beside: one function and one file each, listed in
// quantised_checkpoint.cpp by the quant_method of config.json. Each throws bad_data where config and tensors do not fit together.
#pragma once
#include <vector>

#include "loraine/io/quantised/grouped_weight.h"

namespace loraine {

std::vector<GroupedWeight> gptq_weights(const QuantisedFolder& folder);
std::vector<GroupedWeight> awq_weights(const QuantisedFolder& folder);
std::vector<GroupedWeight> fp8_weights(const QuantisedFolder& folder);
std::vector<GroupedWeight> hqq_weights(const QuantisedFolder& folder);
std::vector<GroupedWeight> aqlm_weights(const QuantisedFolder& folder);
std::vector<GroupedWeight> compressed_tensors_weights(const QuantisedFolder& folder);

}  // namespace loraine
