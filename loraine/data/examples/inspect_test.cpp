#include "loraine/data/examples/inspect.h"

#include <gtest/gtest.h>

namespace loraine::inspect_test {
namespace {

TEST(Inspect, CountsWhatIsToBeTold) {
  const SpecialTokens special{.bos = 1, .eos = 2, .stop = {2}};
  Dataset set;
  set.examples = {{{1, 1, 5, 2}, {-100, -100, 5, 2}},                                       // two beginnings, a trained end
                  {{1, 5, 6, 9}, {-100, 5, 6, 9}},                                          // no end
                  {{1, 5, 6, 9}, {-100, 5, 6, 9}},                                          // the same again
                  {{1, 5, 2, 7}, {-100, 5, 2, 7}},                                          // an end with a new line behind it
                  {{1, 5}, {-100, -100}}};                                                  // nothing trained
  set.examples.push_back({{3, 2, 4, 4, 2, 0}, {-100, 2, -100, -100, 2, -100}, {0, 2}, 1});  // two samples in a block
  const Inspection found = inspect(set, special);
  EXPECT_EQ(found.samples, 7);
  EXPECT_EQ(found.doubled_bos, 1);
  EXPECT_EQ(found.repeated, 1);
  EXPECT_EQ(found.ended, 4);
  EXPECT_EQ(found.unended, 2);
  EXPECT_EQ(found.shortest, 2);
  EXPECT_EQ(found.longest, 4);
  int64_t counted = 0;
  for (const LengthBin& bin : found.lengths) counted += bin.count;
  EXPECT_EQ(counted, 7);
  EXPECT_EQ(inspect({}, special).samples, 0);
}

TEST(Inspect, BothAnswersOfAPair) {
  Dataset set;
  set.pairs = {{{{1, 2}, {-100, 2}}, {{1, 3}, {-100, 3}}}};
  const Inspection found = inspect(set, SpecialTokens{.eos = 2, .stop = {2}});
  EXPECT_EQ(found.samples, 2);
  EXPECT_EQ(found.ended, 1);
  EXPECT_EQ(found.unended, 1);
}

}  // namespace
}  // namespace loraine::inspect_test
