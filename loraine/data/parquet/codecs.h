// The compressions of Parquet pages. Called by column.cpp.
#pragma once
#include <cstddef>
#include <string>
#include <string_view>

namespace loraine::parquet {

// `packed`, which stands for `size` bytes, by the codec's number in the file: none, Snappy, gzip, zstd or raw LZ4. Throws bad_data: other
// codecs by name, bytes that are damaged or give another size.
std::string unpack(int codec, std::string_view packed, size_t size);

}  // namespace loraine::parquet
