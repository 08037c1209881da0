#include "loraine/io/hub/blob.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <thread>
#include <vector>

#include "loraine/core/error.h"
#include "loraine/core/stopped.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/hub/hash.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

[[noreturn]] void io_error(const fs::path& path, const char* what) {
  const int code = errno;
  throw Error(ErrorKind::io, fmt::format("{}: {}: {}", path.string(), what, std::strerror(code)),
              code == ENOSPC || code == EDQUOT
                  ? "free some disk space and run again: what was loaded stays; HF_HOME or cache_dir puts the cache on another disk"
                  : "check permissions of the cache");
}

// flock on a file that stays, as huggingface_hub has it: who dies lets go of it. Where the file system knows no locks, none is held; what
// is loaded is checked by its hash all the same.
class FileLock {
 public:
  FileLock(const fs::path& path, const std::string& what) {
    make_folders(path.parent_path().string());
    fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    if (fd_ < 0) io_error(path, "cannot be opened");
    for (bool told = false; ::flock(fd_, LOCK_EX | LOCK_NB) != 0;) {
      if (errno != EWOULDBLOCK && errno != EINTR) return;
      if (transfers_stopped()) throw Stopped();
      if (!told && transfer_screen().message) transfer_screen().message(fmt::format("waiting for another process that downloads {}", what));
      told = true;
      std::this_thread::sleep_for(std::chrono::milliseconds(100));
    }
  }
  ~FileLock() {
    if (fd_ >= 0) ::close(fd_);
  }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

 private:
  int fd_ = -1;
};

// What there is of a file so far, and the hash of it.
class PartialFile {
 public:
  PartialFile(fs::path path, const ListedFile& listed) : path_(std::move(path)), listed_(listed), hash_(begin_hash()) {
    make_folders(path_.parent_path().string());
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd_ < 0) io_error(path_, "cannot be opened");
    // A process elsewhere whose lock is not seen here may be writing to it.
    if (::flock(fd_, LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) use_own_name();
    read_what_is_there();
  }
  ~PartialFile() {
    if (fd_ >= 0) ::close(fd_);
  }
  PartialFile(const PartialFile&) = delete;
  PartialFile& operator=(const PartialFile&) = delete;

  uint64_t size() const { return size_; }

  void append(const char* data, size_t bytes) {
    hash_.add(data, bytes);
    while (bytes > 0) {
      const ssize_t written = ::pwrite(fd_, data, bytes, static_cast<off_t>(size_));
      if (written < 0 && errno == EINTR) continue;
      if (written < 0) io_error(path_, "cannot be written");
      data += written;
      bytes -= static_cast<size_t>(written);
      size_ += static_cast<uint64_t>(written);
    }
  }

  void restart() {
    if (::ftruncate(fd_, 0) != 0) io_error(path_, "cannot be written");
    size_ = 0;
    hash_ = begin_hash();
  }

  void discard() { ::unlink(path_.c_str()); }

  // The hash of all that is there; once.
  std::string hash() { return hash_.hex(); }

  void commit(const fs::path& final) {
    if (::fsync(fd_) != 0) io_error(path_, "cannot be synced to disk");
    struct stat ours {
    }, there{};
    // Another process may have put another file in its place (see above).
    if (::fstat(fd_, &ours) != 0 || ::stat(path_.c_str(), &there) != 0 || ours.st_ino != there.st_ino || ours.st_dev != there.st_dev)
      throw Error(ErrorKind::io, path_.string() + ": another process has replaced it", "run again when no other process loads the same");
    if (::rename(path_.c_str(), final.c_str()) != 0) io_error(final, "cannot be put in place");
    sync_folder(final.parent_path().string());
  }

 private:
  Hash begin_hash() const { return listed_.sha256.empty() && !listed_.git_sha1.empty() ? Hash::git_sha1(*listed_.size) : Hash::sha256(); }

  void use_own_name() {
    ::close(fd_);
    path_ = fmt::format("{}.{}.incomplete", path_.string().substr(0, path_.string().size() - std::strlen(".incomplete")), ::getpid());
    fd_ = ::open(path_.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0666);
    if (fd_ < 0) io_error(path_, "cannot be opened");
  }

  void read_what_is_there() {
    std::vector<char> piece(1 << 20);
    for (;;) {
      const ssize_t got = ::pread(fd_, piece.data(), piece.size(), static_cast<off_t>(size_));
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) io_error(path_, "cannot be read");
      if (got == 0) break;
      hash_.add(piece.data(), static_cast<size_t>(got));
      size_ += static_cast<uint64_t>(got);
      if (size_ > *listed_.size) return restart();  // no part of this file
    }
  }

  fs::path path_;
  const ListedFile& listed_;
  Hash hash_;
  int fd_ = -1;
  uint64_t size_ = 0;
};

// Tells the screen now and then.
class Reporter {
 public:
  Reporter(const std::string& file, uint64_t total, uint64_t at)
      : state_{file, at, total, 0, false, false}, start_(Clock::now()), from_(at) {}
  void at(uint64_t done) {
    if (!transfer_screen().progress) return;
    const auto now = Clock::now();
    if (done < from_) from_ = 0, start_ = now;
    state_.done = done;
    if (now - told_ < std::chrono::milliseconds(100)) return;
    told_ = now;
    tell(now);
  }
  void finish() {
    if (!transfer_screen().progress) return;
    state_.finished = true;
    state_.done = state_.total;
    tell(Clock::now());
  }

 private:
  void tell(Clock::time_point now) {
    const double seconds = std::chrono::duration<double>(now - start_).count();
    state_.bytes_per_second = seconds > 0 ? static_cast<double>(state_.done - from_) / seconds : 0;
    transfer_screen().progress(state_);
  }
  TransferState state_;
  Clock::time_point start_, told_{};
  uint64_t from_;
};

[[noreturn]] void wrong_length(const HttpAnswer& answer, const std::string& what, const std::string& found, uint64_t listed) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: {} sends {}, and {} bytes are listed", what, url_host(answer.url), found, listed),
              "run again; if that does not help, another mirror may (HF_ENDPOINT)");
}

// "bytes 10-19/20": whether it goes on from `from`, to the listed end.
bool continues(const HttpAnswer& head, uint64_t from, uint64_t size) {
  const std::string range = head.header("content-range");
  return range == fmt::format("bytes {}-{}/{}", from, size - 1, size) || range == fmt::format("bytes {}-{}/*", from, size - 1);
}

void begin_answer(const HttpAnswer& head, PartialFile& partial, const std::string& what, uint64_t size) {
  if (head.status == 200) {
    if (partial.size() > 0) partial.restart();  // the range was not heeded
  } else if (!continues(head, partial.size(), size)) {
    wrong_length(head, what,
                 fmt::format("the range '{}' where bytes {} to {} were asked for", head.header("content-range"), partial.size(), size - 1),
                 size);
  }
  const std::string length = head.header("content-length");
  if (!length.empty() && length != std::to_string(size - partial.size()))
    wrong_length(head, what, length + " bytes", size - partial.size());
}

void load_rest(HttpClient& client, const std::string& what, const std::string& id, HubKind kind, const std::string& url, uint64_t size,
               PartialFile& partial) {
  Patience patience;
  Reporter reporter(what.substr(what.find(", ") + 2), size, partial.size());
  while (partial.size() < size) {
    const uint64_t before = partial.size();
    HttpRequest request{.url = url, .headers = {"Accept-Encoding: identity"}};
    if (before > 0) request.headers.push_back(fmt::format("Range: bytes={}-", before));
    HttpSink sink;
    HttpAnswer head;
    sink.begin = [&](const HttpAnswer& answer) {
      head = answer;
      begin_answer(answer, partial, what, size);
    };
    sink.data = [&](const char* data, size_t bytes) {
      if (bytes > size - partial.size()) wrong_length(head, what, "more", size);
      partial.append(data, bytes);
      reporter.at(partial.size());
    };
    int64_t retry_after = 0;
    std::optional<ConnectionFailure> failure;
    try {
      const HttpAnswer answer = client.attempt(request, sink);
      const bool sent = answer.status == 200 || answer.status == 206;
      if (sent && partial.size() == size) break;
      if (sent) failure = ConnectionFailure{fmt::format("the answer ended after {} of {} bytes", partial.size(), size)};
      else if (answer.status == 416 && before > 0) partial.restart();
      else if (!is_worth_a_retry(answer.status)) throw failed_request(client, answer, what, id, kind);
      else if (retry_after = answer.retry_after; !patience.wait(retry_after)) throw failed_request(client, answer, what, id, kind);
      if (!sent) continue;
    } catch (const ConnectionFailure& lost) { failure = lost; }
    if (partial.size() > before) patience.renew();
    if (!patience.wait()) throw unreachable(client, url, *failure);
  }
  reporter.finish();
}

}  // namespace

bool has_listed_size(const fs::path& path, const ListedFile& file) {
  std::error_code failed;
  const uint64_t size = fs::file_size(path, failed);
  return !failed && file.size && *file.size == size;
}

void load_blob(HttpClient& client, const std::string& id, HubKind kind, const std::string& commit, const ListedFile& file,
               const BlobPlace& place) {
  const std::string what = id + ", " + file.path;
  const FileLock lock(place.lock, what);
  if (has_listed_size(place.file, file)) return;  // of another process
  const std::string url = file_url(client, id, kind, commit, file.path), listed = file.hash();
  for (bool resumed = true; resumed;) {
    PartialFile partial(place.file.string() + ".incomplete", file);
    if (listed.empty() && partial.size() > 0) partial.restart();  // of what it is cannot be told
    resumed = partial.size() > 0;
    load_rest(client, what, id, kind, url, *file.size, partial);
    const std::string hash = partial.hash();
    if (listed.empty() || hash == listed) return partial.commit(place.file);
    partial.discard();  // what was resumed may have been of another file: once more, from the start
    if (!resumed)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: the bytes that {} sends are not those that it lists: their hash is {}, expected {}", what, url_host(url),
                              hash, listed),
                  "run again; if that does not help, another mirror may (HF_ENDPOINT)");
  }
}

}  // namespace loraine
