// Flatbuffers: tables read with every offset checked, and a builder of them. Used by the files of data/arrow only.
#pragma once
#include <cstdint>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/core/error.h"

namespace loraine {

[[noreturn]] inline void bad_arrow(const std::string& what) { throw Error(ErrorKind::bad_data, "not sound Arrow data: " + what); }

// A view of one table inside a buffer that outlives it. Every function throws bad_data where the buffer does not hold what it says.
class FlatTable {
 public:
  static FlatTable root(std::string_view buffer) { return FlatTable(buffer, offset_at(buffer, 0)); }

  template <class T>
  T scalar(int field, T standard) const {
    const size_t at = place(field);
    return at == 0 ? standard : load<T>(buffer_, at);
  }
  bool has(int field) const { return place(field) != 0; }
  FlatTable table(int field) const { return FlatTable(buffer_, target(field)); }
  std::string_view text(int field) const {
    if (!has(field)) return {};
    return elements(target(field), 1, nullptr);
  }
  // Elements of a vector of structs or scalars: their bytes.
  std::string_view vector(int field, size_t element, size_t* count) const {
    *count = 0;
    return has(field) ? elements(target(field), element, count) : std::string_view();
  }
  std::vector<FlatTable> tables(int field) const {
    size_t count = 0;
    const std::string_view offsets = vector(field, 4, &count);
    std::vector<FlatTable> all;
    for (size_t i = 0; i < count; ++i) {
      const size_t at = static_cast<size_t>(offsets.data() - buffer_.data()) + 4 * i;
      all.push_back(FlatTable(buffer_, offset_at(buffer_, at)));
    }
    return all;
  }

 private:
  FlatTable(std::string_view buffer, size_t table) : buffer_(buffer), table_(table) {
    const int64_t entries = static_cast<int64_t>(table) - load<int32_t>(buffer, table);
    if (entries < 0 || entries > static_cast<int64_t>(buffer.size())) bad_arrow("a table's entries lie outside of its message");
    entries_ = static_cast<size_t>(entries);
    entries_size_ = load<uint16_t>(buffer, entries_);
    if (entries_size_ < 4 || entries_ + entries_size_ > buffer.size()) bad_arrow("a table's entries are cut off");
  }
  template <class T>
  static T load(std::string_view buffer, size_t at) {
    if (at > buffer.size() || buffer.size() - at < sizeof(T)) bad_arrow("its message ends too early");
    T value;
    std::memcpy(&value, buffer.data() + at, sizeof(T));
    return value;
  }
  static size_t offset_at(std::string_view buffer, size_t at) { return at + load<uint32_t>(buffer, at); }
  size_t place(int field) const {  // 0: absent
    const size_t entry = 4 + 2 * static_cast<size_t>(field);
    if (entry + 2 > entries_size_) return 0;
    const uint16_t offset = load<uint16_t>(buffer_, entries_ + entry);
    return offset == 0 ? 0 : table_ + offset;
  }
  size_t target(int field) const {
    const size_t at = place(field);
    if (at == 0) bad_arrow("a field that must be there is absent");
    return offset_at(buffer_, at);
  }
  std::string_view elements(size_t at, size_t element, size_t* count) const {
    const size_t n = load<uint32_t>(buffer_, at);
    if (n > (buffer_.size() - at - 4) / element) bad_arrow("a list is longer than its message");
    if (count) *count = n;
    return buffer_.substr(at + 4, n * element);
  }

  std::string_view buffer_;
  size_t table_, entries_ = 0, entries_size_ = 0;
};

// Builds a buffer from its end to its beginning. A place is the distance from the end.
class FlatBuilder {
 public:
  uint32_t text(std::string_view value) {
    align(4, value.size() + 1);
    prepend("", 1);
    prepend(value.data(), value.size());
    return count(value.size());
  }
  // Elements one after another, aligned to `alignment`.
  uint32_t vector(std::string_view bytes, size_t elements, size_t alignment) {
    align(4, bytes.size());
    align(alignment, bytes.size());
    prepend(bytes.data(), bytes.size());
    return count(elements);
  }
  uint32_t offsets(const std::vector<uint32_t>& places) {
    align(4, 4 * places.size());
    for (size_t i = places.size(); i-- > 0;) offset(places[i]);
    return count(places.size());
  }

  void begin_table(size_t fields) {
    fields_.assign(fields, 0);
    table_end_ = size();
  }
  template <class T>
  void scalar(size_t field, T value) {
    align(sizeof(T), 0);
    align(sizeof(T), sizeof(T));
    prepend(&value, sizeof(T));
    fields_[field] = size();
  }
  void link(size_t field, uint32_t place) {
    align(4, 0);
    offset(place);
    fields_[field] = size();
  }
  uint32_t end_table() {
    align(4, 0);
    const int32_t distance = static_cast<int32_t>(4 + 2 * fields_.size());  // the entries lie before the table
    prepend(&distance, 4);
    const uint32_t table = size();
    for (size_t i = fields_.size(); i-- > 0;) {
      const auto entry = static_cast<uint16_t>(fields_[i] ? table - fields_[i] : 0);
      prepend(&entry, 2);
    }
    const auto table_size = static_cast<uint16_t>(table - table_end_);
    prepend(&table_size, 2);
    const auto entries_size = static_cast<uint16_t>(distance);
    prepend(&entries_size, 2);
    return table;
  }
  std::string finish(uint32_t root) {
    align(8, 4);
    offset(root);
    std::string out(bytes_.rbegin(), bytes_.rend());
    return out;
  }

 private:
  uint32_t size() const { return static_cast<uint32_t>(bytes_.size()); }
  // Pads so that, once `more` bytes are prepended, what begins there is aligned.
  void align(size_t to, size_t more) {
    while ((bytes_.size() + more) % to) bytes_.push_back('\0');
  }
  void prepend(const void* data, size_t n) {
    for (size_t i = n; i-- > 0;) bytes_.push_back(static_cast<const char*>(data)[i]);
  }
  void offset(uint32_t place) {
    const uint32_t distance = size() + 4 - place;
    prepend(&distance, 4);
  }
  uint32_t count(size_t elements) {
    const auto n = static_cast<uint32_t>(elements);
    prepend(&n, 4);
    return size();
  }

  std::string bytes_;  // in reverse
  std::vector<uint32_t> fields_;
  uint32_t table_end_ = 0;
};

}  // namespace loraine
