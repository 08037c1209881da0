// Stop strings however the text is cut, against looking for them in the whole text.
#include "loraine/serve/text_stream.h"

#include <gtest/gtest.h>

#include <random>

namespace loraine::text_stream_test {
namespace {

struct Cut {
  std::string text;
  std::optional<std::string> by;
};

Cut in_pieces(const std::string& text, const std::vector<std::string>& stops, bool include, std::mt19937& random, size_t longest) {
  StopStrings cutter(stops, include);
  Cut out;
  for (size_t at = 0; at < text.size();) {
    size_t n = 1 + random() % longest;
    while (at + n < text.size() && (static_cast<unsigned char>(text[at + n]) & 0xC0) == 0x80) ++n;  // whole characters, as they come
    out.text += cutter.push(text.substr(at, n));
    at += n;
    if (cutter.stopped_by()) break;
  }
  out.by = cutter.stopped_by();
  out.text += cutter.finish();
  return out;
}

// The stop string whose end comes first; of those with the same end the longest.
Cut whole(const std::string& text, const std::vector<std::string>& stops, bool include) {
  for (size_t end = 1; end <= text.size(); ++end) {
    const std::string* which = nullptr;
    for (const std::string& stop : stops)
      if (end >= stop.size() && text.compare(end - stop.size(), stop.size(), stop) == 0 && (!which || stop.size() > which->size()))
        which = &stop;
    if (which) return {text.substr(0, include ? end : end - which->size()), *which};
  }
  return {text, {}};
}

TEST(StopStrings, TextInPiecesIsCutAsTheWhole) {
  std::mt19937 random(3);
  const std::vector<std::vector<std::string>> lists = {{"ab"}, {"aab", "ba"}, {"bbb", "a你"}, {"你好", "好a"}, {"abab", "b"}, {}};
  const std::vector<std::string> letters = {"a", "b", "a", "b", "你", "好"};
  for (int round = 0; round < 4000; ++round) {
    const auto& stops = lists[random() % lists.size()];
    std::string text;
    for (size_t n = random() % 14; n > 0; --n) text += letters[random() % letters.size()];
    const bool include = random() % 2;
    const Cut wanted = whole(text, stops, include);
    const Cut one = in_pieces(text, stops, include, random, 1);  // a character at a time
    EXPECT_EQ(one.text, wanted.text) << text;
    EXPECT_EQ(one.by, wanted.by) << text;
  }
}

TEST(StopStrings, NothingThatMayBeginOneIsGivenAway) {
  StopStrings cutter({"\nUser:", "END"}, false);
  EXPECT_EQ(cutter.push("hello\n"), "hello");
  EXPECT_EQ(cutter.push("Us"), "");
  EXPECT_EQ(cutter.push("ing E"), "\nUsing ");
  EXPECT_EQ(cutter.push("N"), "");
  EXPECT_EQ(cutter.push("d"), "ENd");
  EXPECT_EQ(cutter.push(" END more"), " ");
  EXPECT_EQ(cutter.stopped_by(), "END");
  EXPECT_EQ(cutter.push("what comes later"), "");
  EXPECT_EQ(cutter.finish(), "");
}

TEST(StopStrings, WhatIsHeldComesAtTheEnd) {
  StopStrings cutter({"END"}, true);
  EXPECT_EQ(cutter.push("an EN"), "an ");
  EXPECT_EQ(cutter.finish(), "EN");
}

}  // namespace
}  // namespace loraine::text_stream_test
