// The hidden folder .loraine-PID-N.staged, and .complete once its files are to be moved out.
#include "loraine/io/files/staged_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = ".loraine-", kStaged = ".staged", kComplete = ".complete", kLock = ".lock";

// Of a hidden folder, kept while it is open; -1 when another process has it. A file system without locks gives none either.
int lock_of(const std::string& path) {
  const int fd = ::open(fmt::format("{}/{}", path, kLock).c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0666);
  if (fd >= 0 && ::flock(fd, LOCK_EX | LOCK_NB) == 0) return fd;
  if (fd >= 0) ::close(fd);
  return -1;
}

// Files below `path` but its lock, relative to it; those that make a folder loadable come last.
std::vector<std::string> files_below(const std::string& path) {
  std::vector<std::string> files;
  for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path))
    if (!entry.is_directory()) files.push_back(entry.path().lexically_relative(path).string());
  std::erase(files, kLock);
  std::sort(files.begin(), files.end());
  std::stable_partition(files.begin(), files.end(), [](const std::string& name) { return !name.ends_with("config.json"); });
  return files;
}

// `moved` gets what is in place, as it gets there.
void move_out(const std::string& path, const std::string& folder, std::vector<std::string>& moved) {
  std::set<std::string> folders;
  for (const std::string& name : files_below(path)) {
    const std::string target = folder + "/" + name, parent = fs::path(target).parent_path().string();
    if (folders.insert(parent).second) make_folders(parent);
    fs::rename(path + "/" + name, target);
    moved.push_back(target);
  }
  for (const std::string& one : folders) sync_folder(one);
  fs::remove_all(path);
}

[[noreturn]] void io_error(const std::string& folder, const fs::filesystem_error& error) {
  throw Error(ErrorKind::io, folder + ": its files cannot be put in place: " + error.code().message(), "check free space and permissions");
}

}  // namespace

bool is_staged_name(std::string_view name) { return name.starts_with(kPrefix) && (name.ends_with(kStaged) || name.ends_with(kComplete)); }

void settle_staged_files(const std::string& folder) {
  std::error_code failed;
  std::vector<std::string> left;
  for (fs::directory_iterator it(folder, failed), end; !failed && it != end; it.increment(failed))
    if (is_staged_name(it->path().filename().string())) left.push_back(it->path().string());
  for (const std::string& path : left) {
    const int lock = lock_of(path);
    if (lock < 0) continue;
    try {
      std::vector<std::string> moved;
      if (path.ends_with(kComplete)) move_out(path, folder, moved);
      else fs::remove_all(path);
    } catch (const fs::filesystem_error& error) {
      ::close(lock);
      io_error(folder, error);
    }
    ::close(lock);
  }
}

StagedFiles::StagedFiles(const std::string& folder) : folder_(folder), made_(folder) {
  static std::atomic<unsigned> counter{0};
  std::error_code ignored;
  try {
    make_folders(folder);
    settle_staged_files(folder);
    do {
      path_ = fmt::format("{}/{}{}-{}{}", folder, kPrefix, ::getpid(), counter++, kStaged);
    } while (::mkdir(path_.c_str(), 0777) != 0 && errno == EEXIST);
    if (!fs::is_directory(path_, ignored))
      throw Error(ErrorKind::io, fmt::format("{}: nothing can be written into it: {}", folder, std::strerror(errno)),
                  "check free space and permissions");
  } catch (...) {
    discard();
    throw;
  }
  lock_ = lock_of(path_);
}

StagedFiles::~StagedFiles() {
  if (!path_.empty()) discard();
  if (lock_ >= 0) ::close(lock_);
}

void StagedFiles::discard() {
  std::error_code ignored;
  if (!path_.empty()) fs::remove_all(path_, ignored);
  made_.remove_empty();
}

void StagedFiles::commit() {
  if (path_.empty()) throw Error(ErrorKind::internal, folder_ + ": committed twice");
  std::vector<std::string> moved;
  try {
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(path_))
      if (entry.is_directory()) sync_folder(entry.path().string());
    const std::string complete = path_.substr(0, path_.size() - kStaged.size()) + std::string(kComplete);
    fs::rename(path_, complete);  // from here on a process that is killed leaves what the next one moves out
    path_ = complete;
    sync_folder(folder_);
    move_out(path_, folder_, moved);
  } catch (const std::exception& error) {
    std::error_code ignored;
    for (const std::string& path : moved) {
      fs::remove(path, ignored);
      for (fs::path at = fs::path(path).parent_path(); at != folder_ && ::rmdir(at.c_str()) == 0;) at = at.parent_path();
    }
    if (const auto* known = dynamic_cast<const fs::filesystem_error*>(&error)) io_error(folder_, *known);
    throw;
  }
  path_.clear();
}

}  // namespace loraine
