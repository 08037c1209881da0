// Complete-or-absent files: temporary name, fsync, rename, fsync of the folder.
#include "loraine/io/files/durable_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <system_error>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

[[noreturn]] void fail(const std::string& path, const char* what) {
  int code = errno;
  throw Error(ErrorKind::io, path + ": " + what + ": " + std::strerror(code),
              code == ENOSPC || code == EDQUOT ? "free some disk space and run again" : "");
}

std::string folder_of(const std::string& path) {
  size_t slash = path.rfind('/');
  if (slash == std::string::npos) return ".";
  return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

DurableFile::DurableFile(const std::string& path) : path_(path) {
  static std::atomic<unsigned> counter{0};
  if (path.empty()) throw Error(ErrorKind::io, "cannot write a file with an empty name");
  for (int attempt = 0; attempt < 100; ++attempt) {
    temporary_ = path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
    fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    if (fd_ >= 0) return;
    if (errno != EEXIST) break;
  }
  fail(path, "cannot be created");
}

DurableFile::~DurableFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

void DurableFile::write(const void* data, size_t bytes) {
  if (fd_ < 0) throw Error(ErrorKind::internal, path_ + ": write after commit");
  const char* at = static_cast<const char*>(data);
  while (bytes > 0) {
    ssize_t written = ::write(fd_, at, bytes < (1u << 30) ? bytes : (1u << 30));
    if (written < 0) {
      if (errno == EINTR) continue;
      fail(path_, "cannot be written");
    }
    at += written;
    bytes -= static_cast<size_t>(written);
    written_ += written;
  }
  begin_writeback();
}

// The disk starts on what is there while more is computed, so that commit has less to wait for. A hint: what fails here fails there too.
void DurableFile::begin_writeback() {
#ifdef __linux__
  constexpr int64_t kPiece = 16 << 20;
  if (written_ - asked_ < kPiece) return;
  ::sync_file_range(fd_, asked_, written_ - asked_, SYNC_FILE_RANGE_WRITE);
  asked_ = written_;
#endif
}

void DurableFile::commit() {
  if (fd_ < 0) throw Error(ErrorKind::internal, path_ + ": committed twice");
  if (::fsync(fd_) != 0) fail(path_, "cannot be synced to disk");
  if (::rename(temporary_.c_str(), path_.c_str()) != 0) fail(path_, "cannot be put in place");
  int fd = fd_;
  fd_ = -1;
  if (::close(fd) != 0) fail(path_, "cannot be closed");
  sync_folder(folder_of(path_));
}

bool is_temporary_name(std::string_view name) {
  constexpr std::string_view mark = ".tmp-", digits = "0123456789";
  const size_t at = name.rfind(mark);
  if (at == std::string_view::npos || at == 0) return false;
  const std::string_view numbers = name.substr(at + mark.size());
  const size_t dash = numbers.find('-');
  return dash != std::string_view::npos && dash > 0 && dash + 1 < numbers.size() && numbers.find_first_not_of(digits) == dash &&
         numbers.find_first_not_of(digits, dash + 1) == std::string_view::npos;
}

void write_file(const std::string& path, std::string_view content) {
  DurableFile file(path);
  file.write(content.data(), content.size());
  file.commit();
}

std::string read_file(const std::string& path, uint64_t limit) {
  size_t size = 0;
  int fd = open_regular_file(path, size);
  std::string content;
  try {
    if (size > limit)
      throw Error(ErrorKind::bad_data, path + ": has " + std::to_string(size) + " bytes, expected at most " + std::to_string(limit) +
                                           " for a file of this kind");
    content.resize(size);
    size_t have = 0;
    while (have < size) {
      ssize_t got = ::read(fd, content.data() + have, size - have);
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) fail(path, "cannot be read");
      if (got == 0) break;  // shortened meanwhile
      have += static_cast<size_t>(got);
    }
    content.resize(have);
  } catch (...) {
    ::close(fd);
    throw;
  }
  ::close(fd);
  return content;
}

void make_folders(const std::string& path) {
  std::error_code code;
  std::filesystem::create_directories(path, code);
  if (code) throw Error(ErrorKind::io, path + ": folder cannot be made: " + code.message());
  if (!std::filesystem::is_directory(path, code)) throw Error(ErrorKind::io, path + ": exists and is not a folder");
}

void sync_folder(const std::string& folder) {
  int fd = ::open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (fd < 0) fail(folder, "cannot be opened to make a rename durable");
  // Some network file systems cannot sync a folder and say EINVAL; the rename is then as durable as they make it.
  if (::fsync(fd) != 0 && errno != EINVAL) {
    int code = errno;
    ::close(fd);
    errno = code;
    fail(folder, "cannot be synced");
  }
  ::close(fd);
}

}  // namespace loraine
