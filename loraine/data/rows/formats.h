// One JSON row in the alpaca, sharegpt, openai or tokenized layout. Called by read_rows.cpp only (it brings simdjson along).
#pragma once
#include <simdjson.h>

#include "loraine/data/rows/rows.h"

namespace loraine {

// Fills row.conversation or row.tokens, or throws bad_data that names the field.
void fill_row(const DatasetInfo& info, simdjson::dom::element element, Row& row);

}  // namespace loraine
