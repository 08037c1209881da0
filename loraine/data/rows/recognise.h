// The layout of rows that no dataset_info.json describes, told from the names and kinds of their fields. Called by read_rows.cpp.
#pragma once
#include <simdjson.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "loraine/data/rows/rows.h"

namespace loraine {

// The first rows of a file.
struct RowSample {
  std::vector<nlohmann::ordered_json> rows;
  bool cells = false;  // of a table: every value is a text, which may be a list written as JSON
  void add(simdjson::dom::element row);
};

// `info` (its name and place, stage) with formatting, columns and tags filled in; `words` gets a line on what they are. In stage sft:
// token ids, conversations (a list of messages, whatever the column is called), questions and answers; in stage pt: plain texts. Throws
// bad_data, with the fields and an entry for dataset_info.json, where it cannot be told; usage where the rows are of another stage.
DatasetInfo recognise_rows(const DatasetInfo& info, RowSample sample, std::string* words);

}  // namespace loraine
