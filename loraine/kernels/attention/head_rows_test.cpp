// Scores and weighted sums of the short rows of a head against sums in double: every number of heads, keys that do not fill a group, widths
// that do not fill a vector, strided rows of both types.
#include "loraine/kernels/attention/head_rows.h"

#include "tests/support/op_check.h"

namespace loraine::head_rows_test {
namespace {

constexpr int64_t kWide = 211, kFirst = 3, kBetween = 40;  // row stride of keys, first column, distance between the heads of scores

class HeadRows : public testing::TestWithParam<Dtype> {};

TEST_P(HeadRows, EqualTheSumInDouble) {
  for (int64_t heads : {1, 2, 3, 4, 5, 8})
    for (int64_t keys : {1, 3, 4, 9, 32})
      for (int64_t width : {1, 6, 8, 64, 80, 100, 200}) {
        SCOPED_TRACE(testing::Message() << heads << " heads, " << keys << " keys, width " << width);
        std::vector<float> wide = random_floats(keys * kWide, 1);
        std::vector<bf16> narrow = to_bf16(wide);
        if (GetParam() == Dtype::BF16) wide = to_floats(narrow);
        const Tensor all = GetParam() == Dtype::BF16 ? matrix(narrow, keys, kWide) : matrix(wide, keys, kWide);
        const Tensor rows = all.col_range(kFirst, width);
        auto value = [&](int64_t r, int64_t d) { return double{wide[static_cast<size_t>(r * kWide + kFirst + d)]}; };
        const std::vector<float> q = random_floats(heads * width, 2), weights = random_floats(heads * kBetween, 3),
                                 before = random_floats(heads * width, 4);
        std::vector<float> scores(static_cast<size_t>(heads * kBetween), -7), sums = before;
        head_scores(scores.data(), kBetween, rows, q.data(), heads, keys > 3 ? rows.row_range(2, keys - 2) : Tensor());
        add_weighted_values(sums.data(), rows, weights.data(), kBetween, heads, rows);
        std::vector<double> want_scores(scores.size(), -7), want_sums = doubles(before);
        for (int64_t h = 0; h < heads; ++h)
          for (int64_t r = 0; r < keys; ++r) {
            double sum = 0;
            for (int64_t d = 0; d < width; ++d) {
              sum += double{q[static_cast<size_t>(h * width + d)]} * value(r, d);
              want_sums[static_cast<size_t>(h * width + d)] += double{weights[static_cast<size_t>(h * kBetween + r)]} * value(r, d);
            }
            want_scores[static_cast<size_t>(h * kBetween + r)] = sum;
          }
        expect_near(scores, want_scores, 1e-6, "scores");
        expect_near(sums, want_sums, 1e-6, "sums");
      }
}

INSTANTIATE_TEST_SUITE_P(Types, HeadRows, testing::Values(Dtype::F32, Dtype::BF16), [](const auto& type) { return name_of(type.param); });

}  // namespace
}  // namespace loraine::head_rows_test
