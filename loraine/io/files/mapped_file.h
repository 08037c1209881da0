// A regular file mapped read-only. Used by the safetensors and GGUF readers; FIFOs, folders and devices are refused without waiting on
// them.
#pragma once
#include <cstddef>
#include <string>

namespace loraine {

class MappedFile {
 public:
  explicit MappedFile(const std::string& path);  // throws bad_data (absent, not a regular file) or io
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  const unsigned char* data() const { return static_cast<const unsigned char*>(data_); }  // nullptr when the file is empty
  size_t size() const { return size_; }

 private:
  void* data_ = nullptr;
  size_t size_ = 0;
  int guard_ = -1;  // its place in the list of guarded mappings
};

// A file that someone cuts while it is mapped would end the program with SIGBUS. Its missing pages read as zeros instead, and this function
// throws bad_data naming the file: call it after reading weights and before anything computed from them is kept. Costs a few loads.
void check_mapped_files();

// The pages of a mapping that [data, data + bytes) fills: what is not read again soon stops counting as this process's memory, and is read
// from the file if it is. Nothing but mappings of files may be given.
void release_pages(const void* data, size_t bytes);

// Begins to read what of a mapping is not in memory, all at once and without waiting. Nothing but mappings of files may be given.
void read_ahead(const void* data, size_t bytes);

// The same as release_pages for memory of any kind: nothing happens where it is not a mapping of a file.
void release_if_mapped(const void* data, size_t bytes);

// Opens a regular file for reading and gives its size; never blocks on a FIFO. The caller closes the descriptor.
int open_regular_file(const std::string& path, size_t& size);

}  // namespace loraine
