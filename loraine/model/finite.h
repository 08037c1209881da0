// A look at the base's values before they are trusted. Called by train, chat and export.
#pragma once
#include <string>

#include "loraine/model/model.h"

namespace loraine {

// The warning for a base with NaN or infinity in it, which names the first such tensor; empty when there is none. Reads every weight.
std::string not_finite_text(const Model& model);

}  // namespace loraine
