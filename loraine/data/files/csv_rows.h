// Rows of a CSV file (RFC 4180): a heading of column names, then a record per row. Called by read_rows.cpp.
#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "loraine/data/files/row_collector.h"

namespace loraine {

struct CsvFormat {
  char separator = ',';
  std::vector<std::string> json_columns;  // whose cells hold JSON text (a list of messages), read as what it says
};

// A cell is the text that stands there, whatever it looks like; an empty one is null, as pandas makes it. Lines end with LF, CRLF or CR;
// empty ones are passed over. Throws bad_data about a heading that names nothing or a quote that never closes.
void read_csv_rows(std::string_view text, const CsvFormat& format, RowCollector& collector);

// A row per line, as an object with the one field `text`; empty lines are rows too (as the `text` loader of Hugging Face's datasets).
void read_text_rows(std::string_view text, RowCollector& collector);

}  // namespace loraine
