// The parts of one file, mapped read-only one behind the other as if they were one, each from the beginning of a page on. Used by the GGUF
// reader.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

namespace loraine {

class MappedFiles {
 public:
  explicit MappedFiles(const std::vector<std::string>& paths);  // throws as MappedFile does
  ~MappedFiles();
  MappedFiles(const MappedFiles&) = delete;
  MappedFiles& operator=(const MappedFiles&) = delete;
  const unsigned char* data() const { return static_cast<const unsigned char*>(data_); }  // of the first; nullptr when all are empty
  size_t parts() const { return parts_.size(); }
  size_t start(size_t part) const { return parts_[part].start; }  // from data() on
  size_t size(size_t part) const { return parts_[part].size; }

 private:
  struct Part {
    size_t start = 0, size = 0;
    int guard = -1;
  };
  void let_go();
  void* data_ = nullptr;
  size_t reserved_ = 0;
  std::vector<Part> parts_;
};

}  // namespace loraine
