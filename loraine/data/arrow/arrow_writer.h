// Writes columns of token ids as an Arrow stream, as `datasets` keeps them. Called by prepared.cpp.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace loraine {

enum class ArrowType : uint8_t { null, boolean, int8_list, int32_list, int64_list };

struct ArrowWriteColumn {
  std::string name;
  ArrowType type = ArrowType::null;
};

// `write` takes the bytes in their order. One batch holds the rows since the last flush.
class ArrowWriter {
 public:
  // metadata: what the schema says under the key `huggingface`; JSON text.
  ArrowWriter(std::vector<ArrowWriteColumn> columns, const std::string& metadata, std::function<void(std::string_view)> write);
  // The next row of column `i`; each row gives one value to each column that is not null.
  void add(size_t i, std::span<const int32_t> list);
  void add(size_t i, bool value);
  void end_row();
  void finish();  // the last batch and the mark of the end

 private:
  void flush();
  struct Values {
    std::string bytes;             // items of lists one after another, or bits
    std::vector<int32_t> offsets;  // of lists: where each row ends
    int64_t count = 0;             // booleans so far
  };
  std::vector<ArrowWriteColumn> columns_;
  std::vector<Values> values_;
  std::function<void(std::string_view)> write_;
  int64_t rows_ = 0;
};

}  // namespace loraine
