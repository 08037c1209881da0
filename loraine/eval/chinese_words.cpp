// Two dynamic programs. Sums are formed in jieba's order, in double: equal sums are equal there and here.
#include "loraine/eval/chinese_words.h"

#include <array>
#include <cmath>

namespace loraine {
namespace {

// Which places may precede a place, in the order that decides between equals: the later one wins.
constexpr std::array<std::array<WordPlace, 2>, 4> kBefore = {{{kEnd, kSingle}, {kBegin, kMiddle}, {kBegin, kMiddle}, {kEnd, kSingle}}};

const PlaceValues& emitted(const WordTable& table, char32_t c) { return table.emitted[c - 0x4E00]; }

}  // namespace

std::vector<size_t> likeliest_words(const WordTable& table, std::u32string_view block) {
  const double log_total = std::log(static_cast<double>(table.total));
  std::vector<double> best(block.size() + 1, 0.0);  // of the text from here on
  std::vector<size_t> ends(block.size());
  for (size_t at = block.size(); at-- > 0;) {
    const auto offer = [&](size_t end, uint32_t frequency) {
      const double value = std::log(static_cast<double>(frequency)) - log_total + best[end];
      if (ends[at] != 0 && value < best[at]) return;
      best[at] = value;
      ends[at] = end;
    };
    WordTable::Range range = table.beginning_with(block[at]);
    for (size_t end = at + 1; !range.empty(); range = table.narrowed(range, block[end++])) {
      if (const uint32_t frequency = table.frequency_of(range)) offer(end, frequency);
      if (end == block.size()) break;
    }
    if (ends[at] == 0) offer(at + 1, 1);
  }
  return ends;
}

std::vector<size_t> likely_unknown_words(const WordTable& table, std::u32string_view run) {
  std::vector<std::array<WordPlace, 4>> came_from(run.size());  // [characters][place]
  PlaceValues value{};                                          // of the likeliest way to each place of the character
  for (size_t place = 0; place < 4; ++place) value[place] = table.start[place] + emitted(table, run[0])[place];
  for (size_t at = 1; at < run.size(); ++at) {
    PlaceValues next{};
    for (size_t place = 0; place < 4; ++place) {
      const auto by = [&](WordPlace before) { return value[before] + table.after[before][place] + emitted(table, run[at])[place]; };
      const auto [one, other] = kBefore[place];
      const WordPlace before = by(one) > by(other) ? one : other;
      next[place] = by(before);
      came_from[at][place] = before;
    }
    value = next;
  }
  std::vector<size_t> ends;
  WordPlace place = value[kEnd] > value[kSingle] ? kEnd : kSingle;
  for (size_t at = run.size(); at-- > 0; place = came_from[at][place])
    if (place == kEnd || place == kSingle) ends.push_back(at + 1);
  return {ends.rbegin(), ends.rend()};
}

}  // namespace loraine
