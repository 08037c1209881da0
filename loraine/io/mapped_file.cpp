// Read-only mapping of regular files.
#include "loraine/io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "loraine/core/error.h"

namespace loraine {

int open_regular_file(const std::string& path, size_t& size) {
  if (path.find('\0') != std::string::npos) throw Error(ErrorKind::bad_data, "a file name contains a NUL byte");
  // O_NONBLOCK: opening a FIFO without a writer returns at once, so that its type can be looked at.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw Error(ErrorKind::bad_data, path + ": no such file", "check the path");
    if (errno == ENXIO || errno == ENODEV) throw Error(ErrorKind::bad_data, path + ": not a regular file");
    throw Error(ErrorKind::io, path + ": cannot be opened: " + std::strerror(errno));
  }
  struct stat status {};
  if (::fstat(fd, &status) != 0) {
    std::string why = std::strerror(errno);
    ::close(fd);
    throw Error(ErrorKind::io, path + ": cannot be examined: " + why);
  }
  if (!S_ISREG(status.st_mode)) {
    ::close(fd);
    throw Error(ErrorKind::bad_data,
                path + ": " + (S_ISDIR(status.st_mode) ? "is a folder" : "is a pipe, socket or device") + ", expected a regular file");
  }
  size = static_cast<size_t>(status.st_size);
  return fd;
}

MappedFile::MappedFile(const std::string& path) {
  int fd = open_regular_file(path, size_);
  if (size_ > 0) {
    data_ = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data_ == MAP_FAILED) {
      std::string why = std::strerror(errno);
      data_ = nullptr;
      ::close(fd);
      throw Error(ErrorKind::io, path + ": cannot be mapped: " + why);
    }
  }
  ::close(fd);
}

MappedFile::~MappedFile() {
  if (data_) ::munmap(data_, size_);
}

}  // namespace loraine
