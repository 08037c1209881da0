// Examples in memory and on disk are the same examples, however they are copied and read.
#include "loraine/data/examples/example_store.h"

#include <gtest/gtest.h>
#include <signal.h>
#include <sys/resource.h>

#include <filesystem>
#include <fstream>
#include <numeric>
#include <string>

#include "loraine/core/error.h"
#include "loraine/data/dataset.h"

namespace loraine::example_store_test {
namespace {

namespace fs = std::filesystem;

// Of different lengths, some packed, some with the labels that their ids are.
std::vector<Example> examples_of(int32_t count) {
  std::vector<Example> made;
  for (int32_t i = 0; i < count; ++i) {
    std::vector<int32_t> ids(static_cast<size_t>(i % 37)), labels(ids.size());
    std::iota(ids.begin(), ids.end(), i);
    std::iota(labels.begin(), labels.end(), -i);
    Example one{std::move(ids), std::move(labels)};
    if (i % 3 == 0) one.labels = one.input_ids;
    if (i % 5 == 0) one.starts = {0, i};
    made.push_back(std::move(one));
  }
  return made;
}

bool same(const std::vector<Example>& a, const std::vector<Example>& b) {
  return std::ranges::equal(
      a, b, [](const Example& x, const Example& y) { return x.input_ids == y.input_ids && x.labels == y.labels && x.starts == y.starts; });
}

// In calls of up to seven.
std::vector<Example> kept(ExampleStore& store, std::vector<Example> examples) {
  for (size_t first = 0; first < examples.size(); first += 7)
    store.keep(std::span(examples).subspan(first, std::min<size_t>(7, examples.size() - first)));
  return examples;
}

ExampleStoreOptions small(size_t in_memory) {
  return {.folder = fs::temp_directory_path().string(), .in_memory = in_memory, .piece = 4096, .resident = 8192};
}

// Bytes of a mapping of files that this process has in memory.
size_t resident_of_files() {
  std::ifstream status("/proc/self/status");
  for (std::string word; status >> word;)
    if (size_t kib = 0; word == "RssFile:" && status >> kib) return kib * 1024;
  return 0;
}

TEST(TokenIds, ShareAndCompare) {
  const TokenIds ids{3, 1, 2}, copy = ids, none;
  EXPECT_TRUE(copy.is_same_place(ids));
  EXPECT_EQ(ids, (std::vector<int32_t>{3, 1, 2}));
  EXPECT_NE(ids, ids.first(2));
  EXPECT_EQ(ids.part(1, 2), (TokenIds{1, 2}));
  EXPECT_TRUE(none.empty());
  EXPECT_EQ(none, TokenIds(std::vector<int32_t>()));
  none.let_go();
  TokenIds moved = ids.part(1, 1);
  moved = std::move(moved).part(0, 1);
  EXPECT_EQ(moved, TokenIds{1});
}

TEST(ExampleStore, MemoryAndDiskHoldTheSame) {
  const std::vector<Example> examples = examples_of(2000);
  for (const size_t in_memory : {size_t{0}, size_t{40000}, size_t{1} << 30}) {
    std::vector<Example> back;
    {
      ExampleStore store(small(in_memory));
      back = kept(store, examples);
      EXPECT_EQ(store.bytes_on_disk() > 0, in_memory < (size_t{1} << 30));
    }
    EXPECT_TRUE(same(back, examples)) << in_memory;
    for (size_t i = 0; i < back.size(); ++i) EXPECT_EQ(back[i].labels.is_same_place(back[i].input_ids), i % 3 == 0 || i % 37 == 0);
    const std::vector<Example> copies(back.begin(), back.begin() + 100);
    back.clear();
    EXPECT_TRUE(same(copies, {examples.begin(), examples.begin() + 100}));
  }
}

TEST(ExampleStore, ABatchLongerThanAPiece) {
  std::vector<Example> one(1);
  std::vector<int32_t> ids(10000);
  std::iota(ids.begin(), ids.end(), 0);
  one[0] = {ids, ids};
  ExampleStore store(small(0));
  EXPECT_TRUE(same(kept(store, one), one));
  EXPECT_EQ(store.bytes_on_disk(), 80000u);
  EXPECT_TRUE(same(kept(store, examples_of(3)), examples_of(3)));
}

TEST(ExampleStore, WhatWasReadLeavesMemory) {
  constexpr size_t kCount = 1000, kLength = 4096;
  std::vector<Example> examples;
  ExampleStore store({.folder = fs::temp_directory_path().string(), .in_memory = 0, .piece = size_t{1} << 20, .resident = size_t{1} << 20});
  for (size_t i = 0; i < kCount; ++i) {
    std::vector<Example> one = {{std::vector<int32_t>(kLength, 1), std::vector<int32_t>(kLength, static_cast<int32_t>(i))}};
    examples.push_back(kept(store, one)[0]);
  }
  const size_t before = resident_of_files();
  const uint64_t hash = data_fingerprint(examples);
  EXPECT_LT(resident_of_files(), before + (size_t{4} << 20));  // of 32 MB
  for (size_t i = 0; i < kCount; ++i) {                        // in no order
    const Example& one = examples[i * 617 % kCount];
    EXPECT_EQ(one.labels.front(), static_cast<int32_t>(i * 617 % kCount));
    one.let_go();
  }
  EXPECT_LT(resident_of_files(), before + (size_t{4} << 20));
  EXPECT_EQ(hash, data_fingerprint(examples));
}

TEST(ExampleStore, AFolderThatIsNotThereYet) {
  ExampleStoreOptions options = small(0);
  options.folder = (fs::temp_directory_path() / "not/there/yet").string();
  ExampleStore store(options);
  EXPECT_TRUE(same(kept(store, examples_of(50)), examples_of(50)));
  EXPECT_FALSE(fs::exists(fs::temp_directory_path() / "not"));
}

TEST(ExampleStore, AFullDisk) {
  struct rlimit before {};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  ExampleStore store(small(0));
  std::vector<Example> examples = examples_of(2000);
  const struct rlimit low { 8192, before.rlim_max };
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &low), 0);
  std::string message, hint;
  try {
    kept(store, examples);
  } catch (const Error& e) {
    EXPECT_EQ(e.kind, ErrorKind::io);
    message = e.what();
    hint = e.hint;
  }
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &before), 0);
  ::signal(SIGXFSZ, handler);
  EXPECT_NE(message.find("ids of examples"), std::string::npos) << message;
  EXPECT_NE(hint.find("TMPDIR"), std::string::npos) << hint;
  EXPECT_TRUE(same(examples, examples_of(2000)));
}

}  // namespace
}  // namespace loraine::example_store_test
