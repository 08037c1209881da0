// Orders against recorded torch and numpy orders.
#include "loraine/data/order/orders.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "loraine/core/error.h"

namespace loraine::orders_test {
namespace {

using Rows = std::vector<int64_t>;

TEST(Orders, KnownOrders) {
  const Split split = split_rows(9, 0.25, 42);
  EXPECT_EQ(split.train, (Rows{2, 4, 6, 1, 5, 8}));
  EXPECT_EQ(split.eval, (Rows{3, 0, 7}));
  EXPECT_EQ(LegacySampler(42).draw(6, 9), (Rows{0, 1, 5, 2, 4, 3, 4, 4, 1}));
  EXPECT_THROW(split_rows(3, 3, 42), Error);
}

TEST(Orders, RecordedOrders) {
  std::ifstream in(LORAINE_SOURCE_DIR "/../shared/golden/llamafactory/orders.json");
  if (!in) GTEST_SKIP() << "shared golden cases are absent";
  const auto golden = nlohmann::json::parse(in);
  for (const auto& c : golden.at("shuffle")) {
    const uint64_t seed = (c.at("data_seed").is_null() ? c.at("seed") : c.at("data_seed")).get<uint64_t>();
    for (size_t epoch = 0; epoch < c.at("epochs").size(); ++epoch)
      EXPECT_EQ(torch_randperm(c.at("n"), seed + epoch), c.at("epochs")[epoch].get<Rows>()) << "n " << c.at("n") << " seed " << seed;
  }
  for (const auto& c : golden.at("split")) {
    const Split split = split_rows(c.at("n"), c.at("val_size"), c.at("seed"));
    EXPECT_EQ(split.train, c.at("train").get<Rows>());
    EXPECT_EQ(split.eval, c.at("eval").get<Rows>());
  }
  for (const auto& c : golden.at("num_samples"))
    EXPECT_EQ(LegacySampler(c.at("seed")).draw(c.at("n"), c.at("num_samples")), c.at("rows").get<Rows>());
  for (const auto& c : golden.at("interleave")) {
    const auto probs = c.at("probs").is_null() ? std::vector<double>{} : c.at("probs").get<std::vector<double>>();
    const Mixing mixing = c.at("mix_strategy") == "interleave_over" ? Mixing::interleave_over : Mixing::interleave_under;
    Rows rows;
    for (const SetRow& r : interleave_rows(c.at("sizes").get<Rows>(), probs, mixing, c.at("seed"))) rows.push_back(100 * r.set + r.row);
    EXPECT_EQ(rows, c.at("rows").get<Rows>());
  }
}

Rows mixed(const std::vector<int64_t>& sizes, const std::vector<double>& probs, Mixing mixing, uint64_t seed) {
  Rows rows;
  for (const SetRow& r : interleave_rows(sizes, probs, mixing, seed)) rows.push_back(100 * r.set + r.row);
  return rows;
}

TEST(Orders, EveryRowOnce) {  // datasets' all_exhausted_without_replacement
  EXPECT_EQ(mixed({3, 4, 3}, {}, Mixing::interleave_once, 42), (Rows{0, 100, 200, 1, 101, 201, 2, 102, 202, 103}));
  Rows over = mixed({3, 5}, {0.5, 0.5}, Mixing::interleave_over, 42), once = mixed({3, 5}, {0.5, 0.5}, Mixing::interleave_once, 42);
  EXPECT_EQ(once, (Rows{100, 0, 101, 102, 1, 103, 104, 2}));  // those of `over`, {… 104, 100, 2}, without what had been there
  EXPECT_EQ(over, (Rows{100, 0, 101, 102, 1, 103, 104, 100, 2}));
  EXPECT_EQ(mixed({2, 1}, {}, Mixing::concat, 42), (Rows{0, 1, 100}));
  EXPECT_THROW(mixed({3, 5}, {0.5, 0.4}, Mixing::interleave_once, 42), Error);
  EXPECT_THROW(mixed({3, 5}, {1}, Mixing::interleave_once, 42), Error);
}

TEST(Orders, SetsAreDrawnFromOneAfterAnother) {  // numpy.random.seed(42); permutation(6)[:3]; permutation(6)[:3]
  LegacySampler sampler(42);
  EXPECT_EQ(sampler.draw(6, 3), (Rows{0, 1, 5}));
  EXPECT_NE(sampler.draw(6, 3), (Rows{0, 1, 5}));
}

TEST(Orders, SeedsOfSuccessiveShuffles) {  // numpy.random.seed(42), as datasets takes them
  ShuffleSeeds seeds(42);
  std::vector<uint32_t> drawn(700);
  for (uint32_t& seed : drawn) seed = seeds.next();
  EXPECT_EQ(drawn[0], 42u);
  EXPECT_EQ(drawn[1], 4170412009u);
  EXPECT_EQ(drawn[2], 3342822751u);
  EXPECT_EQ(drawn[311], 1432291794u);
  EXPECT_EQ(drawn[312], 723970371u);
  EXPECT_EQ(drawn[313], 4035860515u);
  EXPECT_EQ(drawn[699], 2597629884u);
}

}  // namespace
}  // namespace loraine::orders_test
