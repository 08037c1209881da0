// The bytes of a data file, unpacked where it is compressed, and what kind of file it is by the ending of its name. Called by
// read_rows.cpp.
#pragma once
#include <simdjson.h>

#include <optional>
#include <string>
#include <string_view>

namespace loraine {

enum class FileKind : uint8_t { json, csv, tsv, text, parquet, arrow };
inline constexpr const char* kFileEndings = ".json, .jsonl, .csv, .tsv and .txt, each also with .gz or .zst behind it, .parquet and .arrow";

// By the ending, .gz and .zst aside; none where it is not one of kFileEndings.
std::optional<FileKind> file_kind(std::string_view path);

// All bytes, with the padding that simdjson wants; at most 4 GiB once unpacked. Throws io, or bad_data about a compressed file that is
// damaged.
simdjson::padded_string load_file(const std::string& path);

}  // namespace loraine
