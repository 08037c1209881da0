// Files that appear under their final name only when complete: temporary name beside it, write, fsync, rename, fsync of the folder.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace loraine {

class DurableFile {
 public:
  explicit DurableFile(const std::string& path);  // throws Error::io naming the path
  ~DurableFile();                                 // without commit() the temporary file is removed
  DurableFile(const DurableFile&) = delete;
  DurableFile& operator=(const DurableFile&) = delete;
  void write(const void* data, size_t bytes);
  void commit();

 private:
  void begin_writeback();

  std::string path_, temporary_;
  int fd_ = -1;
  int64_t written_ = 0, asked_ = 0;  // bytes written, and those that the disk has been asked to take
};

bool is_temporary_name(std::string_view name);  // what a killed process may have left of a DurableFile: NAME.tmp-PID-N

void write_file(const std::string& path, std::string_view content);  // durable
std::string read_file(const std::string& path,
                      uint64_t limit = 1ull << 32);  // regular files only; bad_data (absent, a folder, too large) or io
void make_folders(const std::string& path);          // mkdir -p; Error::io
void sync_folder(const std::string& path);           // makes renames in it durable; Error::io

}  // namespace loraine
