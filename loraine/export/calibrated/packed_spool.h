// Tensors that were computed once and are written later: they lie in a file of their own until then. Called by gptq_model and awq_model.
#pragma once
#include <cstdio>
#include <memory>
#include <string>
#include <vector>

#include "loraine/io/files/mapped_file.h"
#include "loraine/io/weight_files.h"

namespace loraine {

class PackedSpool {
 public:
  explicit PackedSpool(std::string path);
  ~PackedSpool();  // removes the file
  PackedSpool(const PackedSpool&) = delete;
  PackedSpool& operator=(const PackedSpool&) = delete;

  void add(SafetensorsEntry entry, const void* data);
  std::vector<WeightToWrite> weights();  // nothing is added after that; they refer to the spool

 private:
  struct Place {
    SafetensorsEntry entry;
    size_t at = 0, bytes = 0;
  };
  std::string path_;
  std::FILE* file_ = nullptr;
  size_t end_ = 0;
  std::vector<Place> places_;
  std::unique_ptr<MappedFile> mapped_;
};

}  // namespace loraine
