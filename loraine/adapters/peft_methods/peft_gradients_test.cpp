// PEFT's methods that change a weight by sums of products, over a site of two parts: what they add and the gradients, against the weight
// that exact_merge gives in double and differences of it, which for functions linear in each parameter are exact; with dropout against
// differences of the forward; the same bits for any number of threads, and of a row by itself.
#include <omp.h>

#include <nlohmann/json.hpp>

#include "loraine/adapters/peft_methods/peft_method.h"
#include "tests/support/op_check.h"

namespace loraine::peft_gradients_test {
namespace {

constexpr int64_t T = 7, kIn = 12, kOuts[] = {8, 16}, kOut = 24;

struct Site {
  Site(const std::string& type, const std::string& keys) {
    for (size_t p = 0; p < 2; ++p) {
      values.push_back(random_floats(kOuts[p] * kIn, static_cast<uint32_t>(p + 1), 0.4f));
      base.parts.emplace_back();
      base.parts.back().name = p ? "model.layers.0.up_proj" : "model.layers.0.gate_proj";
      base.parts.back().weight = matrix(values.back(), kOuts[p], kIn);
    }
    const PeftMethodKind* kind = find_peft_setting(type);
    set_peft_method(*kind, nlohmann::ordered_json::parse(keys), "adapter_args", config);
    std::vector<LoraPart> parts;
    for (size_t p = 0; p < 2; ++p) parts.push_back({static_cast<int>(p), p ? kOuts[0] : 0, kOuts[p], config.r, 1, base.parts[p].name});
    adapter = config.method->make({base, parts, 3, true}, config);
    adapter->initialise(ctx, 5);
    uint32_t seed = 10;
    for (const Parameter& p : adapter->parameters())
      if (p.gradient.data) {
        const std::vector<float> start = random_floats(p.value.numel(), ++seed, 0.3f);
        std::ranges::copy(start, p.value.f32());
      }
    adapter->refresh(ctx);
  }
  // The adapter over x [rows, kIn], without bias: base and adapter.
  std::vector<float> forward(std::vector<float>& x, bool training = false) {
    const int64_t rows = static_cast<int64_t>(x.size()) / kIn;
    std::vector<float> y(static_cast<size_t>(rows * kOut));
    saved.assign(static_cast<size_t>(rows * adapter->saved_width()), 0.0f);
    Arena scratch(size_t{1} << 20);
    adapter->site_forward(ctx, base, matrix(y, rows, kOut), matrix(x, rows, kIn), kept(rows), training, scratch);
    return y;
  }
  std::vector<float> backward(std::vector<float>& x, std::vector<float>& g) {
    std::vector<float> d_x(x.size());
    Arena scratch(size_t{1} << 20);
    adapter->site_backward(ctx, base, matrix(d_x, T, kIn), matrix(g, T, kOut), matrix(x, T, kIn), kept(T), scratch);
    adapter->finish_gradients(ctx);
    return d_x;
  }
  Tensor kept(int64_t rows) { return Tensor(saved.data(), Dtype::F32, {rows, adapter->saved_width()}); }
  // x W'ᵀ in double
  std::vector<double> exact(const std::vector<double>& x) {
    std::vector<double> y(static_cast<size_t>(T * kOut));
    for (size_t p = 0; p < 2; ++p) {
      const MergeRow merge = adapter->exact_merge(static_cast<int>(p));
      for (int64_t o = 0; o < kOuts[p]; ++o) {
        std::vector<double> w(values[p].begin() + o * kIn, values[p].begin() + (o + 1) * kIn);
        merge(w, o);
        for (int64_t t = 0; t < T; ++t)
          for (int64_t i = 0; i < kIn; ++i)
            y[static_cast<size_t>(t * kOut + (p ? kOuts[0] : 0) + o)] += w[static_cast<size_t>(i)] * x[static_cast<size_t>(t * kIn + i)];
      }
    }
    return y;
  }
  std::vector<std::vector<float>> values;
  Weight base;
  LoraConfig config;
  Context ctx;
  std::unique_ptr<Adapter> adapter;
  std::vector<float> saved;
};

const std::pair<const char*, const char*> kMethods[] = {
    {"miss", R"({"r": 5})"},
    {"miss", R"({"r": 3, "mini_r": 4, "init_weights": "mini"})"},
    {"miss", R"({"r": 4, "init_weights": "bat"})"},
    {"c3a", R"({"block_size": 4, "block_size_pattern": {"gate_proj": 2}})"},
    {"hira", R"({"r": 3})"},
    {"shira", R"({"r": 2})"},
};

// Differences of `loss` by each number of a parameter, whose step is a power of two.
template <class Loss>
std::vector<double> by_parameter(Site& site, const Parameter& p, double h, Loss&& loss) {
  std::vector<double> all;
  for (int64_t k = 0; k < p.value.numel(); ++k) {
    float& v = p.value.f32()[k];
    const float before = v;
    double sums[2], ends[2];
    for (int side = 0; side < 2; ++side) {
      v = before + static_cast<float>(side ? h : -h);
      ends[side] = static_cast<double>(v);
      site.adapter->refresh(site.ctx);
      sums[side] = loss();
    }
    v = before;
    all.push_back((sums[1] - sums[0]) / (ends[1] - ends[0]));
  }
  site.adapter->refresh(site.ctx);
  return all;
}

TEST(PeftGradients, AgainstTheMergedWeightInDouble) {
  for (const auto& [type, keys] : kMethods) {
    Site site(type, keys);
    std::vector<float> x = random_floats(T * kIn, 20), g = random_floats(T * kOut, 21);
    std::vector<double> x64 = doubles(x);
    expect_near(site.forward(x), site.exact(x64), 3e-6, keys);
    const std::vector<float> d_x = site.backward(x, g);
    expect_near(d_x, central_differences(x64, [&] { return inner(site.exact(x64), g); }), 1e-5, keys);
    int compared = 0;
    for (const Parameter& p : site.adapter->parameters()) {
      if (!p.gradient.data) continue;
      const std::vector<float> ours(p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
      expect_near(ours, by_parameter(site, p, 0.25, [&] { return inner(site.exact(x64), g); }), 1e-5, p.name.c_str());
      ++compared;
    }
    EXPECT_GE(compared, 2) << type;
  }
}

TEST(PeftGradients, WithDropout) {
  for (const auto& [type, keys] : {std::pair{"miss", R"({"r": 5, "miss_dropout": 0.4})"}, {"hira", R"({"r": 3, "hira_dropout": 0.4})"}}) {
    Site site(type, keys);
    std::vector<float> x = random_floats(T * kIn, 20), g = random_floats(T * kOut, 21);
    const auto loss = [&] { return inner(site.forward(x, true), g); };
    EXPECT_NE(site.forward(x, true), site.forward(x, false));
    site.forward(x, true);
    std::vector<float> d_x = site.backward(x, g);
    std::vector<double> of_x;
    for (float& v : x) {
      const float before = v;
      v = before + 0.5f;
      const double above = loss();
      v = before - 0.5f;
      of_x.push_back(above - loss());
      v = before;
    }
    expect_near(d_x, of_x, 2e-5, keys);
    for (const Parameter& p : site.adapter->parameters())
      expect_near(std::vector<float>(p.gradient.f32(), p.gradient.f32() + p.gradient.numel()), by_parameter(site, p, 0.25, loss), 2e-5,
                  p.name.c_str());
  }
}

TEST(PeftGradients, BitsDependOnNeitherThreadsNorCompany) {
  const int threads = omp_get_max_threads();
  for (const auto& [type, keys] : kMethods) {
    std::vector<float> x = random_floats(T * kIn, 20), g = random_floats(T * kOut, 21), first_y, first_d_x, first_gradients;
    for (const int count : {1, 2, 5}) {
      omp_set_num_threads(count);
      Site site(type, keys);
      const std::vector<float> y = site.forward(x), d_x = site.backward(x, g);
      std::vector<float> gradients;
      for (const Parameter& p : site.adapter->parameters())
        if (p.gradient.data) gradients.insert(gradients.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
      if (count == 1) first_y = y, first_d_x = d_x, first_gradients = gradients;
      EXPECT_EQ(y, first_y) << keys;
      EXPECT_EQ(d_x, first_d_x) << keys;
      EXPECT_EQ(gradients, first_gradients) << keys;
      std::vector<float> row(x.begin() + 2 * kIn, x.begin() + 3 * kIn);
      const std::vector<float> alone = site.forward(row);
      EXPECT_TRUE(std::equal(alone.begin(), alone.end(), y.begin() + 2 * kOut)) << keys;
    }
  }
  omp_set_num_threads(threads);
}

TEST(PeftGradients, SizesThatDoNotFitAreRefused) {
  const auto refusal = [](const char* type, const char* keys) -> std::string {
    try {
      Site site(type, keys);
    } catch (const Error& error) { return error.what(); }
    return "";
  };
  for (const auto& [type, keys, words] : std::initializer_list<std::tuple<const char*, const char*, const char*>>{
           {"miss", R"({"r": 13})", "r is at most the module's input"},
           {"miss", R"({"r": 5, "init_weights": "bat"})", "divides both sides"},
           {"miss", R"({"r": 4, "mini_r": 3, "init_weights": "mini"})", "mini_r (3)"},
           {"miss", R"({"init_weights": "new"})", "init_weights is \"new\""},
           {"c3a", R"({"block_size": 8})", "block_size is 8"},
           {"c3a", R"({"block_size_pattern": {"up_proj": 0}})", "block_size_pattern is"},
           {"hira", R"({"rank_pattern": {"up_proj": 2}})", "rank_pattern is"},
           {"shira", R"({"r": 5})", "r (in + out) = 100 places"},
           {"shira", R"({"mask_type": "mine"})", "mask_type is \"mine\""}})
    EXPECT_NE(refusal(type, keys).find(words), std::string::npos) << keys << ": " << refusal(type, keys);
}

}  // namespace
}  // namespace loraine::peft_gradients_test
