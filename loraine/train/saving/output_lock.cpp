// flock on a file that stays: who dies lets go of it.
#include "loraine/train/saving/output_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

[[noreturn]] void lock_error(const std::string& path, const std::string& what) {
  throw Error(ErrorKind::io, fmt::format("{}: {}", path, what), "check free space and permissions");
}

}  // namespace

OutputLock::OutputLock(const std::string& output_dir) {
  const std::string path = output_dir + "/.loraine.lock";
  struct stat ours {
  }, there{};
  for (;;) {
    make_folders(output_dir);
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK, 0644);
    if (fd_ < 0) {
      if (errno == ENOENT) continue;  // a run that made the folder has just taken it away
      lock_error(path, std::strerror(errno));
    }
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) {
      char text[32] = {};
      const ssize_t size = ::pread(fd_, text, sizeof text - 1, 0);
      std::string holder(text, size > 0 ? static_cast<size_t>(size) : 0);
      holder.erase(std::remove_if(holder.begin(), holder.end(), [](char c) { return c < '0' || c > '9'; }), holder.end());
      ::close(fd_);
      fd_ = -1;
      throw Error(ErrorKind::usage,
                  fmt::format("output_dir {}: process {} is writing to it and holds the lock {}", output_dir,
                              holder.empty() ? "(unknown)" : holder, path),
                  "wait for it or choose another output_dir");
    }
    if (::fstat(fd_, &ours) != 0 || (::stat(path.c_str(), &there) == 0 && ours.st_ino == there.st_ino && ours.st_dev == there.st_dev))
      break;
    ::close(fd_);  // of a folder that was taken away between the two
  }
  // A file system without locks (some network ones) cannot be guarded; the run goes on without.
  const std::string pid = std::to_string(::getpid()) + "\n";
  if (::ftruncate(fd_, 0) != 0 || ::pwrite(fd_, pid.data(), pid.size(), 0) != static_cast<ssize_t>(pid.size())) {
    const int code = errno;
    ::close(fd_);
    fd_ = -1;
    lock_error(path, std::strerror(code));
  }
}

OutputLock::~OutputLock() {
  // The file stays: removing it would let two processes hold locks on two files of one name.
  if (fd_ >= 0) ::close(fd_);
}

}  // namespace loraine
