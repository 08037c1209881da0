// The zip format as far as torch.save uses it (APPNOTE.TXT 4.3): directory at the end, with or without the 64-bit fields.
#include "loraine/io/torch/zip_file.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr uint32_t kLocal = 0x04034b50, kCentral = 0x02014b50, kEnd = 0x06054b50, kEnd64 = 0x06064b50, kLocator64 = 0x07064b50,
                   kDescriptor = 0x08074b50;
constexpr uint64_t kLocalSize = 30, kCentralSize = 46, kEndSize = 22, kEnd64Size = 56, kLocatorSize = 20, kMaxEntries = 1'000'000;
constexpr uint16_t kInDescriptor = 1 << 3, kUtf8 = 1 << 11, kEncrypted = 1;

// Little-endian numbers of a part of the file whose size has been checked.
struct Bytes {
  const unsigned char* data;
  uint64_t size;
  uint16_t u16(uint64_t at) const { return static_cast<uint16_t>(data[at] | data[at + 1] << 8); }
  uint32_t u32(uint64_t at) const { return u16(at) | static_cast<uint32_t>(u16(at + 2)) << 16; }
  uint64_t u64(uint64_t at) const { return u32(at) | static_cast<uint64_t>(u32(at + 4)) << 32; }
  bool holds(uint64_t at, uint64_t bytes) const { return at <= size && bytes <= size - at; }
};

[[noreturn]] void refuse(const std::string& file, const std::string& message) {
  throw Error(ErrorKind::bad_data, file + ": " + message, "save the file again with torch.save, or as safetensors");
}

struct Directory {
  uint64_t offset, size, entries;
};

Directory find_directory(const std::string& file, const Bytes& b) {
  if (!b.holds(0, kEndSize)) refuse(file, fmt::format("{} bytes, too short for a zip archive", b.size));
  uint64_t end = b.size - kEndSize;
  const uint64_t lowest = end > 65535 ? end - 65535 : 0;  // behind the end record comes a comment of at most 65535 bytes
  while (b.u32(end) != kEnd || b.u16(end + 20) != b.size - end - kEndSize) {
    if (end == lowest) refuse(file, "has no directory at its end, as a zip archive has (cut off, or another format)");
    --end;
  }
  Directory d{b.u32(end + 16), b.u32(end + 12), b.u16(end + 10)};
  if (b.u16(end + 4) != 0 || b.u16(end + 6) != 0) refuse(file, "is one part of an archive in several parts");
  uint64_t behind = end;
  if (end >= kLocatorSize && b.u32(end - kLocatorSize) == kLocator64) {
    const uint64_t at = b.u64(end - kLocatorSize + 8);
    if (!b.holds(at, kEnd64Size) || b.u32(at) != kEnd64) refuse(file, "its 64-bit directory record is not where it should be");
    d = {b.u64(at + 48), b.u64(at + 40), b.u64(at + 32)};
    behind = at;
  }
  if (!b.holds(d.offset, d.size) || d.offset + d.size > behind) refuse(file, "its directory lies outside the file");
  if (d.entries > kMaxEntries || d.entries * kCentralSize > d.size)
    refuse(file, fmt::format("names {} entries in a directory of {} bytes", d.entries, d.size));
  return d;
}

// The fields that did not fit into 32 bits, in their order, from the extra field 0x0001.
void read_zip64_extra(const std::string& file, const Bytes& b, uint64_t at, uint64_t length, uint64_t& size, uint64_t& stored,
                      uint64_t& header) {
  const uint64_t end = at + length;
  while (end - at >= 4) {
    const uint64_t bytes = b.u16(at + 2);
    if (bytes > end - at - 4) refuse(file, "an extra field of its directory is cut off");
    if (b.u16(at) == 1) {
      uint64_t from = at + 4, left = bytes;
      for (uint64_t* field : {&size, &stored, &header}) {
        if (*field != 0xffffffff) continue;
        if (left < 8) refuse(file, "a 64-bit size of its directory is missing");
        *field = b.u64(from);
        from += 8, left -= 8;
      }
      return;
    }
    at += 4 + bytes;
  }
}

bool good_name(const std::string& name) {
  if (name.empty() || name[0] == '/' || name.find('\\') != name.npos || name.find('\0') != name.npos || !is_utf8(name)) return false;
  return ("/" + name + "/").find("/../") == std::string::npos;
}

// The entry whose directory record lies at `at`; moves `at` behind it.
ZipEntry read_entry(const std::string& file, const Bytes& b, const Directory& d, uint64_t& at) {
  const uint64_t directory_end = d.offset + d.size;
  if (directory_end - at < kCentralSize || b.u32(at) != kCentral) refuse(file, "its directory is damaged");
  const uint64_t name_length = b.u16(at + 28), extra_length = b.u16(at + 30), comment_length = b.u16(at + 32);
  if (directory_end - at - kCentralSize < name_length + extra_length + comment_length) refuse(file, "its directory is cut off");
  ZipEntry entry;
  entry.name.assign(reinterpret_cast<const char*>(b.data + at + kCentralSize), name_length);
  if (!good_name(entry.name)) refuse(file, "an entry is named " + in_quotes(entry.name) + ", which leads out of the archive or is no text");
  const std::string what = "the entry " + in_quotes(entry.name);
  if (b.u16(at + 8) & kEncrypted) refuse(file, what + " is encrypted");
  if (b.u16(at + 10) != 0) refuse(file, fmt::format("{} is compressed (method {}), expected stored bytes", what, b.u16(at + 10)));
  if (b.u16(at + 34) != 0) refuse(file, what + " lies in another part of the archive");
  entry.crc = b.u32(at + 16);
  entry.size = b.u32(at + 24);
  uint64_t stored = b.u32(at + 20), header = b.u32(at + 42);
  read_zip64_extra(file, b, at + kCentralSize + name_length, extra_length, entry.size, stored, header);
  if (stored != entry.size) refuse(file, fmt::format("{} takes {} bytes and should hold {}", what, stored, entry.size));
  if (!b.holds(header, kLocalSize) || b.u32(header) != kLocal) refuse(file, what + " is not where the directory says");
  entry.offset = header + kLocalSize + b.u16(header + 26) + b.u16(header + 28);
  if (entry.offset > d.offset || entry.size > d.offset - entry.offset) refuse(file, what + " reaches beyond the data of the file");
  if (b.u16(header + 26) != name_length || std::memcmp(b.data + header + kLocalSize, entry.name.data(), name_length) != 0 ||
      b.u16(header + 8) != 0)
    refuse(file, what + " is described in two ways");
  at += kCentralSize + name_length + extra_length + comment_length;
  return entry;
}

uint32_t crc_of(uint32_t crc, const unsigned char* data, uint64_t size) {
  return static_cast<uint32_t>(crc32_z(crc, data, static_cast<z_size_t>(size)));
}

std::string little_endian(uint64_t value, int bytes) {
  std::string out;
  for (int i = 0; i < bytes; ++i) out += static_cast<char>(value >> (8 * i) & 0xff);
  return out;
}

}  // namespace

std::vector<ZipEntry> read_zip_directory(const std::string& file, const unsigned char* data, size_t size) {
  const Bytes b{data, size};
  const Directory d = find_directory(file, b);
  std::vector<ZipEntry> entries;
  uint64_t at = d.offset;
  for (uint64_t i = 0; i < d.entries; ++i) entries.push_back(read_entry(file, b, d, at));
  std::vector<const ZipEntry*> order;
  for (const ZipEntry& entry : entries) order.push_back(&entry);
  std::sort(order.begin(), order.end(), [](const ZipEntry* x, const ZipEntry* y) { return x->name < y->name; });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i]->name == order[i - 1]->name) refuse(file, "the entry " + in_quotes(order[i]->name) + " is there twice");
  std::sort(order.begin(), order.end(), [](const ZipEntry* x, const ZipEntry* y) { return x->offset < y->offset; });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i]->offset - order[i - 1]->offset < order[i - 1]->size)
      refuse(file, "the entries " + in_quotes(order[i - 1]->name) + " and " + in_quotes(order[i]->name) + " overlap");
  return entries;
}

void check_zip_entry(const std::string& file, const unsigned char* data, const ZipEntry& entry) {
  if (crc_of(0, data + entry.offset, entry.size) != entry.crc)
    refuse(file, "the entry " + in_quotes(entry.name) + " has changed since it was written: its checksum differs");
}

void ZipWriter::put(const std::string& bytes) {
  out_.write(bytes.data(), bytes.size());
  position_ += bytes.size();
}

void ZipWriter::begin(const std::string& name) {
  Written written;
  written.entry.name = name;
  written.header = position_;
  // Padding in an extra field of a name of its own ("FB", as torch writes it) brings the bytes to a multiple of 64.
  const uint64_t bare = position_ + kLocalSize + name.size() + 4, padding = (64 - bare % 64) % 64;
  put(little_endian(kLocal, 4) + little_endian(45, 2) + little_endian(kInDescriptor | kUtf8, 2) + std::string(18, '\0') +
      little_endian(name.size(), 2) + little_endian(padding + 4, 2) + name + "FB" + little_endian(padding, 2) + std::string(padding, 'Z'));
  written.entry.offset = position_;
  entries_.push_back(written);
}

void ZipWriter::write(const void* data, size_t bytes) {
  out_.write(data, bytes);
  position_ += bytes;
  ZipEntry& entry = entries_.back().entry;
  entry.crc = crc_of(entry.crc, static_cast<const unsigned char*>(data), bytes);
  entry.size += bytes;
}

void ZipWriter::end() {
  const ZipEntry& entry = entries_.back().entry;
  const int width = entry.size >= 0xffffffff ? 8 : 4;
  put(little_endian(kDescriptor, 4) + little_endian(entry.crc, 4) + little_endian(entry.size, width) + little_endian(entry.size, width));
}

void ZipWriter::finish() {
  const uint64_t start = position_;
  for (const Written& w : entries_) {
    const uint64_t size = w.entry.size;
    const bool long_size = size >= 0xffffffff, long_header = w.header >= 0xffffffff;
    std::string extra;
    if (long_size) extra += little_endian(size, 8) + little_endian(size, 8);
    if (long_header) extra += little_endian(w.header, 8);
    if (!extra.empty()) extra = little_endian(1, 2) + little_endian(extra.size(), 2) + extra;
    const std::string shown_size = little_endian(long_size ? 0xffffffff : size, 4);
    put(little_endian(kCentral, 4) + little_endian(45, 2) + little_endian(45, 2) + little_endian(kInDescriptor | kUtf8, 2) +
        std::string(6, '\0') + little_endian(w.entry.crc, 4) + shown_size + shown_size + little_endian(w.entry.name.size(), 2) +
        little_endian(extra.size(), 2) + std::string(10, '\0') + little_endian(long_header ? 0xffffffff : w.header, 4) + w.entry.name +
        extra);
  }
  const uint64_t size = position_ - start, end64 = position_, count = entries_.size();
  put(little_endian(kEnd64, 4) + little_endian(kEnd64Size - 12, 8) + little_endian(45, 2) + little_endian(45, 2) + std::string(8, '\0') +
      little_endian(count, 8) + little_endian(count, 8) + little_endian(size, 8) + little_endian(start, 8));
  put(little_endian(kLocator64, 4) + std::string(4, '\0') + little_endian(end64, 8) + little_endian(1, 4));
  put(little_endian(kEnd, 4) + std::string(4, '\0') + little_endian(std::min<uint64_t>(count, 0xffff), 2) +
      little_endian(std::min<uint64_t>(count, 0xffff), 2) + little_endian(std::min<uint64_t>(size, 0xffffffff), 4) +
      little_endian(std::min<uint64_t>(start, 0xffffffff), 4) + std::string(2, '\0'));
  out_.commit();
}

}  // namespace loraine
