// Adapters cut to a rank and taken out of two models: what is kept, how much of it, and what is refused.
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>

#include "loraine/adapters/compare/difference.h"
#include "loraine/adapters/decompose/extract.h"
#include "loraine/adapters/decompose/resize.h"
#include "loraine/core/error.h"
#include "loraine/io/safetensors/safetensors.h"
#include "tests/support/op_check.h"

namespace loraine::decompose_test {
namespace {

namespace fs = std::filesystem;

struct Decompose : testing::Test {
  void SetUp() override { fs::create_directories(work); }
  void TearDown() override { fs::remove_all(work); }
  std::string at(const char* name) const { return (work / name).string(); }
  fs::path work = fs::temp_directory_path() / ("loraine_decompose_" + std::to_string(getpid()));
};

// ΔW = diag of the singular values, in the first rows and columns.
LowRankModule known(const std::string& path, const std::vector<float>& values, int64_t out, int64_t in, double scale) {
  const auto r = static_cast<int64_t>(values.size());
  LowRankModule m{
      path, false, in, out, r, scale, std::vector<float>(static_cast<size_t>(r * in)), std::vector<float>(static_cast<size_t>(out * r))};
  for (int64_t k = 0; k < r; ++k) {
    m.a[static_cast<size_t>(k * in + k)] = 2;
    m.b[static_cast<size_t>(k * r + k)] = values[static_cast<size_t>(k)] / static_cast<float>(2 * scale);
  }
  return m;
}

std::string refusal(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) { return error.what(); }
  return "";
}

// DoRA's magnitudes and tensors trained whole stay; a bias of B takes the scale.
TEST_F(Decompose, ResizeKeepsWhatCountsOverAnyRank) {
  const std::string path = "model.layers.0.self_attn.q_proj";
  std::vector<float> magnitudes = {1, 2, 3, 4, 5, 6}, bias = {1, 1, 2, 2, 3, 3}, norm = {7, 8, 9};
  WrittenLowRank written;
  written.modules = {known(path, {4, 2, 1}, 6, 5, 0.5)};
  written.like = LoraConfig();
  written.like->use_dora = written.like->lora_bias = true;
  written.like->modules_to_save = {"norm"};
  written.whole = {{"base_model.model." + path + ".lora_magnitude_vector", Tensor(magnitudes.data(), Dtype::F32, {6})},
                   {"base_model.model." + path + ".lora_B.bias", Tensor(bias.data(), Dtype::F32, {6})},
                   {"base_model.model.model.norm.weight", Tensor(norm.data(), Dtype::F32, {3})}};
  write_low_rank(written, at("dora"), false);
  write_low_rank(resize_adapter(at("dora"), {2, {}}, false).written, at("smaller"), false);
  const LoraConfig config = read_lora_config(at("smaller"));
  EXPECT_TRUE(config.use_dora && config.lora_bias);
  EXPECT_EQ(config.modules_to_save, (std::vector<std::string>{"norm"}));
  EXPECT_EQ(config.r, 2);
  const auto file = open_safetensors(at("smaller") + "/adapter_model.safetensors");
  EXPECT_EQ(file->tensors().size(), 5u);
  const auto values = [&](const std::string& name) {
    const TensorInfo* info = file->find("base_model.model." + name);
    std::vector<float> all(info ? static_cast<size_t>(info->shape[0]) : 0);
    if (info) file->read(*info, Tensor(all.data(), Dtype::F32, info->shape));
    return all;
  };
  EXPECT_EQ(values(path + ".lora_magnitude_vector"), magnitudes);
  EXPECT_EQ(values("model.norm.weight"), norm);
  for (float& x : bias) x *= 0.5f;
  EXPECT_EQ(values(path + ".lora_B.bias"), bias);
}

TEST_F(Decompose, ResizeKeepsTheLargestAndSaysHowMuch) {
  WrittenLowRank written;
  written.modules = {known("model.layers.0.self_attn.q_proj", {4, 2, 1}, 6, 5, 0.5),
                     known("model.layers.0.self_attn.v_proj", {1, 3, 3}, 4, 5, 0.5)};
  write_low_rank(written, at("whole"), false);
  EXPECT_NE(refusal([&] { write_low_rank(written, at("whole"), false); }).find("already"), std::string::npos);

  ResizedAdapter two = resize_adapter(at("whole"), {2, {}}, false);
  EXPECT_EQ(two.energies[0].before, 3);
  EXPECT_EQ(two.energies[0].after, 2);
  EXPECT_NEAR(two.energies[0].norm, std::sqrt(21.0), 1e-6);
  EXPECT_NEAR(two.energies[0].kept, 20.0 / 21, 1e-6);
  EXPECT_NEAR(two.energies[1].kept, 18.0 / 19, 1e-6);
  write_low_rank(two.written, at("two"), false);
  const AdapterDifference apart = compare_adapters(at("whole"), at("two"));
  EXPECT_NEAR(apart.modules[0].distance, 1, 1e-6);  // the value that was left out
  EXPECT_NEAR(apart.modules[1].distance, 1, 1e-6);
  EXPECT_NEAR(*apart.modules[0].phi_in, 1, 1e-6);

  const ResizedAdapter energy = resize_adapter(at("whole"), {{}, 0.9}, false);  // 16 + 4 of 21; 9 + 9 of 19
  EXPECT_EQ(energy.energies[0].after, 2);
  const ResizedAdapter most = resize_adapter(at("whole"), {{}, 0.7}, false);  // 16 of 21; 9 of 19 is less
  EXPECT_EQ(most.energies[0].after, 1);
  EXPECT_EQ(most.energies[1].after, 2);
  write_low_rank(most.written, at("most"), false);
  const LowRankFile patterns(at("most"));  // ranks of their own, by patterns
  EXPECT_EQ(patterns.find("model.layers.0.self_attn.q_proj")->r, 1);
  EXPECT_EQ(patterns.find("model.layers.0.self_attn.v_proj")->r, 2);
  EXPECT_DOUBLE_EQ(patterns.modules()[0].scale, 1);
  EXPECT_DOUBLE_EQ(patterns.modules()[1].scale, 1);
  for (const LowRankModule& m : resize_adapter(at("whole"), {{}, 0.7}, true).written.modules) EXPECT_EQ(m.r, 2);

  write_low_rank(resize_adapter(at("whole"), {5, {}}, false).written, at("five"), false);  // more than there are: zeros
  EXPECT_EQ(LowRankFile(at("five")).modules()[0].r, 5);
  EXPECT_LT(compare_adapters(at("whole"), at("five")).total.relative, 1e-6);
  EXPECT_NE(refusal([&] { resize_adapter(at("whole"), {}, false); }).find("neither rank nor energy"), std::string::npos);
  EXPECT_NE(refusal([&] { resize_adapter(at("whole"), {{}, 1.5}, false); }).find("energy is 1.5"), std::string::npos);
}

TEST_F(Decompose, DifferencesOfKnownAdapters) {
  const auto write = [&](const char* name, std::vector<LowRankModule> modules) {
    WrittenLowRank written;
    written.modules = std::move(modules);
    write_low_rank(written, at(name), true);
    return at(name);
  };
  const std::string q = "model.layers.0.self_attn.q_proj", v = "model.layers.10.self_attn.v_proj", k = "model.layers.2.self_attn.k_proj";
  const std::string one = write("one", {known(q, {3, 4}, 6, 6, 1), known(v, {2}, 6, 6, 2)});
  LowRankModule turned = known(q, {3, 4}, 6, 6, 1);
  for (float& x : turned.b) x = -2 * x;
  const std::string two = write("two", {turned, known(k, {1}, 6, 6, 1)});
  const AdapterDifference d = compare_adapters(one, two);
  ASSERT_EQ(d.modules.size(), 3u);
  EXPECT_EQ(d.modules[0].path, q);
  EXPECT_EQ(d.modules[1].path, k);  // 2 before 10
  EXPECT_NEAR(*d.modules[0].first, 5, 1e-5);
  EXPECT_NEAR(*d.modules[0].second, 10, 1e-5);
  EXPECT_NEAR(d.modules[0].distance, 15, 1e-5);
  EXPECT_NEAR(d.modules[0].relative, 1.5, 1e-6);
  EXPECT_NEAR(*d.modules[0].cosine, -1, 1e-6);
  EXPECT_NEAR(*d.modules[0].phi_in, 1, 1e-6);
  EXPECT_NEAR(*d.modules[0].phi_out, 1, 1e-6);
  EXPECT_FALSE(d.modules[1].first);
  EXPECT_FALSE(d.modules[1].cosine);
  EXPECT_NEAR(*d.total.first, std::sqrt(29.0), 1e-5);
  EXPECT_NEAR(d.total.distance, std::sqrt(225.0 + 1 + 4), 1e-5);
  EXPECT_NEAR(*d.total.cosine, -50 / std::sqrt(29.0 * 101), 1e-6);
  const AdapterDifference same = compare_adapters(one, one);
  EXPECT_EQ(same.total.distance, 0);
  EXPECT_NEAR(*same.total.cosine, 1, 1e-7);
  // the first direction of one lies in the plane of the other: φ(1) of the input is 1 in plane, ½ · 1 with k = 2 of a shared and an own one
  LowRankModule shifted = known(q, {3, 4}, 6, 6, 1);
  std::fill(shifted.a.begin(), shifted.a.end(), 0.0f);
  shifted.a[1] = 2, shifted.a[6 + 2] = 2;  // inputs 1 and 2 instead of 0 and 1
  const AdapterDifference half = compare_adapters(one, write("shifted", {shifted}));
  EXPECT_NEAR(*half.modules[0].phi_in, 0.5, 1e-6);
  EXPECT_NEAR(*half.modules[0].phi_out, 1, 1e-6);
  EXPECT_NE(refusal([&] { compare_adapters(one, write("other", {known(q, {1}, 6, 5, 1)})); }).find("[6, 6]"), std::string::npos);
}

struct TwoModels {
  std::vector<float> q, v, norm;
  void write(const std::string& folder) {
    fs::create_directories(folder);
    write_safetensors(folder + "/model.safetensors",
                      {{"model.layers.0.self_attn.q_proj.weight", Tensor(q.data(), Dtype::F32, {8, 6})},
                       {"model.layers.0.self_attn.v_proj.weight", Tensor(v.data(), Dtype::F32, {4, 6})},
                       {"model.norm.weight", Tensor(norm.data(), Dtype::F32, {6})}},
                      {{"format", "pt"}});
  }
};

TEST_F(Decompose, ExtractGivesTheDifferenceBack) {
  TwoModels base{random_floats(48, 1), random_floats(24, 2), random_floats(6, 3)}, tuned = base;
  const std::vector<float> b = random_floats(16, 4), a = random_floats(12, 5);
  for (int64_t o = 0; o < 8; ++o)
    for (int64_t i = 0; i < 6; ++i)
      for (int64_t k = 0; k < 2; ++k)
        tuned.q[static_cast<size_t>(o * 6 + i)] += b[static_cast<size_t>(o * 2 + k)] * a[static_cast<size_t>(k * 6 + i)];
  tuned.norm[2] += 0.5f;
  base.write(at("base"));
  tuned.write(at("tuned"));
  const auto source = open_safetensors(at("base") + "/model.safetensors"), other = open_safetensors(at("tuned") + "/model.safetensors");
  const std::vector<LayerTensor> layers = {{"model.layers.0.self_attn.q_proj", "model.layers.0.self_attn.q_proj.weight"},
                                           {"model.layers.0.self_attn.v_proj", "model.layers.0.self_attn.v_proj.weight"}};
  for (const RankChoice& choice : {RankChoice{2, {}}, RankChoice{{}, 1.0}, RankChoice{4, 0.9999999}}) {
    const ExtractedAdapter made = extract_adapter(*source, *other, layers, {choice, false, {}});
    ASSERT_EQ(made.written.modules.size(), 1u);
    const LowRankModule& m = made.written.modules[0];
    EXPECT_EQ(m.r, 2);
    EXPECT_NEAR(made.energies[0].kept, 1, 1e-6);
    EXPECT_EQ(made.equal, std::vector<std::string>{"model.layers.0.self_attn.v_proj"});
    ASSERT_EQ(made.rest.size(), 1u);
    EXPECT_EQ(made.rest[0].name, "model.norm.weight");
    std::vector<float> back = base.q;
    for (int64_t o = 0; o < 8; ++o)
      for (int64_t i = 0; i < 6; ++i)
        for (int64_t k = 0; k < m.r; ++k)
          back[static_cast<size_t>(o * 6 + i)] += m.b[static_cast<size_t>(o * m.r + k)] * m.a[static_cast<size_t>(k * 6 + i)];
    expect_near(back, tuned.q, 2e-6, "base + adapter");
  }
  ExtractedAdapter whole = extract_adapter(*source, *other, layers, {{1, {}}, false, {"norm"}});
  EXPECT_TRUE(whole.rest.empty());
  EXPECT_LT(whole.energies[0].kept, 1);
  write_low_rank(whole.written, at("adapter"), false);
  const auto written = open_safetensors(at("adapter") + "/adapter_model.safetensors");
  EXPECT_NE(written->find("base_model.model.model.norm.weight"), nullptr);
  EXPECT_NE(refusal([&] { extract_adapter(*source, *other, layers, {{1, {}}, false, {"lm_head"}}); }).find("lm_head"), std::string::npos);
  EXPECT_NE(refusal([&] { extract_adapter(*source, *source, layers, {{1, {}}, false, {}}); }).find("same values"), std::string::npos);
  tuned.v.resize(30);
  write_safetensors(at("tuned") + "/more.safetensors",
                    {{"model.layers.0.self_attn.v_proj.weight", Tensor(tuned.v.data(), Dtype::F32, {5, 6})}}, {});
  const std::string text = refusal([&] {
    extract_adapter(*source, *open_safetensors(at("tuned") + "/more.safetensors"), layers, {{1, {}}, false, {}});
  });
  EXPECT_NE(text.find("[4, 6] in the base, [5, 6] in the tuned"), std::string::npos) << text;
  EXPECT_NE(text.find("does not have it"), std::string::npos);
}

}  // namespace
}  // namespace loraine::decompose_test
