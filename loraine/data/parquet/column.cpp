// Pages, levels and values. Called through column.h.
#include "loraine/data/parquet/column.h"

#include <fmt/format.h>

#include <cstring>

#include "loraine/core/error.h"
#include "loraine/data/parquet/codecs.h"
#include "loraine/data/parquet/delta.h"
#include "loraine/data/parquet/thrift.h"

namespace loraine::parquet {
namespace {

constexpr int64_t kMostPage = int64_t{1} << 30;  // bytes of one page once unpacked

enum Encoding { kPlain = 0, kPlainDictionary = 2, kRle = 3, kDelta = 5, kDeltaLength = 6, kDeltaBytes = 7, kRleDictionary = 8 };
enum PageKind { kDataPage = 0, kIndexPage = 1, kDictionaryPage = 2, kDataPage2 = 3 };

[[noreturn]] void refuse(const std::string& what) { throw Error(ErrorKind::bad_data, what); }

// A number of `count` bytes, the lowest first.
uint64_t little_endian(std::string_view bytes, size_t at, size_t count) {
  uint64_t value = 0;
  for (size_t i = count; i-- > 0;) value = value << 8 | static_cast<uint8_t>(bytes[at + i]);
  return value;
}

int bits_of(int most) {
  int bits = 0;
  for (; most > 0; most >>= 1) ++bits;
  return bits;
}

// Parquet's hybrid of runs and packed bits: `count` numbers of `width` bits.
template <class Out>
void read_hybrid(std::string_view bytes, int width, int64_t count, std::vector<Out>& out) {
  if (width < 0 || width > 32) refuse(fmt::format("numbers of {} bits", width));
  const size_t before = out.size(), all = before + static_cast<size_t>(count), whole = static_cast<size_t>(width + 7) / 8;
  out.reserve(all);
  size_t at = 0;
  while (out.size() < all) {
    uint64_t head = 0;
    for (int shift = 0;; shift += 7) {
      if (at >= bytes.size() || shift > 28) refuse("a page's runs are cut off");
      const auto next = static_cast<uint8_t>(bytes[at++]);
      head |= static_cast<uint64_t>(next & 0x7f) << shift;
      if (next < 0x80) break;
    }
    const size_t left = all - out.size();
    if (head & 1) {  // groups of eight, packed from the lowest bit on
      const size_t size = std::min<uint64_t>((head >> 1) * static_cast<uint64_t>(width), bytes.size() - at);
      const size_t numbers = std::min<uint64_t>((head >> 1) * 8, left);
      if (size * 8 < numbers * static_cast<size_t>(width)) refuse("a page's packed numbers are cut off");
      uint64_t held = 0;
      int bits = 0;
      size_t from = at;
      for (size_t i = 0; i < numbers; ++i) {
        for (; bits < width; bits += 8) held |= static_cast<uint64_t>(static_cast<uint8_t>(bytes[from++])) << bits;
        out.push_back(static_cast<Out>(held & ((uint64_t{1} << width) - 1)));
        held >>= width;
        bits -= width;
      }
      at += size;
    } else {
      if (head == 0 || whole > bytes.size() - at) refuse("a page's runs are cut off");
      out.insert(out.end(), std::min<uint64_t>(head >> 1, left), static_cast<Out>(little_endian(bytes, at, whole)));
      at += whole;
    }
  }
}

struct ColumnReader {
  const Field& leaf;
  Column column = {};
  std::vector<Number> dictionary_numbers = {};
  std::vector<std::string_view> dictionary_texts = {};
  bool has_dictionary = false;

  bool is_text() const { return leaf.physical >= Physical::bytes || leaf.physical == Physical::int96; }

  void plain(std::string_view bytes, int64_t count, std::vector<Number>& numbers, std::vector<std::string_view>& texts) const {
    const auto n = static_cast<size_t>(count);
    const auto fixed = [&](size_t width) {
      if (n > bytes.size() / width) refuse("a page ends before its values do");
      return width;
    };
    switch (leaf.physical) {
      case Physical::boolean:
        if (n > bytes.size() * 8) refuse("a page ends before its values do");
        for (size_t i = 0; i < n; ++i) numbers.push_back({.whole = (static_cast<uint8_t>(bytes[i / 8]) >> (i % 8)) & 1});
        return;
      case Physical::int32:
        fixed(4);
        for (size_t i = 0; i < n; ++i) {
          const auto value = static_cast<uint32_t>(little_endian(bytes, 4 * i, 4));
          numbers.push_back({.whole = leaf.is_unsigned ? int64_t{value} : int64_t{static_cast<int32_t>(value)}});
        }
        return;
      case Physical::int64:
        fixed(8);
        for (size_t i = 0; i < n; ++i) numbers.push_back({.whole = static_cast<int64_t>(little_endian(bytes, 8 * i, 8))});
        return;
      case Physical::float32:
      case Physical::float64: {
        const size_t width = fixed(leaf.physical == Physical::float32 ? 4 : 8);
        for (size_t i = 0; i < n; ++i) {
          float narrow = 0;
          double wide = 0;
          if (width == 4) std::memcpy(&narrow, bytes.data() + 4 * i, 4);
          else std::memcpy(&wide, bytes.data() + 8 * i, 8);
          numbers.push_back({.real = width == 4 ? double{narrow} : wide});
        }
        return;
      }
      case Physical::int96:
      case Physical::fixed_bytes: {
        const size_t width = fixed(leaf.physical == Physical::int96 ? 12 : static_cast<size_t>(leaf.width));
        for (size_t i = 0; i < n; ++i) texts.push_back(bytes.substr(width * i, width));
        return;
      }
      case Physical::bytes:
        for (size_t i = 0, at = 0; i < n; ++i) {
          if (bytes.size() - at < 4) refuse("a page ends before its values do");
          const uint64_t size = little_endian(bytes, at, 4);
          if (size > bytes.size() - at - 4) refuse("a text is longer than its page");
          texts.push_back(bytes.substr(at + 4, size));
          at += 4 + size;
        }
        return;
    }
  }

  void from_dictionary(std::string_view bytes, int64_t count) {
    if (!has_dictionary) refuse("a page has numbers of a dictionary that is not there");
    if (count == 0) return;
    if (bytes.empty()) refuse("a page ends before its values do");
    std::vector<uint32_t> indices;
    read_hybrid(bytes.substr(1), static_cast<uint8_t>(bytes[0]), count, indices);
    const size_t size = is_text() ? dictionary_texts.size() : dictionary_numbers.size();
    for (const uint32_t i : indices) {
      if (i >= size) refuse(fmt::format("number {} of a dictionary of {}", i, size));
      if (is_text()) column.texts.push_back(dictionary_texts[i]);
      else column.numbers.push_back(dictionary_numbers[i]);
    }
  }

  void values(std::string_view bytes, int64_t encoding, int64_t count) {
    if (encoding == kPlain) return plain(bytes, count, column.numbers, column.texts);
    if (encoding == kPlainDictionary || encoding == kRleDictionary) return from_dictionary(bytes, count);
    if (encoding == kRle && leaf.physical == Physical::boolean) {
      if (bytes.size() < 4) refuse("a page ends before its values do");
      std::vector<uint8_t> bits;
      read_hybrid(bytes.substr(4), 1, count, bits);
      for (const uint8_t bit : bits) column.numbers.push_back({.whole = bit});
      return;
    }
    const bool whole = leaf.physical == Physical::int32 || leaf.physical == Physical::int64, text = leaf.physical >= Physical::bytes;
    if (encoding == kDelta && whole) return whole_numbers(bytes, count);
    if (encoding == kDeltaLength && text) {
      for (const std::string_view one : read_delta_lengths(bytes, count)) column.texts.push_back(one);
      return;
    }
    if (encoding == kDeltaBytes && text) return prefixed_texts(bytes, count);
    constexpr const char* kNames[] = {"PLAIN",          "GROUP_VAR_INT",       "PLAIN_DICTIONARY",        "RLE",
                                      "BIT_PACKED",     "DELTA_BINARY_PACKED", "DELTA_LENGTH_BYTE_ARRAY", "DELTA_BYTE_ARRAY",
                                      "RLE_DICTIONARY", "BYTE_STREAM_SPLIT"};
    refuse(fmt::format("its values are encoded as {}; PLAIN, RLE, dictionaries and differences are read",
                       encoding >= 0 && encoding < 10 ? kNames[encoding] : fmt::format("number {}", encoding)));
  }

  void whole_numbers(std::string_view bytes, int64_t count) {
    size_t at = 0;
    for (const int64_t value : read_delta(bytes, at, count)) {
      const auto low = static_cast<uint32_t>(value);
      const int64_t narrow = leaf.is_unsigned ? int64_t{low} : int64_t{static_cast<int32_t>(low)};
      column.numbers.push_back({.whole = leaf.physical == Physical::int32 ? narrow : value});
    }
  }

  void prefixed_texts(std::string_view bytes, int64_t count) {
    PrefixedTexts texts = read_delta_prefixes(bytes, count);
    std::string_view all = keep(std::move(texts.all));
    for (const size_t length : texts.lengths) {
      column.texts.push_back(all.substr(0, length));
      all.remove_prefix(length);
    }
  }

  // Levels of a page; how many of its values are there.
  int64_t definitions(std::string_view bytes, int64_t count) {
    if (leaf.definition == 0) return count;
    const size_t before = column.definitions.size();
    read_hybrid(bytes, bits_of(leaf.definition), count, column.definitions);
    int64_t there = 0;
    for (size_t i = before; i < column.definitions.size(); ++i) {
      if (column.definitions[i] > leaf.definition) refuse("a level that its schema does not have");
      there += column.definitions[i] == leaf.definition;
    }
    return there;
  }
  void repetitions(std::string_view bytes, int64_t count) {
    if (leaf.repetition == 0) return;
    read_hybrid(bytes, bits_of(leaf.repetition), count, column.repetitions);
    for (size_t i = column.repetitions.size() - static_cast<size_t>(count); i < column.repetitions.size(); ++i)
      if (column.repetitions[i] > leaf.repetition) refuse("a level that its schema does not have");
  }

  // Levels of a first page version have their size before them.
  static std::string_view sized(std::string_view& bytes) {
    if (bytes.size() < 4) refuse("a page ends within its levels");
    const uint64_t size = little_endian(bytes, 0, 4);
    if (size > bytes.size() - 4) refuse("a page ends within its levels");
    const std::string_view part = bytes.substr(4, size);
    bytes.remove_prefix(4 + size);
    return part;
  }

  void data_page(const Thrift& head, std::string_view bytes) {
    const int64_t count = count_of(head);
    if ((leaf.definition > 0 && head.at(3).number != kRle) || (leaf.repetition > 0 && head.at(4).number != kRle))
      refuse("its levels are encoded as BIT_PACKED; RLE is read");
    if (leaf.repetition > 0) repetitions(sized(bytes), count);
    const int64_t there = definitions(leaf.definition > 0 ? sized(bytes) : std::string_view(), count);
    values(bytes, head.at(2).number, there);
    column.values += count;
  }

  void data_page_2(const Thrift& head, std::string_view packed, int codec, size_t size) {
    const int64_t count = count_of(head), definition_bytes = head.at(5).number, repetition_bytes = head.at(6).number;
    if (definition_bytes < 0 || repetition_bytes < 0 || static_cast<uint64_t>(definition_bytes) > packed.size() ||
        static_cast<uint64_t>(repetition_bytes) > packed.size() - static_cast<uint64_t>(definition_bytes))
      refuse("a page ends within its levels");
    const auto levels = static_cast<size_t>(definition_bytes + repetition_bytes);
    if (levels > size) refuse("a page ends within its levels");
    repetitions(packed.substr(0, static_cast<size_t>(repetition_bytes)), count);
    const int64_t there = definitions(packed.substr(static_cast<size_t>(repetition_bytes), static_cast<size_t>(definition_bytes)), count);
    const bool compressed = !head.has(7) || head.at(7).number != 0;
    packed.remove_prefix(levels);
    const bool none = packed.empty() && size == levels;
    values(none ? std::string_view() : keep(unpack(compressed ? codec : 0, packed, size - levels)), head.at(4).number, there);
    column.values += count;
  }

  std::string_view keep(std::string page) { return *column.pages.emplace_back(std::make_unique<const std::string>(std::move(page))); }

  int64_t count_of(const Thrift& head) const {
    const int64_t count = head.at(1).number;
    if (count < 0 || count > most_values - column.values) refuse(fmt::format("a page of {} values, of a column of {}", count, most_values));
    return count;
  }

  void dictionary_page(const Thrift& head, std::string_view bytes) {
    const int64_t count = head.at(1).number, encoding = head.at(2).number;
    if (has_dictionary || count < 0 || (encoding != kPlain && encoding != kPlainDictionary)) refuse("a dictionary that cannot be read");
    plain(bytes, count, dictionary_numbers, dictionary_texts);
    has_dictionary = true;
  }

  int64_t most_values = 0;  // of the chunk

  void read(std::string_view bytes, const Chunk& chunk) {
    most_values = chunk.values;
    size_t at = 0;
    while (column.values < chunk.values) {
      const Thrift head = read_thrift(bytes, at);
      const int64_t kind = head.at(1).number, size = head.at(2).number, packed_size = head.at(3).number;
      if (size < 0 || size > kMostPage || packed_size < 0 || static_cast<uint64_t>(packed_size) > bytes.size() - at)
        refuse(fmt::format("a page of {} bytes ({} compressed) in {}", size, packed_size, bytes.size() - at));
      const std::string_view packed = bytes.substr(at, static_cast<size_t>(packed_size));
      at += static_cast<size_t>(packed_size);
      if (kind == kDataPage || kind == kDictionaryPage) {
        const std::string_view page = keep(unpack(chunk.codec, packed, static_cast<size_t>(size)));
        if (kind == kDataPage) data_page(head.at(5), page);
        else dictionary_page(head.at(7), page);
      } else if (kind == kDataPage2) {
        data_page_2(head.at(8), packed, chunk.codec, static_cast<size_t>(size));
      } else if (kind != kIndexPage) {
        refuse(fmt::format("a page of a kind that is not known ({})", kind));
      }
    }
  }
};

}  // namespace

Column read_column(std::string_view file, const Chunk& chunk, const Field& leaf) {
  ColumnReader reader{leaf};
  try {
    reader.read(file.substr(chunk.offset, chunk.bytes), chunk);
  } catch (const Error& e) { throw with_context(e, fmt::format("column `{}`", leaf.name)); }
  return std::move(reader.column);
}

}  // namespace loraine::parquet
