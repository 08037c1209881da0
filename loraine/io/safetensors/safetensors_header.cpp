// The safetensors header: u64 length, JSON, data. Nothing is allocated for tensors before all of it has been checked.
#include "loraine/io/safetensors/safetensors_header.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>

#include "loraine/core/error.h"
#include "loraine/io/files/json_text.h"

namespace loraine {
namespace {

constexpr uint64_t kMaxHeader = 100'000'000;  // as the reference
constexpr size_t kMaxDepth = 64, kMaxRank = 64;

struct TypeBits {
  const char* name;
  int bits;
};
constexpr TypeBits kTypes[] = {{"BOOL", 8},    {"F4", 4},      {"F6_E2M3", 6},     {"F6_E3M2", 6},    {"U8", 8},   {"I8", 8},
                               {"F8_E5M2", 8}, {"F8_E4M3", 8}, {"F8_E8M0", 8},     {"I16", 16},       {"U16", 16}, {"F16", 16},
                               {"BF16", 16},   {"I32", 32},    {"U32", 32},        {"F32", 32},       {"C64", 64}, {"F64", 64},
                               {"I64", 64},    {"U64", 64},    {"F8_E4M3FNUZ", 8}, {"F8_E5M2FNUZ", 8}};

// Receives the events of the JSON parser (which keeps no recursion) and builds the tensor list. Unknown fields of a tensor are passed over.
class HeaderEvents : public nlohmann::json_sax<nlohmann::json> {
 public:
  explicit HeaderEvents(const std::string& file) : file_(file) {}
  std::vector<SafetensorsTensor> tensors;
  std::map<std::string, std::string> metadata;

  bool null() override { return scalar("null"); }
  bool boolean(bool) override { return scalar("a boolean"); }
  bool number_float(number_float_t, const string_t&) override { return scalar("a fraction"); }
  bool binary(binary_t&) override { return scalar("binary data"); }
  bool number_integer(number_integer_t) override { return scalar("a negative number"); }
  bool number_unsigned(number_unsigned_t value) override {
    if (skip_ || place_ == Place::skipped) return scalar("");
    if (place_ == Place::shape) {
      if (value > static_cast<uint64_t>(INT64_MAX)) fail(fmt::format("a dimension of {}", value));
      if (tensors.back().shape.size() >= kMaxRank) fail("more than 64 dimensions");
      tensors.back().shape.push_back(static_cast<int64_t>(value));
      return true;
    }
    if (place_ == Place::offsets) {
      if (offsets_ == 2) fail("more than two data_offsets");
      (offsets_++ == 0 ? tensors.back().begin : tensors.back().end) = value;
      return true;
    }
    return scalar("a number");
  }
  bool string(string_t& value) override {
    if (skip_ || place_ == Place::skipped) return scalar("");
    if (place_ == Place::metadata) {
      metadata[key_] = value;
      return true;
    }
    if (place_ == Place::dtype) {
      tensors.back().dtype = value;
      place_ = Place::tensor;
      return true;
    }
    return scalar("a string");
  }
  bool start_object(size_t) override {
    if (open_if_skipped()) return true;
    if (place_ == Place::top) place_ = Place::names;
    else if (place_ == Place::names && key_ == "__metadata__" && !metadata_seen_) metadata_seen_ = true, place_ = Place::metadata;
    else if (place_ == Place::names) {
      tensors.push_back({key_});
      fields_ = 0;
      offsets_ = 0;
      place_ = Place::tensor;
    } else fail("an object where none belongs");
    return true;
  }
  bool key(string_t& name) override {
    if (skip_) return true;
    if (place_ == Place::names || place_ == Place::metadata) {
      auto& seen = place_ == Place::names ? names_ : metadata_keys_;
      key_ = name;
      if (!seen.insert(name).second) fail("the key " + in_quotes(name) + " twice; duplicate keys are refused");
      return true;
    }
    int field = name == "dtype" ? 1 : name == "shape" ? 2 : name == "data_offsets" ? 4 : 0;
    if (fields_ & field) fail("the field " + name + " twice");
    fields_ |= field;
    place_ = field == 1 ? Place::dtype : field == 2 ? Place::shape_next : field == 4 ? Place::offsets_next : Place::skipped;
    return true;
  }
  bool end_object() override {
    if (close_if_skipped()) return true;
    if (place_ == Place::tensor) {
      if (fields_ != 7) fail("no dtype, shape or data_offsets");
      if (offsets_ != 2) fail("fewer than two data_offsets");
      place_ = Place::names;
    } else if (place_ == Place::metadata) {
      place_ = Place::names;
    } else if (place_ == Place::names) {
      place_ = Place::done;
    }
    return true;
  }
  bool start_array(size_t) override {
    if (open_if_skipped()) return true;
    if (place_ == Place::shape_next) place_ = Place::shape;
    else if (place_ == Place::offsets_next) place_ = Place::offsets;
    else fail("a list where none belongs");
    return true;
  }
  bool end_array() override {
    if (close_if_skipped()) return true;
    place_ = Place::tensor;
    return true;
  }
  bool parse_error(size_t position, const std::string&, const nlohmann::detail::exception& error) override {
    throw Error(ErrorKind::bad_data, fmt::format("{}: its header is not valid JSON at byte {}: {}", file_, position, clean(error.what())),
                "the file is damaged or not a safetensors file");
  }

 private:
  enum class Place { top, names, metadata, tensor, dtype, shape_next, shape, offsets_next, offsets, skipped, done };

  static std::string clean(const std::string& what) {
    std::string text;
    for (char c : what.substr(0, 300)) text += static_cast<unsigned char>(c) < 0x20 || static_cast<unsigned char>(c) > 0x7e ? '?' : c;
    return text;
  }
  [[noreturn]] void fail(const std::string& what) const {
    std::string where;
    if (place_ == Place::metadata) where = fmt::format(", in \"__metadata__\" at {},", in_quotes(key_));
    else if (place_ == Place::names && !key_.empty()) where = fmt::format(", at {},", in_quotes(key_));
    else if (place_ != Place::names && !tensors.empty()) where = " of " + in_quotes(tensors.back().name);
    throw Error(ErrorKind::bad_data, fmt::format("{}: its header{} has {}", file_, where, what),
                place_ == Place::metadata
                    ? "\"__metadata__\" is an object of texts; the file is damaged, or another program wrote it wrongly"
                    : "the file is damaged");
  }
  bool scalar(const char* what) {
    if (skip_) return true;
    if (place_ == Place::skipped) {
      place_ = Place::tensor;
      return true;
    }
    if (place_ == Place::names && key_ == "__metadata__" && std::string_view(what) == "null") return true;
    fail(std::string(what) + " where none belongs");
  }
  bool open_if_skipped() {
    if (!skip_ && place_ != Place::skipped) return false;
    if (++skip_ > kMaxDepth) fail("too deep a nesting");
    return true;
  }
  bool close_if_skipped() {
    if (!skip_) return false;
    if (--skip_ == 0) place_ = Place::tensor;
    return true;
  }

  const std::string& file_;
  Place place_ = Place::top;
  std::string key_;
  std::set<std::string> names_, metadata_keys_;
  bool metadata_seen_ = false;
  int fields_ = 0, offsets_ = 0;
  size_t skip_ = 0;
};

[[noreturn]] void refuse(const std::string& file, const std::string& what) {
  throw Error(ErrorKind::bad_data, file + ": " + what, "the file is damaged, cut off or not a safetensors file");
}

void check_tensor(const std::string& file, const SafetensorsTensor& tensor) {
  int bits = safetensors_bits(tensor.dtype);
  if (bits == 0) refuse(file, in_quotes(tensor.name) + " has the unknown type " + in_quotes(tensor.dtype));
  uint64_t total = static_cast<uint64_t>(bits);
  bool overflow = false;
  for (int64_t size : tensor.shape) overflow |= __builtin_mul_overflow(total, static_cast<uint64_t>(size), &total);
  uint64_t elements = 1;  // the count alone must not wrap either, also when a later zero makes it small
  for (int64_t size : tensor.shape) overflow |= __builtin_mul_overflow(elements, static_cast<uint64_t>(size), &elements);
  if (overflow || total > static_cast<uint64_t>(INT64_MAX))
    refuse(file, fmt::format("the shape [{}] of {} is too large", fmt::join(tensor.shape, ", "), in_quotes(tensor.name)));
  if (total % 8 != 0) refuse(file, in_quotes(tensor.name) + " does not end on a byte");
  if (tensor.begin > tensor.end || tensor.end - tensor.begin != total / 8)
    refuse(file, fmt::format("{} has data_offsets [{}, {}], but {} of shape [{}] takes {} bytes", in_quotes(tensor.name), tensor.begin,
                             tensor.end, tensor.dtype, fmt::join(tensor.shape, ", "), total / 8));
}

}  // namespace

int safetensors_bits(std::string_view dtype) {
  for (const TypeBits& type : kTypes)
    if (dtype == type.name) return type.bits;
  return 0;
}

SafetensorsHeader parse_safetensors_header(const std::string& file, const unsigned char* bytes, uint64_t size) {
  if (size < 8) refuse(file, fmt::format("has {} bytes, expected at least the 8 of the header's length", size));
  uint64_t length = 0;
  std::memcpy(&length, bytes, 8);
  if (length > kMaxHeader) refuse(file, fmt::format("gives its header {} bytes, expected at most {}", length, kMaxHeader));
  if (length > size - 8) refuse(file, fmt::format("gives its header {} bytes, but only {} follow", length, size - 8));
  std::string_view text(reinterpret_cast<const char*>(bytes) + 8, length);
  if (text.empty() || text[0] != '{') refuse(file, "its header does not start with '{'");
  if (text.find('\0') != std::string_view::npos) refuse(file, "its header contains a NUL byte");
  if (!is_utf8(text)) refuse(file, "its header is not valid UTF-8");

  HeaderEvents events(file);
  nlohmann::json::sax_parse(text.begin(), text.end(), &events);
  SafetensorsHeader header{std::move(events.tensors), std::move(events.metadata), 8 + length};
  for (const SafetensorsTensor& tensor : header.tensors) check_tensor(file, tensor);

  // In the order of their offsets the tensors must follow each other without hole or overlap and end with the file.
  auto& tensors = header.tensors;
  std::sort(tensors.begin(), tensors.end(),
            [](const auto& a, const auto& b) { return a.begin != b.begin ? a.begin < b.begin : a.end < b.end; });
  uint64_t expected = 0;
  for (const SafetensorsTensor& tensor : tensors) {
    if (tensor.begin != expected)
      refuse(file, fmt::format("{} starts at {}, but the tensor before it ends at {}: {}", in_quotes(tensor.name), tensor.begin, expected,
                               tensor.begin < expected ? "they overlap" : "there is a hole"));
    expected = tensor.end;
  }
  if (expected != size - header.data_start)
    refuse(file, fmt::format("its tensors take {} bytes, but {} follow the header", expected, size - header.data_start));
  std::sort(tensors.begin(), tensors.end(), [](const auto& a, const auto& b) { return a.name < b.name; });
  return header;
}

}  // namespace loraine
