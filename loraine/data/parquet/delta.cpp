// Blocks of differences, packed in as many bits as they need. Called through delta.h.
#include "loraine/data/parquet/delta.h"

#include <algorithm>

#include "loraine/core/error.h"

namespace loraine::parquet {
namespace {

constexpr size_t kMostText = size_t{1} << 30;  // bytes of the texts of one page

[[noreturn]] void cut_off() { throw Error(ErrorKind::bad_data, "a page's differences are cut off or do not fit"); }

uint64_t varint(std::string_view bytes, size_t& at) {
  uint64_t value = 0;
  for (int shift = 0; shift < 64; shift += 7) {
    if (at >= bytes.size()) cut_off();
    const auto next = static_cast<uint8_t>(bytes[at++]);
    value |= static_cast<uint64_t>(next & 0x7f) << shift;
    if (next < 0x80) return value;
  }
  cut_off();
}

uint64_t zigzag(std::string_view bytes, size_t& at) {
  const uint64_t value = varint(bytes, at);
  return (value >> 1) ^ (0 - (value & 1));
}

// `width` bits from bit `bit` on, the lowest first.
uint64_t bits(std::string_view bytes, size_t bit, size_t width) {
  uint64_t value = 0;
  for (size_t k = 0; k < width;) {
    const size_t shift = (bit + k) % 8, taken = std::min(8 - shift, width - k);
    const uint64_t byte = static_cast<uint8_t>(bytes[(bit + k) / 8]);
    value |= ((byte >> shift) & ((1u << taken) - 1)) << k;
    k += taken;
  }
  return value;
}

std::vector<size_t> read_lengths(std::string_view bytes, size_t& at, int64_t count) {
  std::vector<size_t> lengths;
  for (const int64_t length : read_delta(bytes, at, count)) {
    if (length < 0 || static_cast<uint64_t>(length) > kMostText) cut_off();
    lengths.push_back(static_cast<size_t>(length));
  }
  return lengths;
}

}  // namespace

std::vector<int64_t> read_delta(std::string_view bytes, size_t& at, int64_t count) {
  const uint64_t block = varint(bytes, at), parts = varint(bytes, at), total = varint(bytes, at);
  uint64_t value = zigzag(bytes, at);
  if (total != static_cast<uint64_t>(count) || parts == 0 || block % 128 != 0 || block > 1 << 24 || parts > block / 32 ||
      block % parts != 0 || block / parts % 32 != 0)
    cut_off();
  std::vector<int64_t> out;
  if (count == 0) return out;
  out.push_back(static_cast<int64_t>(value));
  const size_t per_part = block / parts, all = static_cast<size_t>(count);
  while (out.size() < all) {
    const uint64_t least = zigzag(bytes, at);
    if (parts > bytes.size() - at) cut_off();
    const std::string_view widths = bytes.substr(at, parts);
    at += parts;
    for (size_t part = 0; part < parts && out.size() < all; ++part) {  // those behind the last value have no bytes
      const size_t width = static_cast<uint8_t>(widths[part]), size = width * per_part / 8;
      if (width > 64 || size > bytes.size() - at) cut_off();
      for (size_t i = 0; i < per_part && out.size() < all; ++i) {
        value += least + bits(bytes.substr(at, size), i * width, width);
        out.push_back(static_cast<int64_t>(value));
      }
      at += size;
    }
  }
  return out;
}

std::vector<std::string_view> read_delta_lengths(std::string_view bytes, int64_t count) {
  size_t at = 0;
  std::vector<std::string_view> texts;
  for (const size_t length : read_lengths(bytes, at, count)) {
    if (length > bytes.size() - at) cut_off();
    texts.push_back(bytes.substr(at, length));
    at += length;
  }
  return texts;
}

PrefixedTexts read_delta_prefixes(std::string_view bytes, int64_t count) {
  size_t at = 0;
  const std::vector<size_t> prefixes = read_lengths(bytes, at, count), suffixes = read_lengths(bytes, at, count);
  PrefixedTexts texts;
  size_t before = 0;  // length of the text before
  for (size_t i = 0; i < prefixes.size(); ++i) {
    if (prefixes[i] > before || suffixes[i] > bytes.size() - at || prefixes[i] + suffixes[i] > kMostText - texts.all.size()) cut_off();
    const size_t start = texts.all.size() - before;
    texts.all.append(texts.all, start, prefixes[i]);
    texts.all += bytes.substr(at, suffixes[i]);
    at += suffixes[i];
    texts.lengths.push_back(before = prefixes[i] + suffixes[i]);
  }
  return texts;
}

}  // namespace loraine::parquet
