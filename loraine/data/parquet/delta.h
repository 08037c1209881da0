// The DELTA encodings, which writers of the second page version use. Called by column.cpp.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace loraine::parquet {

// DELTA_BINARY_PACKED: `count` whole numbers; `at` moves behind them. Throws bad_data where the bytes end early or hold another count.
std::vector<int64_t> read_delta(std::string_view bytes, size_t& at, int64_t count);

// DELTA_LENGTH_BYTE_ARRAY: the texts, views of `bytes`.
std::vector<std::string_view> read_delta_lengths(std::string_view bytes, int64_t count);

// DELTA_BYTE_ARRAY: texts that begin as the one before does; end to end in `all`, with their lengths.
struct PrefixedTexts {
  std::string all;
  std::vector<size_t> lengths;
};
PrefixedTexts read_delta_prefixes(std::string_view bytes, int64_t count);

}  // namespace loraine::parquet
