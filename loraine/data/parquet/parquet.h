// Rows of a Parquet file as JSON objects. Called by read_rows.cpp.
#pragma once
#include <functional>
#include <string>
#include <string_view>

namespace loraine {

// Calls `take` with the text of each row, until it returns false. Lists (and maps, as lists of key and value) and objects nest; bytes that
// are no UTF-8 text become a text with a NUL, which whoever reads that field finds. Throws bad_data, without the file's name.
void read_parquet(std::string_view file, const std::function<bool(const std::string&)>& take);

}  // namespace loraine
