// The footer of a Parquet file: what its rows are made of and where their columns lie. Called by parquet.cpp and column.cpp.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loraine::parquet {

enum class Physical : uint8_t { boolean, int32, int64, int96, float32, float64, bytes, fixed_bytes };

// A field of a row. A leaf holds values of one column; a group holds fields; a list's repeated field is its one child.
struct Field {
  std::string name;
  bool optional = false, repeated = false;
  bool list = false;                   // LIST or MAP: its one child is repeated, and written as a JSON list
  int definition = 0, repetition = 0;  // levels at and above which this field is there
  std::vector<Field> children;         // empty: a leaf
  int column = -1;                     // first leaf in or at it, counted through the file
  int columns = 0;                     // leaves in or at it
  Physical physical = Physical::boolean;
  int64_t width = 0;         // of fixed_bytes
  bool is_unsigned = false;  // whole numbers
};

struct Chunk {  // one column of one row group
  uint64_t offset = 0, bytes = 0;
  int64_t values = 0;  // nulls included
  int codec = 0;
};
struct RowGroup {
  int64_t rows = 0;
  std::vector<Chunk> chunks;  // in the order of the leaves
};

struct Metadata {
  Field root;
  std::vector<const Field*> leaves;
  std::vector<RowGroup> groups;
};

// Throws bad_data: what is not a Parquet file, encrypted, or does not fit its own bytes. `metadata` must stay where it is.
void read_metadata(std::string_view file, Metadata& metadata);

}  // namespace loraine::parquet
