// Where the values of a JSON file begin and end, and what Python writes beyond JSON. Called by json_rows.cpp.
#pragma once
#include <optional>
#include <string>
#include <string_view>

#include "loraine/core/text_position.h"

namespace loraine {

// Where the value that begins at `at` ends, or, when it is not whole, where that shows: at the end of the text, at a second value without a
// comma before it, or, with `one_line_texts`, at a text that runs over the end of its line. Brackets and quotes alone are looked at.
struct ValueEnd {
  size_t byte = 0;
  bool whole = false;
};
ValueEnd value_end(std::string_view text, size_t at, bool one_line_texts);

// A row in a spelling that every JSON parser takes. A column that is NaN, which is how tables write a hole, becomes null. What else Python
// writes and JSON or 64 bits cannot hold (Infinity, deeper NaN, longer numbers, half a surrogate pair) becomes a text with a NUL before
// it, so that it passes where nothing reads it and is found where something does (`beyond_json`). With `raw_controls` texts may hold
// newlines and tabs as they are.
std::string plain_json(std::string_view row, bool raw_controls);

// What plain_json put in the place of something else, in words: "the number Infinity"; empty where the text is a text.
std::string beyond_json(std::string_view text);

// Appends `text` as a JSON text, with its quotes.
void append_json_text(std::string& out, std::string_view text);

// The first mistake of a JSON value, found by a second parser that keeps positions: its byte, and the field before it.
struct JsonMistake {
  size_t byte = 0;
  std::string field;
};
std::optional<JsonMistake> find_json_mistake(std::string_view value, bool raw_controls);

}  // namespace loraine
