// AdaLoRA's gradients against its formula in double, the orthogonality penalty by central differences, the budget, cuts and the state.
#include "loraine/adapters/adalora.h"

#include <cstdlib>
#include <filesystem>

#include "loraine/adapters/rank_budget.h"
#include "loraine/core/error.h"
#include "tests/support/op_check.h"

namespace loraine::adalora_test {
namespace {

constexpr int64_t T = 6, kIn = 11, kOut = 8, kRank = 4;
constexpr float kScale = 0.7f;

std::vector<LoraPart> one_part() { return {{0, 0, kOut, kRank, kScale, "model.layers.0.q_proj"}}; }

// set: one site. Values by a seed.
AdapterSet one_site(uint32_t seed) {
  AdapterSet set;
  auto adapter = std::make_unique<AdaLora>(kIn, one_part(), 0.0f, 0, true);
  for (const AdaLora::Triplets& t : adapter->triplets())
    for (const Tensor& tensor : {t.a, t.e, t.b})
      std::copy_n(random_floats(tensor.numel(), ++seed, 0.5f).begin(), tensor.numel(), tensor.f32());
  Context ctx;
  adapter->refresh(ctx);
  set.sites.push_back(std::move(adapter));
  return set;
}

AdaLora::Triplets triplets_of(const AdapterSet& set) { return dynamic_cast<const AdaLora&>(*set.sites[0]).triplets()[0]; }
std::vector<double> doubles_of(const Tensor& t) { return std::vector<double>(t.f32(), t.f32() + t.numel()); }
std::vector<float> floats_of(const Tensor& t) { return std::vector<float>(t.f32(), t.f32() + t.numel()); }

std::vector<double> reference(const std::vector<double>& x, const std::vector<double>& a, const std::vector<double>& e,
                              const std::vector<double>& b) {
  std::vector<double> y(static_cast<size_t>(T * kOut));
  for (int64_t t = 0; t < T; ++t)
    for (int64_t k = 0; k < kRank; ++k) {
      double u = 0;
      for (int64_t i = 0; i < kIn; ++i) u += a[static_cast<size_t>(k * kIn + i)] * x[static_cast<size_t>(t * kIn + i)];
      for (int64_t o = 0; o < kOut; ++o)
        y[static_cast<size_t>(t * kOut + o)] +=
            static_cast<double>(kScale) * b[static_cast<size_t>(o * kRank + k)] * e[static_cast<size_t>(k)] * u;
    }
  return y;
}

TEST(AdaLora, FormulaAndGradients) {
  AdapterSet set = one_site(1);
  Adapter& adapter = *set.sites[0];
  const AdaLora::Triplets t = triplets_of(set);
  std::vector<float> x = random_floats(T * kIn, 7), r = random_floats(T * kOut, 8), y(static_cast<size_t>(T * kOut)), d_x(x.size()),
                     saved(static_cast<size_t>(T * kRank));
  Context ctx;
  Arena scratch(1 << 16);
  adapter.forward(ctx, matrix(y, T, kOut), matrix(x, T, kIn), matrix(saved, T, kRank), true, scratch);
  std::vector<double> xd = doubles(x), a = doubles_of(t.a), e = doubles_of(t.e), b = doubles_of(t.b);
  expect_near(y, reference(xd, a, e, b), 2e-6, "y");
  for (int pass = 0; pass < 2; ++pass)
    adapter.backward(ctx, matrix(d_x, T, kIn), matrix(r, T, kOut), matrix(x, T, kIn), matrix(saved, T, kRank), scratch);
  set.finish_gradients(ctx);  // of two micro-batches
  auto loss = [&] { return 2 * inner(reference(xd, a, e, b), r); };
  expect_near(d_x, central_differences(xd, loss), 3e-6, "d_x");
  expect_near(floats_of(t.d_a), central_differences(a, loss), 3e-6, "d_A");
  expect_near(floats_of(t.d_e), central_differences(e, loss), 3e-6, "d_E");
  expect_near(floats_of(t.d_b), central_differences(b, loss), 3e-6, "d_B");
  const std::vector<float> before = floats_of(t.d_a);
  set.finish_gradients(ctx);
  EXPECT_EQ(before, floats_of(t.d_a));  // what it took is not taken twice
}

double norm_of(const std::vector<double>& m, int64_t rows, int64_t cols, bool by_rows) {
  const int64_t r = by_rows ? rows : cols, n = by_rows ? cols : rows;
  double squares = 0;
  for (int64_t i = 0; i < r; ++i)
    for (int64_t j = 0; j < r; ++j) {
      double sum = i == j ? -1 : 0;
      for (int64_t k = 0; k < n; ++k)
        sum +=
            m[static_cast<size_t>(by_rows ? i * cols + k : k * cols + i)] * m[static_cast<size_t>(by_rows ? j * cols + k : k * cols + j)];
      squares += sum * sum;
    }
  return std::sqrt(squares);
}

TEST(RankBudget, OrthogonalityPenaltyAndItsGradient) {
  AdapterSet set = one_site(3);
  AdaloraConfig config;
  config.init_r = kRank;
  config.target_r = 2;
  config.total_step = 10;
  RankBudget budget(set, config);
  Context ctx;
  const AdaLora::Triplets t = triplets_of(set);
  std::vector<double> a = doubles_of(t.a), b = doubles_of(t.b);
  auto penalty = [&] { return 0.5 * (norm_of(a, kRank, kIn, true) + norm_of(b, kOut, kRank, false)) / 2; };
  EXPECT_NEAR(budget.add_orthogonality(ctx), penalty(), 1e-6);
  expect_near(floats_of(t.d_a), central_differences(a, penalty), 2e-6, "d_A");
  expect_near(floats_of(t.d_b), central_differences(b, penalty), 2e-6, "d_B");
}

TEST(RankBudget, FallsAsACubeBetweenItsPhases) {
  AdapterSet set = one_site(3);
  AdaloraConfig config;
  config.init_r = kRank;
  config.target_r = 1;
  config.tinit = 10;
  config.tfinal = 20;
  config.total_step = 130;
  RankBudget budget(set, config);
  EXPECT_EQ(budget.budget(10), 4);
  EXPECT_EQ(budget.budget(60), static_cast<int64_t>(3 * 0.5 * 0.5 * 0.5 + 1));
  EXPECT_EQ(budget.budget(20), static_cast<int64_t>(3 * 0.9 * 0.9 * 0.9 + 1));
  EXPECT_EQ(budget.budget(110), 1);
  EXPECT_EQ(budget.budget(130), 1);
  config.tfinal = 120;
  EXPECT_THROW(RankBudget(set, config), Error);
  config.tfinal = 20;
  config.target_r = 5;
  EXPECT_THROW(RankBudget(set, config), Error);
}

TEST(RankBudget, CutsTheLeastImportantRanksAndGoesOnFromItsState) {
  AdapterSet set = one_site(3), other = one_site(9);
  AdaloraConfig config;
  config.init_r = kRank;
  config.target_r = 2;
  config.total_step = 6;
  config.tfinal = 3;
  RankBudget budget(set, config);
  const AdaLora::Triplets t = triplets_of(set);
  for (int64_t k = 0; k < kRank; ++k) {  // ranks 1 and 3 matter
    const float size = k % 2 ? 1.0f : 1e-3f;
    t.e.f32()[k] = 1;
    t.d_e.f32()[k] = size;
    for (int64_t i = 0; i < kIn; ++i) t.d_a.f32()[k * kIn + i] = size;
    for (int64_t o = 0; o < kOut; ++o) t.d_b.f32()[o * kRank + k] = size;
  }
  budget.after_update(1, 1);
  budget.after_update(2, 1);
  for (int64_t k = 0; k < kRank; ++k) t.e.f32()[k] = 1;  // the optimizer may bring them back
  budget.after_update(3, 1);
  EXPECT_EQ(budget.pattern().at("model.layers.0.q_proj"), (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(floats_of(t.e), (std::vector<float>{0, 1, 0, 1}));
  for (int64_t k = 0; k < kRank; ++k) t.e.f32()[k] = 1;
  budget.after_update(4, 1);  // settled
  EXPECT_EQ(floats_of(t.e), (std::vector<float>{0, 1, 0, 1}));
  EXPECT_EQ(budget.history().back().ranks, (std::vector<int64_t>{2}));
  EXPECT_EQ(budget.history().back().step, 3);

  char folder[] = "/tmp/loraine_budget_XXXXXX";
  ASSERT_TRUE(mkdtemp(folder));
  budget.write_state(folder);
  RankBudget again(other, config);
  again.read_state(folder);
  EXPECT_EQ(again.pattern(), budget.pattern());
  EXPECT_EQ(again.history().size(), budget.history().size());
  EXPECT_EQ(floats_of(triplets_of(other).a), floats_of(t.a));
  const std::string record = std::string(folder) + "/adalora_state.json";
  std::filesystem::resize_file(record, std::filesystem::file_size(record) / 2);
  EXPECT_THROW(again.read_state(folder), Error);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace loraine::adalora_test
