// Lists of adapters and rows, good and bad.
#include "loraine/train/config/named_adapters.h"

#include <gtest/gtest.h>

#include "loraine/core/error.h"

namespace loraine::named_adapters_test {
namespace {

using Names = std::vector<std::string>;

TEST(NamedAdapters, NamesAndPaths) {
  const auto all = named_adapters("en=out/one/,out/two, /three/");
  ASSERT_EQ(all.size(), 3u);
  EXPECT_EQ(all[0].name, "en");
  EXPECT_EQ(all[0].path, "out/one");
  EXPECT_TRUE(all[0].own_name);
  EXPECT_EQ(all[1].name, "two");
  EXPECT_FALSE(all[1].own_name);
  EXPECT_EQ(all[2].name, "three");
  EXPECT_TRUE(named_adapters({}).empty());
  for (const char* bad : {"a/x,b/x", "a=x,a=y", "=x", "base=x", "out/all", "/"}) EXPECT_THROW(named_adapters(bad), Error) << bad;
}

TEST(NamedAdapters, ASignInAPathIsNoName) {
  EXPECT_EQ(named_adapter("out/lr=1e-4").path, "out/lr=1e-4");
  EXPECT_EQ(named_adapter("out/lr=1e-4").name, "lr=1e-4");
  EXPECT_EQ(named_adapter("a=out/lr=1e-4").path, "out/lr=1e-4");
}

TEST(NamedAdapters, JoinedAreNotKeptApart) {
  EXPECT_EQ(joined_adapters("a=x", "all are merged"), (Names{"x"}));
  EXPECT_EQ(joined_adapters("x, y", "all are merged"), (Names{"x", "y"}));
  EXPECT_TRUE(joined_adapters({}, "").empty());
  EXPECT_THROW(joined_adapters("a=x,b=y", "all are merged"), Error);
  EXPECT_THROW(joined_adapters("x,b=y", "all are merged"), Error);
}

TEST(NamedAdapters, PlainPathsAreOnTogether) {
  const auto on = [](const char* list) {
    Names names;
    for (const NamedAdapter& adapter : adapters_on(named_adapters(list))) names.push_back(adapter.name);
    return names;
  };
  EXPECT_EQ(on("x,y"), (Names{"x", "y"}));
  EXPECT_EQ(on("a=x,b=y"), (Names{"a"}));
  EXPECT_EQ(on("a=x,y,z"), (Names{"y", "z"}));
  EXPECT_EQ(on("a=x,y"), (Names{"a"}));
  EXPECT_EQ(on(""), (Names{}));
}

TEST(NamedAdapters, Rows) {
  const auto all = named_adapters("en=a,fr=b");
  EXPECT_EQ(adapter_rows("0-1:en, 3:fr", 5, all), (Names{"en", "en", "", "fr", ""}));
  EXPECT_EQ(adapter_rows("2:base,0:fr", 3, all), (Names{"fr", "", ""}));
  EXPECT_EQ(adapter_rows("", 2, all), (Names{"", ""}));
  for (const char* bad : {"0", "0:zh", ":en", "5:en", "-1:en", "0-5:en", "2-1:en", "0-:en", "x:en", "0:en,0:fr", "0-2:en,1:fr",
                          "0:", "99999999999999999999:en", "0 :en", "0-1-2:en"})
    EXPECT_THROW(adapter_rows(bad, 5, all), Error) << bad;
}

}  // namespace
}  // namespace loraine::named_adapters_test
