// Arrow's IPC format, as `datasets` and pyarrow write it: a schema, then batches of rows, column by column. Called by read_rows.cpp (data
// files), and by prepared.cpp for data sets that are token ids already.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

enum class ArrowKind : uint8_t {
  null,
  integer,
  floating,
  boolean,
  text,        // UTF-8 or bytes
  list,        // of any length
  fixed_list,  // of list_size items
  structure,
  other,  // known to be there, not read: nothing says how its bytes lie
};

struct ArrowField {
  std::string name;
  ArrowKind kind = ArrowKind::other;
  int bits = 0;                          // of integers and floats
  bool is_signed = true, large = false;  // large: offsets of 64 bits
  int64_t list_size = 0;
  std::vector<ArrowField> children;
};

// A column of a batch: a view of the file, or of what was unpacked of it.
struct ArrowColumn {
  const ArrowField* field = nullptr;
  int64_t length = 0;
  std::string_view validity, offsets, data;  // validity: a bit per row; empty: none is null
  std::vector<ArrowColumn> children;

  bool is_null(int64_t row) const;
  // Items [first, second) of row `row` in the child, or bytes in `data` (text). Throws bad_data where they lie outside.
  std::pair<int64_t, int64_t> range(int64_t row) const;
  int64_t integer(int64_t row) const;  // an integer or a boolean
};

struct ArrowBatch {
  int64_t length = 0;
  std::vector<ArrowColumn> columns;
  std::vector<std::string> unpacked;  // what columns of a compressed batch are views of
};

// Reads the stream format and the file format. `bytes` outlives the reader and its batches. Throws bad_data, without the file's name, about
// bytes that are damaged, and about what is not read: dictionaries, other byte orders, LZ4.
class ArrowReader {
 public:
  explicit ArrowReader(std::string_view bytes);
  const std::vector<ArrowField>& fields() const { return fields_; }
  bool next(ArrowBatch& batch);  // false at the end

 private:
  struct Message;
  bool read_message(Message& message);
  std::string_view bytes_;
  size_t at_ = 0;
  bool ended_ = false;
  std::vector<ArrowField> fields_;
};

// Calls `take` with the text of each row as a JSON object, until it returns false. Bytes that are no text become one with a NUL.
void read_arrow(std::string_view file, const std::function<bool(const std::string&)>& take);

}  // namespace loraine
