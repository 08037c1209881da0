// See marks.h.
#include "loraine/cli/data/marks.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "loraine/core/batch.h"

namespace loraine {

std::vector<Stretch> stretches_of(std::span<const int32_t> labels, const Example& example, const Tokenizer* special) {
  std::vector<Stretch> all;
  for (size_t i = 0; i + static_cast<size_t>(example.padding) < example.input_ids.size(); ++i) {
    const Mark mark = labels[i] != kIgnoreLabel ? Mark::trained : Mark::prompt;
    const bool apart = special && special->is_special(example.input_ids[i]);
    if (all.empty() || all.back().mark != mark || apart || all.back().special) all.push_back({i, i, mark, apart});
    all.back().end = i + 1;
  }
  return all;
}

MarkedTokens marked_tokens(const Example& example, const WholeSample* whole, const Tokenizer* tokenizer) {
  if (!whole || whole->ids.size() <= example.input_ids.size())
    return {{example.input_ids.begin(), example.input_ids.end()}, stretches_of(example.labels, example, tokenizer)};
  MarkedTokens made{whole->ids, {}};
  size_t at = 0;  // in the example
  for (size_t i = 0; i < whole->ids.size(); ++i) {
    const Mark mark = !whole->kept[i] ? Mark::cut : example.labels[at] != kIgnoreLabel ? Mark::trained : Mark::prompt;
    at += whole->kept[i];
    const bool apart = tokenizer && tokenizer->is_special(whole->ids[i]);
    auto& all = made.stretches;
    if (all.empty() || all.back().mark != mark || apart || all.back().special) all.push_back({i, i, mark, apart});
    all.back().end = i + 1;
  }
  return made;
}

std::string text_between(std::span<const int32_t> ids, const Stretch& stretch, const Tokenizer* tokenizer) {
  if (!tokenizer) return fmt::format("{}", fmt::join(ids.subspan(stretch.begin, stretch.end - stretch.begin), " "));
  const std::string before = tokenizer->decode(ids.first(stretch.begin)), whole = tokenizer->decode(ids.first(stretch.end));
  if (whole.starts_with(before)) return whole.substr(before.size());
  return tokenizer->decode(ids.subspan(stretch.begin, stretch.end - stretch.begin));
}

std::string plain_letters(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    const bool control = (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7f;
    const bool c1 = byte == 0xc2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xa0;
    if (control) out += fmt::format("\\x{:02x}", byte);
    else if (c1) out += fmt::format("\\x{:02x}", static_cast<unsigned char>(text[++i]));
    else out += text[i];
  }
  return out;
}
}  // namespace loraine
