// Read-only mapping of regular files.
#include "loraine/io/files/mapped_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <mutex>

#include "loraine/core/error.h"
#include "loraine/core/missing_file.h"
#include "loraine/core/signals.h"
#include "loraine/io/files/mapped_files.h"

namespace loraine {
namespace {

// What the signal handler may look at: fixed places, written before `data` is published and never moved.
struct Guard {
  std::atomic<char*> data{nullptr};
  std::atomic<size_t> size{0};
  std::atomic<bool> cut{false};
  std::string path;
};
constexpr int kGuards = 1024;  // mapped files at a time; a model has at most some hundred shards
Guard guards[kGuards];
std::atomic<int> cut_files{0};
std::mutex guards_mutex;
struct sigaction previous_action;

// Puts zeros in place of the pages from the faulting one to the mapping's end. Only async-signal-safe calls (mmap is a plain system call).
void on_bus_error(int signal, siginfo_t* info, void* context) {
  auto address = reinterpret_cast<uintptr_t>(info->si_addr);
  for (Guard& guard : guards) {
    auto begin = reinterpret_cast<uintptr_t>(guard.data.load());
    size_t size = guard.size.load();
    if (!begin || address < begin || address >= begin + size) continue;
    auto page_size = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
    uintptr_t page = address / page_size * page_size;
    void* zeros = ::mmap(reinterpret_cast<void*>(page), begin + size - page, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    if (zeros == MAP_FAILED) break;
    if (!guard.cut.exchange(true)) ++cut_files;
    return;
  }
  if (previous_action.sa_flags & SA_SIGINFO) return previous_action.sa_sigaction(signal, info, context);
  if (previous_action.sa_handler != SIG_DFL && previous_action.sa_handler != SIG_IGN) return previous_action.sa_handler(signal);
  ::signal(SIGBUS, SIG_DFL);  // not ours: the access is repeated and ends the program as it would have without us
}

int guard_mapping(void* data, size_t size, const std::string& path) {
  const std::lock_guard lock(guards_mutex);
  static bool installed = false;
  if (!installed) {
    struct sigaction action {};
    action.sa_sigaction = on_bus_error;
    action.sa_flags = SA_SIGINFO | SA_NODEFER | SA_ONSTACK;
    ::sigaction(SIGBUS, &action, &previous_action);
    installed = true;
  }
  for (int i = 0; i < kGuards; ++i) {
    Guard& guard = guards[i];
    if (guard.data.load()) continue;
    guard.path = path;
    guard.cut = false;
    guard.size = size;
    guard.data = static_cast<char*>(data);
    return i;
  }
  throw Error(ErrorKind::unsupported, path + ": more than " + std::to_string(kGuards) + " files are mapped",
              "cut the model into fewer shards");
}

void release_guard(int place) {
  const std::lock_guard lock(guards_mutex);
  guards[place].data = nullptr;
  if (guards[place].cut.exchange(false)) --cut_files;
}

}  // namespace

void check_mapped_files() {
  if (cut_files.load() == 0) return;
  const std::lock_guard lock(guards_mutex);
  for (Guard& guard : guards)
    if (guard.data.load() && guard.cut.load())
      throw Error(ErrorKind::bad_data, guard.path + ": became shorter while it was in use; parts of it could not be read",
                  "put the whole file back, and write over model files only by renaming a new one onto them");
}

int open_regular_file(const std::string& path, size_t& size) {
  if (path.find('\0') != std::string::npos) throw Error(ErrorKind::bad_data, "a file name contains a NUL byte");
  // O_NONBLOCK: opening a FIFO without a writer returns at once, so that its type can be looked at.
  int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
  if (fd < 0) {
    if (errno == ENOENT || errno == ENOTDIR) throw MissingFile(path + ": no such file", "check the path");
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
  if (!data_) return;
  have_signal_stack();
  try {
    guard_ = guard_mapping(data_, size_, path);
  } catch (...) {
    ::munmap(data_, size_);
    throw;
  }
}

MappedFile::~MappedFile() {
  if (!data_) return;
  release_guard(guard_);
  ::munmap(data_, size_);
}

MappedFiles::MappedFiles(const std::vector<std::string>& paths) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  std::vector<int> opened;
  const auto close_all = [&] {
    for (const int fd : opened) ::close(fd);
  };
  const auto fail = [&](const std::string& path) {
    const std::string why = std::strerror(errno);
    close_all();
    let_go();
    throw Error(ErrorKind::io, path + ": cannot be mapped: " + why);
  };
  try {
    for (const std::string& path : paths) {
      Part part{reserved_, 0, -1};
      opened.push_back(open_regular_file(path, part.size));
      reserved_ += (part.size + page - 1) / page * page;
      parts_.push_back(part);
    }
  } catch (...) {
    close_all();
    throw;
  }
  if (reserved_ > 0) {
    data_ = ::mmap(nullptr, reserved_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (data_ == MAP_FAILED) {
      data_ = nullptr;
      fail(paths.front());
    }
    have_signal_stack();
  }
  for (size_t i = 0; i < parts_.size(); ++i) {
    Part& part = parts_[i];
    if (part.size == 0) continue;
    char* const place = static_cast<char*>(data_) + part.start;
    if (::mmap(place, part.size, PROT_READ, MAP_PRIVATE | MAP_FIXED, opened[i], 0) == MAP_FAILED) fail(paths[i]);
    try {
      part.guard = guard_mapping(place, part.size, paths[i]);
    } catch (...) {
      close_all();
      let_go();
      throw;
    }
  }
  close_all();
}

MappedFiles::~MappedFiles() { let_go(); }

void MappedFiles::let_go() {
  for (const Part& part : parts_)
    if (part.guard >= 0) release_guard(part.guard);
  if (data_) ::munmap(data_, reserved_);
  data_ = nullptr;
}

void read_ahead(const void* data, size_t bytes) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), first = reinterpret_cast<uintptr_t>(data),
                  begin = first / page * page;
  madvise(reinterpret_cast<void*>(begin), first + bytes - begin, MADV_WILLNEED);  // advice: without it the pages come when they are touched
}

void release_pages(const void* data, size_t bytes) {
  const uintptr_t page = static_cast<uintptr_t>(sysconf(_SC_PAGESIZE)), first = reinterpret_cast<uintptr_t>(data);
  const uintptr_t begin = (first + page - 1) / page * page, end = (first + bytes) / page * page;
  if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, MADV_DONTNEED);
}

void release_if_mapped(const void* data, size_t bytes) {
  const std::lock_guard lock(guards_mutex);
  const auto first = reinterpret_cast<uintptr_t>(data);
  for (const Guard& guard : guards) {
    const auto begin = reinterpret_cast<uintptr_t>(guard.data.load());
    if (begin && first >= begin && first + bytes <= begin + guard.size.load()) return release_pages(data, bytes);
  }
}

}  // namespace loraine
