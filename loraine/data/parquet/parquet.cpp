// Row groups, one after another, and rows put together from the levels of their columns. Called through parquet.h.
#include "loraine/data/parquet/parquet.h"

#include <fmt/format.h>
#include <simdjson.h>

#include <cmath>

#include "loraine/core/error.h"
#include "loraine/data/files/json_values.h"
#include "loraine/data/parquet/column.h"

namespace loraine {
namespace {

using namespace parquet;

struct Cursor {
  Column column;
  size_t at = 0;     // value, nulls included
  size_t value = 0;  // among those that are there

  bool ended() const { return at >= static_cast<size_t>(column.values); }
  int definition() const { return column.definitions.empty() ? 0 : column.definitions[at]; }
  int repetition() const { return column.repetitions.empty() ? 0 : column.repetitions[at]; }
};

struct RowWriter {
  std::vector<Cursor> cursors;
  std::string json;

  [[noreturn]] static void refuse() { throw Error(ErrorKind::bad_data, "its columns do not have the same rows"); }

  Cursor& first(const Field& field) {
    Cursor& cursor = cursors[static_cast<size_t>(field.column)];
    if (cursor.ended()) refuse();
    return cursor;
  }
  bool is_there(const Field& field) { return first(field).definition() >= field.definition; }

  // Null, or an empty list: one entry in each column below.
  void skip(const Field& field) {
    for (int i = 0; i < field.columns; ++i) {
      Cursor& cursor = cursors[static_cast<size_t>(field.column + i)];
      if (cursor.ended() || cursor.definition() >= field.definition) refuse();
      ++cursor.at;
    }
  }

  void leaf(const Field& field) {
    Cursor& cursor = first(field);
    if (cursor.definition() < field.definition) refuse();
    ++cursor.at;
    const size_t i = cursor.value++;
    if (field.physical >= Physical::bytes || field.physical == Physical::int96) {
      if (i >= cursor.column.texts.size()) refuse();
      const std::string_view text = cursor.column.texts[i];
      const bool is_text = field.physical != Physical::int96 && simdjson::validate_utf8(text.data(), text.size());
      append_json_text(json, is_text ? text : std::string_view("\0", 1));
      return;
    }
    if (i >= cursor.column.numbers.size()) refuse();
    const Number number = cursor.column.numbers[i];
    if (field.physical == Physical::boolean) json += number.whole ? "true" : "false";
    else if (field.physical == Physical::float32 || field.physical == Physical::float64) append_real(number.real);
    else if (field.is_unsigned) json += std::to_string(static_cast<uint64_t>(number.whole));
    else json += std::to_string(number.whole);
  }

  void append_real(double real) {
    const std::string text = fmt::format("{}", real);
    if (!std::isfinite(real)) json += "null";
    else json += text.find_first_of(".e") == std::string::npos ? text + ".0" : text;
  }

  // A field's value where it is there.
  void value(const Field& field) {
    if (field.children.empty()) return leaf(field);
    if (field.list) return list(field.children[0], true);
    json += '{';
    for (const Field& child : field.children) {
      if (json.back() != '{') json += ',';
      append_json_text(json, child.name);
      json += ':';
      any(child);
    }
    json += '}';
  }

  void any(const Field& field) {
    if (field.repeated) return list(field, false);
    if (field.optional && !is_there(field)) {
      skip(field);
      json += "null";
      return;
    }
    value(field);
  }

  // A repeated field. `wrapped`: in a LIST its one child is the element, as Arrow and Spark write it; else it is the element itself.
  void list(const Field& repeated, bool wrapped) {
    json += '[';
    if (!is_there(repeated)) skip(repeated);
    else
      for (bool more = true; more;) {
        if (json.back() != '[') json += ',';
        if (wrapped && repeated.children.size() == 1) any(repeated.children[0]);
        else value(repeated);
        const Cursor& cursor = cursors[static_cast<size_t>(repeated.column)];
        more = !cursor.ended() && cursor.repetition() == repeated.repetition;
      }
    json += ']';
  }
};

}  // namespace

void read_parquet(std::string_view file, const std::function<bool(const std::string&)>& take) {
  Metadata metadata;
  read_metadata(file, metadata);
  for (const RowGroup& group : metadata.groups) {
    RowWriter writer;
    for (size_t i = 0; i < metadata.leaves.size(); ++i) writer.cursors.push_back({read_column(file, group.chunks[i], *metadata.leaves[i])});
    for (int64_t row = 0; row < group.rows; ++row) {
      writer.json.clear();
      writer.value(metadata.root);
      if (!take(writer.json)) return;
    }
    for (const Cursor& cursor : writer.cursors)
      if (!cursor.ended()) RowWriter::refuse();
  }
}

}  // namespace loraine
