// A folder in memory that holds the input under fuzz: readers take paths. Used by every target whose reader opens a file.
#pragma once

#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <filesystem>
#include <fstream>
#include <string>

#include "loraine/core/error.h"

namespace loraine {

class InputFolder {
 public:
  InputFolder() {
    std::string pattern = std::filesystem::exists("/dev/shm") ? "/dev/shm/loraine_fuzz_XXXXXX" : "/tmp/loraine_fuzz_XXXXXX";
    if (!mkdtemp(pattern.data())) std::abort();
    path_ = pattern;
  }
  ~InputFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  std::string write(const std::string& name, const uint8_t* data, size_t size) const {
    std::string file = path_ + "/" + name;
    std::ofstream(file, std::ios::binary | std::ios::trunc).write(reinterpret_cast<const char*>(data), static_cast<std::streamsize>(size));
    return file;
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

// A refusal is an Error that says what is wrong; every other way out of a reader is a find, Error::internal too.
template <class Read>
void expect_value_or_refusal(const Read& read) {
  try {
    read();
  } catch (const Error& e) {
    if (e.kind == ErrorKind::internal || std::string(e.what()).empty()) {
      std::fprintf(stderr, "internal error: %s\n", e.what());
      std::abort();
    }
  }
}

}  // namespace loraine
