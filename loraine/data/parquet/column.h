// One column of one row group: its values with their levels. Called by parquet.cpp.
#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "loraine/data/parquet/metadata.h"

namespace loraine::parquet {

union Number {
  int64_t whole;
  double real;
};

struct Column {
  std::vector<uint8_t> definitions, repetitions;          // a level each per value; empty where all are 0
  std::vector<Number> numbers;                            // those that are there, of booleans and numbers
  std::vector<std::string_view> texts;                    // of bytes
  std::vector<std::unique_ptr<const std::string>> pages;  // what the texts lie in; they stay in place when the column is moved
  int64_t values = 0;                                     // nulls included
};

// Throws bad_data about pages that do not fit what is said of them, and encodings that are not read (PLAIN, RLE, dictionaries and
// differences are), by name.
Column read_column(std::string_view file, const Chunk& chunk, const Field& leaf);

}  // namespace loraine::parquet
