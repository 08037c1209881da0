// The GGUF header reader. Every count and length is checked against the bytes left in the file before anything is allocated for it.
#include "loraine/io/gguf/gguf.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr uint32_t kMaxRank = 4;

size_t scalar_bytes(GgufType type) {
  switch (type) {
    case GgufType::U8:
    case GgufType::I8:
    case GgufType::Bool: return 1;
    case GgufType::U16:
    case GgufType::I16: return 2;
    case GgufType::U32:
    case GgufType::I32:
    case GgufType::F32: return 4;
    case GgufType::U64:
    case GgufType::I64:
    case GgufType::F64: return 8;
    default: return 0;
  }
}

template <class T>
T load(const unsigned char* bytes) {
  T value;
  std::memcpy(&value, bytes, sizeof value);
  return value;
}

class Cursor {
 public:
  Cursor(const std::string& path, const unsigned char* data, uint64_t size) : path_(path), data_(data), size_(size) {}
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(ErrorKind::bad_data, fmt::format("{}: {} (at byte {})", path_, what, at_),
                "the file is damaged or cut off; download it again");
  }
  uint64_t left() const { return size_ - at_; }
  uint64_t at() const { return at_; }
  const unsigned char* take(uint64_t bytes, const std::string& what) {
    if (bytes > left()) fail(fmt::format("{} takes {} bytes, but only {} are left in the file", what, bytes, left()));
    const unsigned char* start = data_ + at_;
    at_ += bytes;
    return start;
  }
  template <class T>
  T number(const std::string& what) {
    return load<T>(take(sizeof(T), what));
  }
  std::string_view text(const std::string& what) {
    uint64_t length = number<uint64_t>("the length of " + what);
    return {reinterpret_cast<const char*>(take(length, what)), static_cast<size_t>(length)};
  }

 private:
  const std::string& path_;
  const unsigned char* data_;
  uint64_t size_, at_ = 0;
};

GgufType read_type(Cursor& cursor, const std::string& what) {
  uint32_t type = cursor.number<uint32_t>("the type of " + what);
  if (type > static_cast<uint32_t>(GgufType::F64)) cursor.fail(fmt::format("{} has the unknown type {}", what, type));
  return static_cast<GgufType>(type);
}

void check_bools(Cursor& cursor, const unsigned char* bytes, uint64_t count, const std::string& what) {
  for (uint64_t i = 0; i < count; ++i)
    if (bytes[i] > 1) cursor.fail(fmt::format("{} is a boolean of value {}", what, bytes[i]));
}

GgufValue read_value(Cursor& cursor, const std::string& what) {
  GgufValue value;
  value.type = read_type(cursor, what);
  if (value.type == GgufType::String) {
    value.text = cursor.text(what);
  } else if (value.type == GgufType::Array) {
    value.element = read_type(cursor, "the elements of " + what);
    if (value.element == GgufType::Array) cursor.fail(what + " is an array of arrays, which no known key is");
    value.count = cursor.number<uint64_t>("the length of " + what);
    if (value.element == GgufType::String) {
      if (value.count > cursor.left() / 8) cursor.fail(fmt::format("{} claims {} strings, more than the file can hold", what, value.count));
      value.texts.reserve(value.count);
      for (uint64_t i = 0; i < value.count; ++i) value.texts.push_back(cursor.text(what));
    } else {
      size_t size = scalar_bytes(value.element);
      if (value.count > cursor.left() / size)
        cursor.fail(fmt::format("{} claims {} elements, more than the file can hold", what, value.count));
      value.bytes = cursor.take(value.count * size, what);
      if (value.element == GgufType::Bool) check_bools(cursor, value.bytes, value.count, what);
    }
  } else {
    value.bytes = cursor.take(scalar_bytes(value.type), what);
    if (value.type == GgufType::Bool) check_bools(cursor, value.bytes, 1, what);
  }
  return value;
}

GgufTensor read_tensor(Cursor& cursor) {
  GgufTensor tensor;
  std::string_view name = cursor.text("a tensor's name");
  if (name.empty() || name.size() > 1024 || !is_utf8(name) || name.find('\0') != std::string_view::npos)
    cursor.fail("a tensor is named " + in_quotes(name));
  tensor.name = name;
  std::string what = "tensor " + in_quotes(name);
  uint32_t rank = cursor.number<uint32_t>("the rank of " + what);
  if (rank == 0 || rank > kMaxRank) cursor.fail(fmt::format("{} has {} dimensions, expected 1 to 4", what, rank));
  int64_t elements = 1;
  for (uint32_t i = 0; i < rank; ++i) {
    uint64_t size = cursor.number<uint64_t>("a dimension of " + what);
    if (size == 0 || size > static_cast<uint64_t>(INT64_MAX) || __builtin_mul_overflow(elements, static_cast<int64_t>(size), &elements))
      cursor.fail(fmt::format("{} has a dimension of {}", what, size));
    tensor.shape.push_back(static_cast<int64_t>(size));
  }
  tensor.type = cursor.number<uint32_t>("the type of " + what);
  const GgmlType* type = ggml_type(tensor.type);
  if (!type) cursor.fail(fmt::format("{} has the unknown type {}", what, tensor.type));
  if (tensor.shape[0] % type->block != 0)
    cursor.fail(
        fmt::format("{} has rows of {} elements, expected a multiple of {} for {}", what, tensor.shape[0], type->block, type->name));
  if (__builtin_mul_overflow(static_cast<uint64_t>(elements / type->block), static_cast<uint64_t>(type->block_bytes), &tensor.bytes))
    cursor.fail(what + " is too large");
  tensor.offset = cursor.number<uint64_t>("the offset of " + what);
  std::reverse(tensor.shape.begin(), tensor.shape.end());
  return tensor;
}

// Offsets are relative to the data section; tensors must be aligned, inside the file and apart from each other.
void place_tensors(Cursor& cursor, std::vector<GgufTensor>& tensors, uint64_t alignment, uint64_t file_size) {
  uint64_t start = (cursor.at() + alignment - 1) / alignment * alignment;
  std::vector<const GgufTensor*> order;
  for (GgufTensor& tensor : tensors) {
    uint64_t end = 0;
    if (tensor.offset % alignment != 0)
      cursor.fail(fmt::format("tensor {} starts at {}, expected a multiple of {}", in_quotes(tensor.name), tensor.offset, alignment));
    if (__builtin_add_overflow(tensor.offset, start, &tensor.offset) || __builtin_add_overflow(tensor.offset, tensor.bytes, &end) ||
        end > file_size)
      cursor.fail(fmt::format("tensor {} takes {} bytes from {}, but the file has {}", in_quotes(tensor.name), tensor.bytes, tensor.offset,
                              file_size));
    order.push_back(&tensor);
  }
  std::sort(order.begin(), order.end(), [](const GgufTensor* a, const GgufTensor* b) { return a->offset < b->offset; });
  for (size_t i = 1; i < order.size(); ++i)
    if (order[i - 1]->offset + order[i - 1]->bytes > order[i]->offset)
      cursor.fail(fmt::format("tensors {} and {} overlap", in_quotes(order[i - 1]->name), in_quotes(order[i]->name)));
}

[[noreturn]] void wrong_type(const GgufFile& file, std::string_view key, const char* expected) {
  throw Error(ErrorKind::bad_data, fmt::format("{}: the metadata key {} is not {}", file.path, key, expected), "the file is damaged");
}

std::optional<int64_t> integer_at(GgufType type, const unsigned char* bytes) {
  switch (type) {
    case GgufType::U8: return load<uint8_t>(bytes);
    case GgufType::I8: return load<int8_t>(bytes);
    case GgufType::U16: return load<uint16_t>(bytes);
    case GgufType::I16: return load<int16_t>(bytes);
    case GgufType::U32: return load<uint32_t>(bytes);
    case GgufType::I32: return load<int32_t>(bytes);
    case GgufType::I64: return load<int64_t>(bytes);
    case GgufType::U64: {
      uint64_t value = load<uint64_t>(bytes);
      if (value > static_cast<uint64_t>(INT64_MAX)) return std::nullopt;
      return static_cast<int64_t>(value);
    }
    default: return std::nullopt;
  }
}

using GgufMetadataMap = std::map<std::string, GgufValue, std::less<>>;

struct GgufPart {
  uint32_t version = 0;
  GgufMetadataMap metadata;
  std::vector<GgufTensor> tensors;
};

GgufPart read_part(const std::string& path, const unsigned char* data, uint64_t size) {
  GgufPart part;
  Cursor cursor(path, data, size);
  const unsigned char* magic = cursor.take(4, "the magic");
  if (std::memcmp(magic, "GGUF", 4) != 0)
    throw Error(ErrorKind::bad_data,
                path + ": starts with " + in_quotes({reinterpret_cast<const char*>(magic), 4}) + ", expected \"GGUF\"");
  part.version = cursor.number<uint32_t>("the version");
  if (part.version != 2 && part.version != 3)
    throw Error(ErrorKind::bad_data, fmt::format("{}: is GGUF version {}, expected 2 or 3{}", path, part.version,
                                                 (part.version & 0xffffu) == 0 && part.version ? " (a big-endian file?)" : ""));
  uint64_t tensor_count = cursor.number<uint64_t>("the tensor count"), key_count = cursor.number<uint64_t>("the metadata count");
  // The smallest tensor entry takes 8+1+4+8+4+8 bytes, the smallest metadata entry 8+1+4+1.
  if (tensor_count > cursor.left() / 33) cursor.fail(fmt::format("claims {} tensors, more than the file can hold", tensor_count));
  if (key_count > cursor.left() / 14) cursor.fail(fmt::format("claims {} metadata keys, more than the file can hold", key_count));
  for (uint64_t i = 0; i < key_count; ++i) {
    std::string_view key = cursor.text("a metadata key");
    if (key.empty() || key.size() > 65535 || !is_utf8(key)) cursor.fail("a metadata key is " + in_quotes(key));
    if (!part.metadata.emplace(std::string(key), read_value(cursor, "the metadata key " + in_quotes(key))).second)
      cursor.fail("the metadata key " + in_quotes(key) + " stands twice");
  }
  uint64_t alignment = 32;
  if (const auto value = part.metadata.find("general.alignment"); value != part.metadata.end()) {
    if (value->second.type != GgufType::U32)
      throw Error(ErrorKind::bad_data, path + ": the metadata key general.alignment is not a U32", "the file is damaged");
    alignment = load<uint32_t>(value->second.bytes);
    if (alignment == 0 || (alignment & (alignment - 1)) != 0 || alignment > (1u << 20))
      cursor.fail(fmt::format("has the alignment {}, expected a power of two", alignment));
  }
  part.tensors.reserve(tensor_count);
  for (uint64_t i = 0; i < tensor_count; ++i) part.tensors.push_back(read_tensor(cursor));
  place_tensors(cursor, part.tensors, alignment, size);
  return part;
}

// NAME-00001-of-00009.gguf: the paths of all nine; any other name stands for itself.
std::vector<std::string> gguf_part_paths(const std::string& path) {
  constexpr std::string_view kEnd = "-00001-of-00001.gguf";
  if (path.size() < kEnd.size()) return {path};
  const std::string end = path.substr(path.size() - kEnd.size()), before = path.substr(0, path.size() - kEnd.size());
  const auto digits = [&](size_t at) {
    return std::all_of(end.begin() + static_cast<std::ptrdiff_t>(at), end.begin() + static_cast<std::ptrdiff_t>(at) + 5,
                       [](char c) { return c >= '0' && c <= '9'; });
  };
  if (end[0] != '-' || !digits(1) || end.substr(6, 4) != "-of-" || !digits(10)) return {path};
  const long part = std::strtol(end.substr(1, 5).c_str(), nullptr, 10), parts = std::strtol(end.substr(10, 5).c_str(), nullptr, 10);
  if (parts < 2) return {path};
  if (part != 1)
    throw Error(ErrorKind::bad_data, fmt::format("{}: is part {} of {} of a model, whose first has the metadata", path, part, parts),
                fmt::format("give {}-00001-of-{:05}.gguf, with all others beside it", before, parts));
  std::vector<std::string> paths;
  for (long i = 1; i <= parts; ++i) paths.push_back(fmt::format("{}-{:05}-of-{:05}.gguf", before, i, parts));
  return paths;
}

void check_part(const std::string& path, size_t part, size_t parts, const GgufMetadataMap& metadata) {
  const auto number = [&](const char* key, uint64_t otherwise) {
    const auto at = metadata.find(key);
    if (at == metadata.end() || at->second.type == GgufType::Array || at->second.type == GgufType::String) return otherwise;
    const std::optional<int64_t> value = integer_at(at->second.type, at->second.bytes);
    return value && *value >= 0 ? static_cast<uint64_t>(*value) : UINT64_MAX;
  };
  const uint64_t count = number("split.count", parts > 1 ? 0 : 1), own = number("split.no", parts > 1 ? UINT64_MAX : 0);
  if (count <= 1 && parts == 1) return;
  if (parts == 1)
    throw Error(ErrorKind::bad_data, fmt::format("{}: is one of {} parts of a model (split.count)", path, count),
                "name the parts NAME-00001-of-0000N.gguf as they came, and give the first");
  if (count != parts || own != part)
    throw Error(
        ErrorKind::bad_data,
        fmt::format("{}: by its name it is part {} of {}, and by its keys split.no and split.count it is not", path, part + 1, parts),
        "give the parts the names that they came with");
}

}  // namespace

GgufFile::GgufFile(const std::string& path_) : path(path_), file(gguf_part_paths(path_)) {
  const std::vector<std::string> paths = gguf_part_paths(path);
  for (size_t i = 0; i < paths.size(); ++i) {
    GgufPart part = read_part(paths[i], file.data() + file.start(i), file.size(i));
    for (GgufTensor& tensor : part.tensors) {
      tensor.offset += file.start(i);
      tensors.push_back(std::move(tensor));
    }
    if (i == 0) {
      metadata = std::move(part.metadata);
      version = part.version;
    }
    check_part(paths[i], i, paths.size(), i == 0 ? metadata : part.metadata);
  }
  if (const auto count = unsigned_integer("split.tensors.count"); count && paths.size() > 1 && *count != tensors.size())
    throw Error(ErrorKind::bad_data,
                fmt::format("{}: its parts hold {} tensors, and split.tensors.count is {}", path, tensors.size(), *count),
                "are all parts of the same model?");
  std::vector<std::string_view> names;
  for (const GgufTensor& tensor : tensors) names.push_back(tensor.name);
  std::sort(names.begin(), names.end());
  auto twice = std::adjacent_find(names.begin(), names.end());
  if (twice != names.end()) throw Error(ErrorKind::bad_data, path + ": two tensors are named " + in_quotes(*twice), "the file is damaged");
}

const GgufValue* GgufFile::find(std::string_view key) const {
  auto at = metadata.find(key);
  return at == metadata.end() ? nullptr : &at->second;
}

std::optional<uint64_t> GgufFile::unsigned_integer(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  std::optional<int64_t> integer =
      value->type == GgufType::Array || value->type == GgufType::String ? std::nullopt : integer_at(value->type, value->bytes);
  if (!integer || *integer < 0) wrong_type(*this, key, "an integer from 0 up");
  return static_cast<uint64_t>(*integer);
}

std::optional<double> GgufFile::number(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  double result = std::numeric_limits<double>::quiet_NaN();
  if (value->type == GgufType::F32) {
    // 1e-05 was rounded to F32 when the file was made; its shortest decimal is what config.json said.
    result = std::strtod(fmt::format("{}", load<float>(value->bytes)).c_str(), nullptr);
  } else if (value->type == GgufType::F64) {
    result = load<double>(value->bytes);
  } else if (value->type != GgufType::Array && value->type != GgufType::String) {
    if (auto integer = integer_at(value->type, value->bytes)) result = static_cast<double>(*integer);
  }
  if (!(result - result == 0)) wrong_type(*this, key, "a finite number");
  return result;
}

std::optional<bool> GgufFile::boolean(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (value->type != GgufType::Bool) wrong_type(*this, key, "a boolean");
  return value->bytes[0] == 1;
}

std::optional<std::string> GgufFile::text(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return std::nullopt;
  if (value->type != GgufType::String || !is_utf8(value->text)) wrong_type(*this, key, "a string in UTF-8");
  return std::string(value->text);
}

std::vector<int64_t> GgufFile::integers(std::string_view key) const {
  std::vector<int64_t> result;
  const GgufValue* value = find(key);
  if (!value) return result;
  if (value->type != GgufType::Array || value->element == GgufType::String) wrong_type(*this, key, "an array of integers");
  result.reserve(value->count);
  for (uint64_t i = 0; i < value->count; ++i) {
    const unsigned char* at = value->bytes + i * scalar_bytes(value->element);
    auto integer = value->element == GgufType::Bool ? std::optional<int64_t>(*at != 0) : integer_at(value->element, at);
    if (!integer) wrong_type(*this, key, "an array of integers");
    result.push_back(*integer);
  }
  return result;
}

std::vector<float> GgufFile::floats(std::string_view key) const {
  const GgufValue* value = find(key);
  if (!value) return {};
  if (value->type != GgufType::Array || value->element != GgufType::F32) wrong_type(*this, key, "an array of F32");
  std::vector<float> result(value->count);
  if (value->count) std::memcpy(result.data(), value->bytes, value->count * 4);
  return result;
}

}  // namespace loraine
