// The bytes of event files. Field numbers are those of tensorflow's event.proto, summary.proto and tensor.proto.
#include "loraine/train/records/reports/event_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <charconv>
#include <chrono>
#include <cstring>
#include <ctime>
#include <filesystem>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"

namespace loraine {
namespace {

namespace fs = std::filesystem;

constexpr std::string_view kPrefix = "events.out.tfevents.";

[[noreturn]] void io_error(const std::string& path, const std::string& what, int code) {
  throw Error(ErrorKind::io, fmt::format("{}: cannot {}: {}", path, what, std::strerror(code)), "check free space and permissions");
}

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table{};
  for (uint32_t byte = 0; byte < 256; ++byte) {
    uint32_t c = byte;
    for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;  // Castagnoli's polynomial, reversed
    table[byte] = c;
  }
  return table;
}
constexpr std::array<uint32_t, 256> kCrc = crc_table();

template <typename T>
std::string little_endian(T number) {
  std::string bytes;
  for (size_t i = 0; i < sizeof(T); ++i) bytes += static_cast<char>(number >> 8 * i & 0xff);
  return bytes;
}

// One field of a protocol buffer: number << 3 | wire type, then the value.
std::string varint(uint64_t number) {
  std::string bytes;
  for (; number >= 128; number >>= 7) bytes += static_cast<char>((number & 127) | 128);
  return bytes + static_cast<char>(number);
}
std::string whole(int field, int64_t number) { return varint(field << 3) + varint(static_cast<uint64_t>(number)); }
std::string real64(int field, double number) { return varint(field << 3 | 1) + little_endian(std::bit_cast<uint64_t>(number)); }
std::string real32(int field, float number) { return varint(field << 3 | 5) + little_endian(std::bit_cast<uint32_t>(number)); }
std::string bytes(int field, std::string_view text) { return varint(field << 3 | 2) + varint(text.size()) + std::string(text); }

double wall_time() { return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count(); }

std::string event(int64_t step, const std::string& what) { return real64(1, wall_time()) + (step ? whole(2, step) : "") + what; }

std::string host() {
  char name[256] = {};
  if (gethostname(name, sizeof name - 1) != 0 || name[0] == 0) return "localhost";
  return name;
}

}  // namespace

uint32_t masked_crc32c(std::string_view text) {
  uint32_t c = ~0u;
  for (const char byte : text) c = kCrc[(c ^ static_cast<unsigned char>(byte)) & 0xff] ^ c >> 8;
  c = ~c;
  return (c >> 15 | c << 17) + 0xa282ead8u;
}

std::string event_record(std::string_view text) {
  const std::string length = little_endian(static_cast<uint64_t>(text.size()));
  return length + little_endian(masked_crc32c(length)) + std::string(text) + little_endian(masked_crc32c(text));
}

EventFile::EventFile(const std::string& folder) {
  static std::atomic<int> opened{0};
  make_folders(folder);
  path_ = fmt::format("{}/{}{:010}.{}.{}.{}", folder, kPrefix, static_cast<int64_t>(wall_time()), host(), getpid(), opened++);
  fd_ = ::open(path_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
  if (fd_ < 0) io_error(path_, "make an event file", errno);
  write(event(0, bytes(3, "brain.Event:2")));
}

EventFile::~EventFile() {
  if (fd_ >= 0) ::close(fd_);
}

void EventFile::write(const std::string& content) {
  const std::string record = event_record(content);
  for (size_t at = 0; at < record.size();) {
    const ssize_t written = ::write(fd_, record.data() + at, record.size() - at);
    if (written < 0 && errno == EINTR) continue;
    if (written <= 0) io_error(path_, "append an event", written < 0 ? errno : ENOSPC);
    at += static_cast<size_t>(written);
  }
}

void EventFile::purge_from(int64_t step) { write(event(step, bytes(7, whole(1, 1)))); }  // SessionLog: START

void EventFile::scalars(int64_t step, const std::vector<std::pair<std::string, double>>& values) {
  std::string summary;
  for (const auto& [tag, value] : values) summary += bytes(1, bytes(1, tag) + real32(2, static_cast<float>(value)));
  if (!summary.empty()) write(event(step, bytes(5, summary)));
}

void EventFile::text(const std::string& tag, const std::string& text) {
  const std::string plugin = bytes(9, bytes(1, bytes(1, "text")));
  const std::string shape = bytes(2, bytes(2, whole(1, 1)));        // [1]
  const std::string tensor = whole(1, 7) + shape + bytes(8, text);  // 7: DT_STRING
  write(event(0, bytes(5, bytes(1, bytes(1, tag + "/text_summary") + bytes(8, tensor) + plugin))));
}

void EventFile::close() {
  if (fd_ < 0) return;
  const bool synced = ::fsync(fd_) == 0 || errno == EINVAL || errno == ENOTSUP;  // a pipe or the like has nothing to sync
  const int code = errno;
  const bool closed = ::close(std::exchange(fd_, -1)) == 0;
  if (!synced || !closed) io_error(path_, "write the event file to the disk", synced ? errno : code);
}

std::string newest_event_folder(const std::string& runs) {
  std::string newest;
  int64_t newest_time = -1;
  std::error_code failed;
  for (fs::directory_iterator folder(runs, failed), end; !failed && folder != end; folder.increment(failed)) {
    std::error_code inner;
    for (fs::directory_iterator file(folder->path(), inner); !inner && file != end; file.increment(inner)) {
      const std::string name = file->path().filename().string();
      int64_t time = -1;
      if (!name.starts_with(kPrefix)) continue;
      std::from_chars(name.data() + kPrefix.size(), name.data() + name.size(), time);
      if (time > newest_time) newest_time = time, newest = folder->path().string();
    }
  }
  return newest;
}

std::string event_folder_name() {
  static constexpr const char* kMonths[] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
  const std::time_t now = std::time(nullptr);
  std::tm t{};
  localtime_r(&now, &t);
  return fmt::format("{}{:02}_{:02}-{:02}-{:02}_{}", kMonths[t.tm_mon], t.tm_mday, t.tm_hour, t.tm_min, t.tm_sec, host());
}

}  // namespace loraine
