// See example_store.h.
#include "loraine/data/examples/example_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <mutex>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/io/files/mapped_file.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr size_t kWindow = size_t{2} << 20;  // bytes that the kernel may map around one that is read

// A file of this folder that no name leads to; -1 with errno.
int open_nameless(const std::string& folder) {
  const int fd = ::open(folder.c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
  if (fd >= 0 || (errno != EOPNOTSUPP && errno != EISDIR && errno != EINVAL)) return fd;
  std::string name = folder + "/.loraine-ids-XXXXXX";
  const int named = ::mkostemp(name.data(), O_CLOEXEC);
  if (named >= 0) ::unlink(name.c_str());
  return named;
}

std::string nearest_folder(const std::string& path) {
  std::error_code failed;
  fs::path folder = fs::absolute(path, failed);
  while (!fs::is_directory(folder, failed) && folder.has_relative_path()) folder = folder.parent_path();
  return folder.string();
}

}  // namespace

class IdFile : public std::enable_shared_from_this<IdFile> {
 public:
  IdFile(const std::string& folder, size_t resident) : resident_(resident) {
    std::vector<std::string> folders;
    if (!folder.empty()) folders.push_back(nearest_folder(folder));
    if (const char* named = std::getenv("TMPDIR"); named && *named) folders.emplace_back(named);
    for (const char* usual : {"/var/tmp", "/tmp"}) folders.emplace_back(usual);
    int why = 0;
    for (const std::string& one : folders) {
      if ((fd_ = open_nameless(one)) >= 0) {
        folder_ = one;
        return;
      }
      if (why == 0) why = errno;
    }
    throw Error(ErrorKind::io, fmt::format("{}: no file can be made for the ids of examples: {}", folders.front(), std::strerror(why)),
                "set TMPDIR to a folder that can be written");
  }
  ~IdFile() { ::close(fd_); }
  IdFile(const IdFile&) = delete;
  IdFile& operator=(const IdFile&) = delete;

  // The next `bytes`, whole pages, mapped.
  TokenIds add_piece(size_t bytes);

  void write(const int32_t* ids, size_t count, size_t at) {
    const char* from = reinterpret_cast<const char*>(ids);
    for (size_t left = count * sizeof(int32_t); left > 0;) {
      const ssize_t written = ::pwrite(fd_, from, std::min(left, size_t{1} << 30), static_cast<off_t>(at));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) fail("the ids of examples cannot be written");
      from += written;
      at += static_cast<size_t>(written);
      left -= static_cast<size_t>(written);
    }
  }

  // So many bytes from `begin` on, in memory that is mapped, were read.
  void passed(const char* begin, size_t bytes) {
    const auto first = reinterpret_cast<uintptr_t>(begin) / kWindow, last = (reinterpret_cast<uintptr_t>(begin) + bytes - 1) / kWindow;
    const std::lock_guard lock(mutex_);
    for (uintptr_t window = first; window <= last; ++window)
      if (std::ranges::find(windows_, window) == windows_.end()) windows_.push_back(window);
    if (windows_.size() * kWindow <= resident_) return;
    for (const auto& [data, size] : pieces_) release_pages(data, size);
    windows_.clear();
  }

  void forget(const void* data) {
    const std::lock_guard lock(mutex_);
    std::erase_if(pieces_, [data](const auto& piece) { return piece.first == data; });
  }
  size_t size() const { return size_; }

 private:
  [[noreturn]] void fail(const char* what) const {
    const int code = errno;
    throw Error(ErrorKind::io, fmt::format("{}: {}, {} MB so far: {}", folder_, what, size_ / 1000000, std::strerror(code)),
                "free some disk space, or set output_dir, or TMPDIR where there is none, to a folder of another disk; with streaming: true "
                "nothing is kept");
  }

  int fd_ = -1;
  std::string folder_;
  size_t size_ = 0, resident_;
  std::mutex mutex_;
  std::vector<uintptr_t> windows_;  // that were read since the pages were let go of
  std::vector<std::pair<const void*, size_t>> pieces_;
};

class MappedIds : public IdPiece {
 public:
  MappedIds(std::shared_ptr<IdFile> file, void* data, size_t bytes)
      : IdPiece(static_cast<const int32_t*>(data)), file_(std::move(file)), bytes_(bytes) {}
  ~MappedIds() override {
    file_->forget(data());
    ::munmap(const_cast<int32_t*>(data()), bytes_);
  }
  void passed(size_t first, size_t count) override {
    file_->passed(reinterpret_cast<const char*>(data() + first), count * sizeof(int32_t));
  }

 private:
  std::shared_ptr<IdFile> file_;
  size_t bytes_;
};

TokenIds IdFile::add_piece(size_t bytes) {
  if (::ftruncate(fd_, static_cast<off_t>(size_ + bytes)) != 0) fail("the file for ids of examples cannot grow");
  void* data = ::mmap(nullptr, bytes, PROT_READ, MAP_SHARED, fd_, static_cast<off_t>(size_));
  if (data == MAP_FAILED) fail("the file for ids of examples cannot be mapped");
  size_ += bytes;
  {
    const std::lock_guard lock(mutex_);
    pieces_.emplace_back(data, bytes);
  }
  return {new MappedIds(shared_from_this(), data, bytes), 0, bytes / sizeof(int32_t)};
}

ExampleStore::ExampleStore(ExampleStoreOptions options) : options_(std::move(options)) {
  const auto page = static_cast<size_t>(::sysconf(_SC_PAGESIZE));
  options_.piece = std::max<size_t>((options_.piece + page - 1) / page, 1) * page;
}

ExampleStore::~ExampleStore() = default;

void ExampleStore::keep(std::span<Example> examples) {
  std::vector<Example*> places;
  places.reserve(examples.size());
  for (Example& example : examples) places.push_back(&example);
  keep(places);
}

void ExampleStore::keep(std::span<Example* const> examples) {
  const auto distinct_labels = [](const Example& e) { return !e.labels.is_same_place(e.input_ids); };
  size_t count = 0;
  for (const Example* e : examples) count += e->input_ids.size() + (distinct_labels(*e) ? e->labels.size() : 0) + e->starts.size();
  if (count == 0) return;
  std::vector<int32_t> all;
  all.reserve(count);
  for (const Example* e : examples) {
    all.insert(all.end(), e->input_ids.begin(), e->input_ids.end());
    if (distinct_labels(*e)) all.insert(all.end(), e->labels.begin(), e->labels.end());
    all.insert(all.end(), e->starts.begin(), e->starts.end());
  }
  const size_t bytes = count * sizeof(int32_t);
  TokenIds laid;
  if (kept_ + bytes <= options_.in_memory) {
    laid = TokenIds(std::move(all));
  } else {
    if (!file_) file_ = std::make_shared<IdFile>(options_.folder, options_.resident);
    if (filled_ + count > piece_.size()) {
      piece_ = file_->add_piece((bytes + options_.piece - 1) / options_.piece * options_.piece);
      filled_ = 0;
    }
    file_->write(all.data(), count, file_->size() - (piece_.size() - filled_) * sizeof(int32_t));
    laid = piece_.part(filled_, count);
    filled_ += count;
    on_disk_ += bytes;
  }
  kept_ += bytes;
  size_t at = 0;
  const auto next = [&](size_t size) {
    at += size;
    return size == 0 ? TokenIds() : laid.part(at - size, size);
  };
  for (Example* e : examples) {
    const bool distinct = distinct_labels(*e);
    e->input_ids = next(e->input_ids.size());
    e->labels = distinct ? next(e->labels.size()) : e->input_ids;
    e->starts = next(e->starts.size());
  }
}

}  // namespace loraine
