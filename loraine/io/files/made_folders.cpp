// Looks up the path from its end to what is there.
#include "loraine/io/files/made_folders.h"

#include <unistd.h>

#include <filesystem>

namespace loraine {

MadeFolders::MadeFolders(const std::string& path) {
  namespace fs = std::filesystem;
  std::error_code ignored;
  for (fs::path at = path; !at.empty() && !fs::exists(at, ignored); at = at.parent_path())
    if (at.has_filename()) made_.push_back(at.string());
  last_ = !made_.empty();
}

void MadeFolders::remove_empty() const {
  for (const std::string& path : made_) ::rmdir(path.c_str());
}

}  // namespace loraine
