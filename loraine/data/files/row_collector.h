// Hands on the rows of files, good and bad, for the readers of each kind of file; what becomes of a row is the owner's. Called by
// read_rows.cpp.
#pragma once
#include <simdjson.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/data/rows/rows.h"

namespace loraine {

struct RowCollector {
  std::function<void(simdjson::dom::element, Row&)> use;  // a row's JSON object into the row; throws bad_data where it cannot be used
  std::function<bool(Row&&)> take;                        // each row, in their order; false: no more of them
  std::optional<int64_t> limit;
  std::shared_ptr<const std::string> file = {};  // whose rows are being read
  std::function<void(const char*)> passed = {};  // may be absent: everything before this place has been read
  int64_t count = 0;
  bool stopped = false;

  bool full() const { return stopped || (limit && count >= *limit); }

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
    ++count;
    stopped = !take(std::move(row));
  }
  // A row as the text of a JSON object, which the reader of a file has put together; a bad one where its texts are no UTF-8.
  void add_text(int64_t line, int64_t number, const std::string& json) {
    add(line, number, [&](Row& row) {
      simdjson::dom::element element;
      const auto code = parser.parse(json).get(element);
      if (code == simdjson::UTF8_ERROR)
        throw Error(ErrorKind::bad_data,
                    "not UTF-8; save the file as UTF-8 (a spreadsheet as \"CSV UTF-8\": plain CSV is GBK or Latin-1 there)");
      if (code) throw Error(ErrorKind::bad_data, std::string("cannot be read: ") + simdjson::error_message(code));
      use(element, row);
    });
  }
  simdjson::dom::parser parser{};
};

}  // namespace loraine
