// The two hashes by which hubs name the content of files: SHA-256 of large ones, git's SHA-1 of small ones. Called by downloads and
// uploads.
#pragma once
#include <cstdint>
#include <memory>
#include <string>

namespace loraine {

class Hash {
 public:
  static Hash sha256();
  static Hash git_sha1(uint64_t size);  // of a blob of so many bytes, as git computes it
  Hash(Hash&&) noexcept;
  Hash& operator=(Hash&&) noexcept;
  ~Hash();
  void add(const void* data, size_t bytes);
  std::string hex();  // ends it

 private:
  struct State;
  explicit Hash(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

// Errors as of open_regular_file.
std::string sha256_of_file(const std::string& path);
std::string git_sha1_of_file(const std::string& path);
std::string base64(const std::string& bytes);

}  // namespace loraine
