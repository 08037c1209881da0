// Courses of a loss, and what is said about them.
#include "loraine/train/loss_watch.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>

namespace loraine::loss_watch_test {
namespace {

// All that is said in a run of this course.
std::string said(int64_t updates, const std::function<double(int64_t)>& loss, std::optional<double> began = {}) {
  LossWatch watch(updates, 1000, began);
  std::string text;
  for (int64_t step = 1; step <= updates; ++step)
    if (const std::string line = watch.observe(step, loss(step), 1e-3); !line.empty()) text += line + "\n";
  return text;
}

int64_t lines(const std::string& text) { return std::count(text.begin(), text.end(), '\n'); }

TEST(LossWatch, AFallingOrUnevenLossSaysNothing) {
  EXPECT_EQ(said(100, [](int64_t t) { return 3.0 / std::sqrt(static_cast<double>(t)); }), "");
  EXPECT_EQ(said(100, [](int64_t t) { return t % 3 ? 2.0 : 3.0; }), "");
  EXPECT_EQ(said(100, [](int64_t t) { return t % 25 ? 2.0 : 9.0; }), "");    // single examples
  EXPECT_EQ(said(5, [](int64_t t) { return static_cast<double>(t); }), "");  // too short to tell
}

TEST(LossWatch, ARisingLossIsToldOnce) {
  for (const int64_t updates : {12, 100, 3000}) {
    const std::string text = said(updates, [updates](int64_t t) { return t * 4 <= updates ? 2.0 : 4.0; });
    EXPECT_EQ(lines(text), 1) << text;
    EXPECT_NE(text.find("risen from 2.0000"), std::string::npos) << text;
    EXPECT_NE(text.find("lower learning_rate (now 1.00e-03)"), std::string::npos) << text;
    EXPECT_EQ(text.find("ln V"), std::string::npos) << text;
  }
  EXPECT_NE(said(100, [](int64_t t) { return t < 50 ? 5.8 : 7.0; }).find("ln V = 6.9078"), std::string::npos);
  EXPECT_EQ(lines(said(
                100, [](int64_t) { return 4.0; }, 2.0)),
            1);                                                                 // resumed
  EXPECT_EQ(lines(said(30, [](int64_t t) { return t == 1 ? 0.1 : 1.4; })), 1);  // at the first update
}

TEST(LossWatch, AStartThatKnowsNothing) {
  const std::string text = said(100, [](int64_t t) { return t < 30 ? 7.0 : 5.0; });
  EXPECT_EQ(lines(text), 1) << text;
  EXPECT_NE(text.find("begins at 7.0000"), std::string::npos) << text;
}

}  // namespace
}  // namespace loraine::loss_watch_test
