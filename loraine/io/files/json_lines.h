// Rows of a JSONL file (or of a JSON list) with their places. Used by loraine tokenize and by the inputs of an evaluation.
#pragma once
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace loraine {

struct JsonRow {
  nlohmann::ordered_json value;  // an object
  std::string place;             // "questions.jsonl, line 3"
};

std::vector<JsonRow> read_json_rows(const std::string& file);  // bad_data naming file, line and column
// The first of `names` that the row has, which must be a text. bad_data when none is there.
std::string text_field(const JsonRow& row, std::initializer_list<const char*> names);

}  // namespace loraine
