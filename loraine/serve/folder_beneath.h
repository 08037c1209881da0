// A folder that a client names, opened below the one folder that it may name: no way leads out of it. Used by adapters.cpp.
#pragma once
#include <string>

namespace loraine {

// An open folder; its path goes through the descriptor, so that what is read later is what was checked.
class FolderBeneath {
 public:
  // path: relative to root, of names joined by /. Opened name by name, no link is followed, in it and for the files of the folder itself.
  // Throws usage: an absolute path, "..", a link, no folder; io.
  FolderBeneath(const std::string& root, const std::string& path);
  ~FolderBeneath();
  FolderBeneath(const FolderBeneath&) = delete;
  FolderBeneath& operator=(const FolderBeneath&) = delete;
  const std::string& path() const { return path_; }  // "/proc/self/fd/7"

 private:
  int fd_ = -1;
  std::string path_;
};

}  // namespace loraine
