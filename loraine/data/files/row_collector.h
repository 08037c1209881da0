// Gathers the rows of files, good and bad, for the readers of each kind of file; what becomes of a row is the owner's. Called by
// read_rows.cpp.
#pragma once
#include <simdjson.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/data/rows.h"

namespace loraine {

struct RowCollector {
  std::function<void(simdjson::dom::element, Row&)> use;  // a row's JSON object into the row; throws bad_data where it cannot be used
  std::optional<int64_t> limit;
  std::vector<Row> rows = {};
  std::shared_ptr<const std::string> file = {};  // whose rows are being read

  bool full() const { return limit && static_cast<int64_t>(rows.size()) >= *limit; }

  // A bad row stays, so that the numbers of the others stay too.
  template <class Fill>
  void add(int64_t line, int64_t number, const Fill& fill) {
    Row row;
    row.file = file;
    row.line = line;
    row.number = number;
    try {
      fill(row);
    } catch (const Error& e) {
      if (e.kind != ErrorKind::bad_data) throw Error(e.kind, row.place() + ": " + e.what(), e.hint);
      row.conversation = {};
      row.tokens.reset();
      row.dropped = e.what();
    }
    rows.push_back(std::move(row));
  }
};

}  // namespace loraine
