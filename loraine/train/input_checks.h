// What is looked at before a run trusts its inputs: the weights' values and which data these are. Called by train().
#pragma once
#include <string>

#include "loraine/data/dataset.h"
#include "loraine/model/model.h"

namespace loraine {

std::string first_not_finite(const Model& model);     // the name of the first tensor with a NaN or infinity; empty: none
std::string data_fingerprint(const DataSplit& data);  // of ids and labels in order: "16 hex digits"

}  // namespace loraine
