// Header, padding, data: all little endian, each tensor at a multiple of the default alignment.
#include "loraine/io/gguf/gguf_write.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr uint64_t kAlignment = 32;  // general.alignment where a file does not say another
constexpr size_t kLongestName = 63;  // llama.cpp's buffer for a tensor's name

template <class T>
void append_number(std::string& out, T value) {
  out.append(reinterpret_cast<const char*>(&value), sizeof value);
}

void append_text(std::string& out, std::string_view text) {
  append_number<uint64_t>(out, text.size());
  out += text;
}

std::string typed(GgufType type) {
  std::string out;
  append_number(out, static_cast<uint32_t>(type));
  return out;
}

std::string array_of(GgufType element, size_t count) {
  std::string out = typed(GgufType::Array) + typed(element);
  append_number<uint64_t>(out, count);
  return out;
}

uint64_t padded_size(uint64_t bytes) { return (bytes + kAlignment - 1) / kAlignment * kAlignment; }

}  // namespace

void GgufMetadata::put(const std::string& key, std::string bytes) {
  for (auto& [name, value] : keys_)
    if (name == key) {
      value = std::move(bytes);
      return;
    }
  keys_.emplace_back(key, std::move(bytes));
}
void GgufMetadata::put_unsigned(const std::string& key, uint64_t value) {
  if (value > UINT32_MAX) throw Error(ErrorKind::bad_data, fmt::format("{} is {}, which a GGUF cannot hold", key, value));
  std::string bytes = typed(GgufType::U32);
  append_number(bytes, static_cast<uint32_t>(value));
  put(key, std::move(bytes));
}
void GgufMetadata::put_short(const std::string& key, uint16_t value) {
  std::string bytes = typed(GgufType::U16);
  append_number(bytes, value);
  put(key, std::move(bytes));
}
void GgufMetadata::put_signed(const std::string& key, int32_t value) {
  std::string bytes = typed(GgufType::I32);
  append_number(bytes, value);
  put(key, std::move(bytes));
}
void GgufMetadata::put_number(const std::string& key, double value) {
  std::string bytes = typed(GgufType::F32);
  append_number(bytes, static_cast<float>(value));
  put(key, std::move(bytes));
}
void GgufMetadata::put_boolean(const std::string& key, bool value) {
  std::string bytes = typed(GgufType::Bool);
  append_number(bytes, static_cast<uint8_t>(value));
  put(key, std::move(bytes));
}
void GgufMetadata::put_text(const std::string& key, std::string_view value) {
  std::string bytes = typed(GgufType::String);
  append_text(bytes, value);
  put(key, std::move(bytes));
}
void GgufMetadata::put_texts(const std::string& key, const std::vector<std::string>& values) {
  std::string bytes = array_of(GgufType::String, values.size());
  for (const std::string& value : values) append_text(bytes, value);
  put(key, std::move(bytes));
}
void GgufMetadata::put_integers(const std::string& key, const std::vector<int32_t>& values) {
  std::string bytes = array_of(GgufType::I32, values.size());
  for (const int32_t value : values) append_number(bytes, value);
  put(key, std::move(bytes));
}
void GgufMetadata::put_numbers(const std::string& key, const std::vector<float>& values) {
  std::string bytes = array_of(GgufType::F32, values.size());
  for (const float value : values) append_number(bytes, value);
  put(key, std::move(bytes));
}
void GgufMetadata::put_booleans(const std::string& key, const std::vector<bool>& values) {
  std::string bytes = array_of(GgufType::Bool, values.size());
  for (const bool value : values) append_number(bytes, static_cast<uint8_t>(value));
  put(key, std::move(bytes));
}
bool GgufMetadata::has(std::string_view key) const {
  return std::any_of(keys_.begin(), keys_.end(), [&](const auto& each) { return each.first == key; });
}

uint64_t bytes_of(const GgufEntry& entry) {
  const GgmlType* type = ggml_type(entry.type);
  const auto fail = [&](const std::string& what) { throw Error(ErrorKind::internal, entry.name + " " + what); };
  if (!type) fail(fmt::format("has the unknown type {}", entry.type));
  if (entry.shape.empty() || entry.shape.size() > 4) fail(fmt::format("has {} dimensions, expected 1 to 4", entry.shape.size()));
  if (entry.shape.back() % type->block != 0)
    fail(fmt::format("has rows of {} elements, no multiple of {}", entry.shape.back(), type->block));
  uint64_t bytes = static_cast<uint64_t>(type->block_bytes);
  for (size_t i = 0; i < entry.shape.size(); ++i) {
    const int64_t size = i + 1 == entry.shape.size() ? entry.shape[i] / type->block : entry.shape[i];
    if (size <= 0 || __builtin_mul_overflow(bytes, static_cast<uint64_t>(size), &bytes)) fail("has a shape that cannot be written");
  }
  return bytes;
}

void stream_gguf(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufEntry>& entries,
                 const std::function<void(size_t index, const WriteGgufBytes& write)>& produce) {
  std::string header = "GGUF";
  append_number<uint32_t>(header, 3);
  append_number<uint64_t>(header, entries.size());
  append_number<uint64_t>(header, metadata.keys().size());
  for (const auto& [key, value] : metadata.keys()) {
    append_text(header, key);
    header += value;
  }
  std::set<std::string_view> names;
  uint64_t offset = 0;
  for (const GgufEntry& entry : entries) {
    if (entry.name.empty() || entry.name.size() > kLongestName || !names.insert(entry.name).second)
      throw Error(ErrorKind::bad_data,
                  fmt::format("{}: a tensor cannot be named {}, by its length ({} bytes, at most {}) or as the second of its name", path,
                              in_quotes(entry.name), entry.name.size(), kLongestName));
    append_text(header, entry.name);
    append_number(header, static_cast<uint32_t>(entry.shape.size()));
    for (size_t i = entry.shape.size(); i-- > 0;) append_number(header, static_cast<uint64_t>(entry.shape[i]));
    append_number(header, entry.type);
    append_number(header, offset);
    uint64_t bytes = bytes_of(entry);
    if (bytes > UINT64_MAX - kAlignment || __builtin_add_overflow(offset, padded_size(bytes), &offset))
      throw Error(ErrorKind::internal, path + ": more bytes than a file can have");
  }
  header.append(padded_size(header.size()) - header.size(), '\0');
  DurableFile out(path);
  out.write(header.data(), header.size());
  const std::string zeros(kAlignment, '\0');
  for (size_t index = 0; index < entries.size(); ++index) {
    uint64_t written = 0;
    produce(index, [&](const void* data, size_t bytes) {
      out.write(data, bytes);
      written += bytes;
    });
    if (written != bytes_of(entries[index]))
      throw Error(ErrorKind::internal, fmt::format("{}: {} bytes written for {}", path, written, entries[index].name));
    out.write(zeros.data(), static_cast<size_t>(padded_size(written) - written));
  }
  out.commit();
}

std::vector<std::string> stream_gguf_parts(const std::string& path, const GgufMetadata& metadata, const std::vector<GgufEntry>& entries,
                                           uint64_t part_bytes,
                                           const std::function<void(size_t index, const WriteGgufBytes& write)>& produce) {
  std::vector<size_t> starts = {0};  // of parts, and the end
  uint64_t bytes = 0;
  for (size_t index = 0; index < entries.size(); ++index) {
    const uint64_t own = padded_size(bytes_of(entries[index]));
    if (bytes > 0 && bytes + own > part_bytes) starts.push_back(index), bytes = 0;
    bytes += own;
  }
  const size_t parts = starts.size();
  starts.push_back(entries.size());
  if (parts == 1) {
    stream_gguf(path, metadata, entries, produce);
    return {path};
  }
  if (parts > UINT16_MAX) throw Error(ErrorKind::usage, fmt::format("{} would be {} files", path, parts), "set a larger export_size");
  std::vector<std::string> paths;
  for (size_t part = 0; part < parts; ++part) {
    GgufMetadata keys = part == 0 ? metadata : GgufMetadata();
    keys.put_short("split.no", static_cast<uint16_t>(part));
    keys.put_short("split.count", static_cast<uint16_t>(parts));
    keys.put_signed("split.tensors.count", static_cast<int32_t>(entries.size()));
    const std::vector<GgufEntry> own(entries.begin() + static_cast<std::ptrdiff_t>(starts[part]),
                                     entries.begin() + static_cast<std::ptrdiff_t>(starts[part + 1]));
    paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", path.substr(0, path.rfind(".gguf")), part + 1, parts));
    stream_gguf(paths.back(), keys, own, [&](size_t index, const WriteGgufBytes& write) { produce(starts[part] + index, write); });
  }
  return paths;
}

}  // namespace loraine
