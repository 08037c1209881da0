// See folder_beneath.h.
#include "loraine/serve/folder_beneath.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

Error refused(const std::string& path, const std::string& why) {
  return Error(ErrorKind::usage, fmt::format("the path {} {}", in_quotes(path), why),
               "give the path of an adapter's folder within adapter_dir, such as \"name\" or \"group/name\"");
}

// Whatever a later open by name would follow out of the folder.
void refuse_links_inside(int fd, const std::string& path) {
  const int copy = ::dup(fd);
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(copy < 0 ? nullptr : ::fdopendir(copy), ::closedir);
  if (!folder) {
    if (copy >= 0) ::close(copy);
    throw Error(ErrorKind::io, fmt::format("the folder {} cannot be listed: {}", in_quotes(path), std::strerror(errno)));
  }
  while (const dirent* entry = ::readdir(folder.get())) {
    struct stat there {};
    if (::fstatat(fd, entry->d_name, &there, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(there.st_mode))
      throw refused(path, fmt::format("holds the link {}, and links are not followed here", in_quotes(entry->d_name)));
  }
}

}  // namespace

FolderBeneath::FolderBeneath(const std::string& root, const std::string& path) {
  if (path.empty() || path.size() > 4096 || path.find('\0') != path.npos) throw refused(path, "is empty, too long, or holds a zero byte");
  if (path[0] == '/') throw refused(path, "is absolute");
  int at = ::open(root.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (at < 0) throw Error(ErrorKind::io, fmt::format("adapter_dir {} cannot be opened: {}", root, std::strerror(errno)));
  for (size_t begin = 0; begin <= path.size();) {
    const size_t slash = std::min(path.find('/', begin), path.size());
    const std::string name = path.substr(begin, slash - begin);
    begin = slash + 1;
    if (name.empty() || name == ".") continue;
    const int next = name == ".." ? -1 : ::openat(at, name.c_str(), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    const int error = errno;
    ::close(at);
    if (name == "..") throw refused(path, "holds ..");
    if (next < 0)
      throw refused(path, error == ELOOP || error == ENOTDIR ? "leads over a link, or to something that is no folder"
                                                             : fmt::format("cannot be opened: {}", std::strerror(error)));
    at = next;
  }
  fd_ = at;
  path_ = fmt::format("/proc/self/fd/{}", fd_);
  try {
    refuse_links_inside(fd_, path);
  } catch (...) {
    ::close(fd_);
    throw;
  }
}

FolderBeneath::~FolderBeneath() {
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace loraine
