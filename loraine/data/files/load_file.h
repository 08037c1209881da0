// The bytes of a data file, unpacked where it is compressed, and what kind of file it is by the ending of its name. Called by
// read_rows.cpp.
#pragma once
#include <memory>
#include <optional>
#include <string>
#include <string_view>

namespace loraine {

class MappedFile;

enum class FileKind : uint8_t { json, csv, tsv, text, parquet, arrow };
inline constexpr const char* kFileEndings = ".json, .jsonl, .csv, .tsv and .txt, each also with .gz or .zst behind it, .parquet and .arrow";

// By the ending, .gz and .zst aside; none where it is not one of kFileEndings.
std::optional<FileKind> file_kind(std::string_view path);

// The bytes of a data file. One that is not compressed is mapped: it may be larger than memory, and what has been read of it is let go of.
class LoadedFile {
 public:
  explicit LoadedFile(const std::string& path);  // throws io, or bad_data about a compressed file that is damaged or has more than 4 GiB
  ~LoadedFile();
  LoadedFile(const LoadedFile&) = delete;
  LoadedFile& operator=(const LoadedFile&) = delete;
  std::string_view text() const { return text_; }
  void release_before(const char* place);  // those before it are not read again soon
  void check() const;                      // throws bad_data where the file was cut while it was read

 private:
  std::unique_ptr<MappedFile> mapped_;
  std::string unpacked_;
  std::string_view text_;
  size_t released_ = 0;
};

}  // namespace loraine
