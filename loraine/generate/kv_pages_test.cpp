// Pages and their holders; prompts that share a beginning; what is let go first.
#include "loraine/generate/kv_pages.h"

#include <gtest/gtest.h>

#include <numeric>

namespace loraine::kv_pages_test {
namespace {

std::vector<int32_t> ids(int64_t pages, int32_t seed = 0) {
  std::vector<int32_t> out(static_cast<size_t>(pages * kKvPage));
  std::iota(out.begin(), out.end(), seed);
  return out;
}
std::vector<int32_t> taken(KvPages& pages, int64_t count) {
  std::vector<int32_t> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(pages.take());
  return out;
}
void release(KvPages& pages, const std::vector<int32_t>& all) {
  for (int32_t page : all) pages.release(page);
}

TEST(KvPages, ArePassedOnWhenNobodyHoldsThem) {
  KvPages pages(2);
  const int32_t a = pages.take(), b = pages.take();
  EXPECT_NE(a, b);
  EXPECT_EQ(pages.take(), -1);
  pages.hold(a);
  pages.release(a);
  EXPECT_EQ(pages.take(), -1);
  pages.release(a);
  EXPECT_EQ(pages.take(), a);
}

TEST(PrefixTree, FindsWholePagesOfTheSameKeyAlone) {
  KvPages pages(10);
  PrefixTree tree(pages);
  std::vector<int32_t> mine = taken(pages, 3);
  const std::vector<int32_t> prompt = ids(3);
  tree.keep("k", prompt, mine);
  EXPECT_EQ(tree.size(), 3);
  EXPECT_TRUE(tree.find("other", prompt).empty());
  EXPECT_TRUE(tree.find("k", ids(3, 1)).empty());
  EXPECT_EQ(tree.find("k", std::span(prompt).first(150)), std::vector<int32_t>(mine.begin(), mine.begin() + 2));
  std::vector<int32_t> longer = prompt;
  longer.resize(400, 5);
  EXPECT_EQ(tree.find("k", longer), mine);
  EXPECT_EQ(pages.holders(mine[0]), 4);  // the first taker, the tree, two that found it
  EXPECT_EQ(tree.in_use("k", prompt), 3);
  EXPECT_FALSE(tree.evict());  // all are held
}

// Two that computed the same at once: the second one gets the first one's pages.
TEST(PrefixTree, KeepsOnePageForTheSameRows) {
  KvPages pages(10);
  PrefixTree tree(pages);
  std::vector<int32_t> first = taken(pages, 2), second = taken(pages, 2);
  const std::vector<int32_t> own = second;
  tree.keep("k", ids(2), first);
  tree.keep("k", ids(2), second);
  EXPECT_EQ(second, first);
  EXPECT_EQ(pages.holders(own[0]), 0);
  EXPECT_EQ(tree.size(), 2);
}

TEST(PrefixTree, LetsGoOfWhatWasUsedLongestAgoFromTheEnd) {
  KvPages pages(10);
  PrefixTree tree(pages);
  std::vector<int32_t> a = taken(pages, 2), b = taken(pages, 2);
  tree.keep("k", ids(2), a);
  tree.keep("k", ids(2, 1000), b);
  release(pages, a);
  release(pages, b);
  EXPECT_EQ(tree.evictable(), 4);
  release(pages, tree.find("k", ids(2)));  // a is used now
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(pages.holders(b[1]), 0);
  EXPECT_EQ(pages.holders(b[0]), 1);
  const std::vector<int32_t> held = tree.find("k", std::span<const int32_t>(ids(1, 1000)));
  EXPECT_EQ(tree.evictable(), 2);
  EXPECT_TRUE(tree.evict());
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(pages.holders(a[0]), 0);
  EXPECT_FALSE(tree.evict());
  release(pages, held);
  EXPECT_TRUE(tree.evict());
  EXPECT_EQ(tree.size(), 0);
  EXPECT_EQ(pages.free(), 10);
  tree.keep("k", ids(1), std::span(a).first(0));  // nothing to keep
  EXPECT_EQ(tree.size(), 0);
}

}  // namespace
}  // namespace loraine::kv_pages_test
