// Expected texts were printed by Python 3.
#include "loraine/train/records/python_number.h"

#include <gtest/gtest.h>

#include <limits>

namespace loraine::python_number_test {
namespace {

TEST(PythonNumber, Repr) {
  EXPECT_EQ(python_repr(0.0), "0.0");
  EXPECT_EQ(python_repr(-0.0), "-0.0");
  EXPECT_EQ(python_repr(5.0), "5.0");
  EXPECT_EQ(python_repr(0.1 + 0.2), "0.30000000000000004");
  EXPECT_EQ(python_repr(1e-4), "0.0001");
  EXPECT_EQ(python_repr(1e-5), "1e-05");
  EXPECT_EQ(python_repr(3.0153689607045842e-05), "3.0153689607045842e-05");
  EXPECT_EQ(python_repr(662411520.0), "662411520.0");
  EXPECT_EQ(python_repr(1e15), "1000000000000000.0");
  EXPECT_EQ(python_repr(1e16), "1e+16");
  EXPECT_EQ(python_repr(1.5e300), "1.5e+300");
  EXPECT_EQ(python_repr(5e-324), "5e-324");
  EXPECT_EQ(python_repr(-123.456), "-123.456");
  EXPECT_EQ(python_repr(static_cast<double>(5.488424301147461f)), "5.488424301147461");
}

TEST(PythonNumber, Round) {
  EXPECT_EQ(python_round(2.675, 2), 2.67);  // 2.675 lies below the middle
  EXPECT_EQ(python_round(0.125, 2), 0.12);  // a tie goes to the even digit
  EXPECT_EQ(python_round(16.666666666666664, 2), 16.67);
  EXPECT_EQ(python_fixed(5.32399, 4), "5.3240");
}

TEST(PythonNumber, Timedelta) {
  EXPECT_EQ(python_timedelta(0.99), "0:00:00");
  EXPECT_EQ(python_timedelta(67), "0:01:07");
  EXPECT_EQ(python_timedelta(86399), "23:59:59");
  EXPECT_EQ(python_timedelta(86400 + 7384), "1 day, 2:03:04");
  EXPECT_EQ(python_timedelta(3 * 86400), "3 days, 0:00:00");
  EXPECT_EQ(python_timedelta(std::numeric_limits<double>::infinity()), "0:00:00");
}

TEST(PythonNumber, Json) {
  const OrderedJson value = {
      {"b", 1}, {"a", {1.0, 2.5e-7, nullptr, true}}, {"s", "é\n\"x"}, {"e", OrderedJson::array()}, {"o", OrderedJson::object()}};
  EXPECT_EQ(python_json(value, -1, false), R"({"b": 1, "a": [1.0, 2.5e-07, null, true], "s": "\u00e9\n\"x", "e": [], "o": {}})");
  EXPECT_EQ(python_json({{"b", 1}, {"a", {2}}}, 2, true), "{\n  \"a\": [\n    2\n  ],\n  \"b\": 1\n}");
  EXPECT_EQ(python_json(std::numeric_limits<double>::quiet_NaN(), 2, true), "NaN");
  EXPECT_EQ(python_json(-std::numeric_limits<double>::infinity(), 2, true), "-Infinity");
}

}  // namespace
}  // namespace loraine::python_number_test
