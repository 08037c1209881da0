// Values of columns, and rows as JSON. Called through arrow.h.
#include <fmt/format.h>

#include <cmath>

#include "loraine/data/arrow/arrow.h"
#include "loraine/data/arrow/flatbuffer.h"
#include "loraine/data/files/json_values.h"

namespace loraine {
namespace {

template <class T>
T value_at(std::string_view bytes, int64_t i) {
  T value;
  std::memcpy(&value, bytes.data() + static_cast<size_t>(i) * sizeof(T), sizeof(T));
  return value;
}

bool bit_at(std::string_view bits, int64_t i) { return static_cast<uint8_t>(bits[static_cast<size_t>(i / 8)]) >> (i % 8) & 1; }

void append_json(std::string& out, const ArrowColumn& column, int64_t row);

void append_list(std::string& out, const ArrowColumn& items, int64_t first, int64_t last) {
  out += '[';
  for (int64_t i = first; i < last; ++i) {
    if (i > first) out += ',';
    append_json(out, items, i);
  }
  out += ']';
}

void append_object(std::string& out, const std::vector<ArrowColumn>& columns, int64_t row) {
  out += '{';
  for (size_t i = 0; i < columns.size(); ++i) {
    if (i > 0) out += ',';
    append_json_text(out, columns[i].field->name);
    out += ':';
    append_json(out, columns[i], row);
  }
  out += '}';
}

void append_json(std::string& out, const ArrowColumn& column, int64_t row) {
  if (column.is_null(row)) {
    out += "null";
    return;
  }
  switch (column.field->kind) {
    case ArrowKind::integer:
      if (column.field->is_signed) out += fmt::format("{}", column.integer(row));
      else out += fmt::format("{}", static_cast<uint64_t>(column.integer(row)));
      break;
    case ArrowKind::floating: {
      const double value =
          column.field->bits == 64 ? value_at<double>(column.data, row) : static_cast<double>(value_at<float>(column.data, row));
      out += std::isfinite(value) ? fmt::format("{}", value) : "null";
      break;
    }
    case ArrowKind::boolean: out += column.integer(row) ? "true" : "false"; break;
    case ArrowKind::text: {
      const auto [first, last] = column.range(row);
      append_json_text(out, column.data.substr(static_cast<size_t>(first), static_cast<size_t>(last - first)));
      break;
    }
    case ArrowKind::list:
    case ArrowKind::fixed_list: {
      const auto [first, last] = column.range(row);
      append_list(out, column.children[0], first, last);
      break;
    }
    case ArrowKind::structure: append_object(out, column.children, row); break;
    case ArrowKind::null:
    case ArrowKind::other: out += "null"; break;
  }
}

}  // namespace

bool ArrowColumn::is_null(int64_t row) const { return field->kind == ArrowKind::null || (!validity.empty() && !bit_at(validity, row)); }

std::pair<int64_t, int64_t> ArrowColumn::range(int64_t row) const {
  if (field->kind == ArrowKind::fixed_list) return {row * field->list_size, (row + 1) * field->list_size};
  const int64_t first = field->large ? value_at<int64_t>(offsets, row) : value_at<int32_t>(offsets, row);
  const int64_t last = field->large ? value_at<int64_t>(offsets, row + 1) : value_at<int32_t>(offsets, row + 1);
  const int64_t most = field->kind == ArrowKind::list ? children[0].length : static_cast<int64_t>(data.size());
  if (first < 0 || last < first || last > most) bad_arrow(fmt::format("column `{}`: a row lies outside of its values", field->name));
  return {first, last};
}

int64_t ArrowColumn::integer(int64_t row) const {
  if (field->kind == ArrowKind::boolean) return bit_at(data, row);
  const bool s = field->is_signed;
  switch (field->bits) {
    case 8: return s ? value_at<int8_t>(data, row) : value_at<uint8_t>(data, row);
    case 16: return s ? value_at<int16_t>(data, row) : value_at<uint16_t>(data, row);
    case 32: return s ? value_at<int32_t>(data, row) : static_cast<int64_t>(value_at<uint32_t>(data, row));
    default: return value_at<int64_t>(data, row);
  }
}

void read_arrow(std::string_view file, const std::function<bool(const std::string&)>& take) {
  ArrowReader reader(file);
  ArrowBatch batch;
  std::string row;
  while (reader.next(batch))
    for (int64_t i = 0; i < batch.length; ++i) {
      row.clear();
      append_object(row, batch.columns, i);
      if (!take(row)) return;
    }
}

}  // namespace loraine
