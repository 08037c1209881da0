// Thrift's compact protocol, in which Parquet writes its footer and the heads of its pages. Called by metadata.cpp and column.cpp.
#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

namespace loraine::parquet {

// A value of any kind; what is absent reads as 0, empty or false.
struct Thrift {
  int64_t number = 0;      // whole numbers, true and false
  std::string_view bytes;  // texts; views of what was read
  std::vector<Thrift> items;
  int field = 0;  // its number in the struct that it belongs to
  std::vector<Thrift> fields;

  const Thrift* find(int field) const;  // nullptr when absent
  const Thrift& at(int field) const;    // an empty value when absent
  bool has(int field) const { return find(field) != nullptr; }
};

// The struct that begins at `at`, which moves behind it. Throws bad_data: cut off, nested too deep, kinds that do not exist.
Thrift read_thrift(std::string_view bytes, size_t& at);

}  // namespace loraine::parquet
