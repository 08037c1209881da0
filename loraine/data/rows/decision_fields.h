// Choices and label of a row of stage decision. Called by formats.cpp only (it brings simdjson along).
#pragma once
#include <simdjson.h>

#include "loraine/data/rows/rows.h"

namespace loraine {

// choices: a list of texts, of numbers (the lowest first) or of true and false, or {"from": 1, "to": 5, "step": 1}; absent where the label
// is true or false. Yes and no, and true and false, are one kind whatever their order. label: one of the choices, or of texts its place
// from 0. Throws bad_data that names the field.
DecisionRow read_decision(const DatasetInfo& info, simdjson::dom::object object);

}  // namespace loraine
