// Comma-separated values as spreadsheets and pandas write them. Used by exam.cpp.
#pragma once
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

struct CsvRow {
  std::vector<std::string> fields;
  int64_t line = 0;  // on which it begins, from 1
};

// Quoted fields may hold commas, line ends and "" for a quote. Empty lines and a byte order mark are left out. bad_data (with `file` and
// the line) for a quote that is not closed or not at a field's edge.
std::vector<CsvRow> read_csv(std::string_view text, const std::string& file);

}  // namespace loraine
