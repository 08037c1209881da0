// Rows of a JSON file, whatever its layout. Called by read_rows.cpp.
#pragma once
#include <string_view>

#include "loraine/data/files/row_collector.h"

namespace loraine {

// Throws bad_data about a file of which rows cannot be told apart.
void read_json_rows(std::string_view text, RowCollector& collector);

}  // namespace loraine
