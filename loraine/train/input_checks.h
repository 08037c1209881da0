// What is looked at before a run trusts its base: the weights' values. Called by train().
#pragma once
#include <string>

#include "loraine/model/model.h"

namespace loraine {

std::string first_not_finite(const Model& model);  // the name of the first tensor with a NaN or infinity; empty: none

}  // namespace loraine
