// The table lies in the program's read-only data: nothing of it is read before the first look-up.
#include "loraine/eval/word_table.h"

#include <algorithm>

#include "loraine/core/error.h"

#ifdef LORAINE_WORD_TABLE
asm(".pushsection .rodata\n"
    ".balign 8\n"
    "loraine_words_begin:\n"
    ".incbin \"" LORAINE_WORD_TABLE
    "\"\n"
    "loraine_words_end:\n"
    ".popsection\n");
extern "C" const unsigned char loraine_words_begin[], loraine_words_end[];
#endif

namespace loraine {
namespace {

#ifdef LORAINE_WORD_TABLE
// Hands out one part after the other; each begins at a multiple of 8.
struct Parts {
  const unsigned char* at;
  template <typename T>
  std::span<const T> take(size_t count) {
    const std::span<const T> part(reinterpret_cast<const T*>(at), count);
    at += (part.size_bytes() + 7) / 8 * 8;
    return part;
  }
};

WordTable built_in_table() {
  Parts parts{loraine_words_begin};
  WordTable table;
  const auto sizes = parts.take<uint64_t>(3);
  table.total = sizes[2];
  table.start = parts.take<PlaceValues>(1)[0];
  std::ranges::copy(parts.take<PlaceValues>(4), table.after.begin());
  table.emitted = parts.take<PlaceValues>(kHan);
  table.first = parts.take<uint32_t>(0x10001);
  table.starts = parts.take<uint32_t>(sizes[0] + 1);
  table.frequency = parts.take<uint32_t>(sizes[0]);
  table.characters = parts.take<char16_t>(sizes[1]);
  if (parts.at != loraine_words_end)
    throw Error(ErrorKind::internal, "the table of Chinese words is not laid out as this program reads it", "build the program anew");
  return table;
}
#endif

}  // namespace

WordTable::Range WordTable::beginning_with(char32_t c) const {
  if (c > 0xFFFF) return {};
  return {first[c], first[c + 1], 1};
}

// The first of the words [begin, end) whose character at `place` is c or a later one.
uint32_t WordTable::first_with(uint32_t begin, uint32_t end, uint32_t place, char32_t c) const {
  while (begin < end) {
    const uint32_t middle = begin + (end - begin) / 2;
    if (characters[starts[middle] + place] < c) begin = middle + 1;
    else end = middle;
  }
  return begin;
}

WordTable::Range WordTable::narrowed(const Range& range, char32_t next) const {
  const uint32_t shortest = frequency_of(range) > 0;  // the word that has no next character
  const uint32_t begin = first_with(range.begin + shortest, range.end, range.length, next);
  return {begin, first_with(begin, range.end, range.length, next + 1), range.length + 1};
}

uint32_t WordTable::frequency_of(const Range& range) const {
  if (range.empty() || starts[range.begin + 1] - starts[range.begin] != range.length) return 0;
  return frequency[range.begin];
}

uint32_t WordTable::frequency_of(std::u32string_view word) const {
  Range range = beginning_with(word.front());
  for (char32_t next : word.substr(1)) range = narrowed(range, next);
  return frequency_of(range);
}

const WordTable* word_table() {
#ifdef LORAINE_WORD_TABLE
  static const WordTable table = built_in_table();
  return &table;
#else
  return nullptr;
#endif
}

}  // namespace loraine
