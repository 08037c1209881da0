// Other programs' forms: there and back, names that cannot be told apart, and files that are none. GGUF is tested where it is written
// (tests/e2e/adapter_test.py).
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>

#include "loraine/adapters/convert/other_formats.h"
#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/io/files/json_file.h"
#include "loraine/io/safetensors/safetensors.h"
#include "tests/support/op_check.h"

namespace loraine::convert_test {
namespace {

namespace fs = std::filesystem;

struct Convert : testing::Test {
  void SetUp() override { fs::create_directories(work); }
  void TearDown() override { fs::remove_all(work); }
  std::string at(const std::string& name) const { return (work / name).string(); }
  fs::path work = fs::temp_directory_path() / ("loraine_convert_" + std::to_string(getpid()));
};

LowRankModule drawn(const std::string& path, int64_t out, int64_t in, int64_t r, double scale, uint32_t seed, bool embedding = false) {
  return {path, embedding, in, out, r, scale, random_floats(r * in, seed), random_floats(out * r, seed + 1)};
}

// scale · B A
std::vector<float> delta(const LowRankModule& m) {
  std::vector<float> out(static_cast<size_t>(m.out * m.in));
  for (int64_t o = 0; o < m.out; ++o)
    for (int64_t i = 0; i < m.in; ++i)
      for (int64_t k = 0; k < m.r; ++k)
        out[static_cast<size_t>(o * m.in + i)] +=
            static_cast<float>(m.scale) * m.b[static_cast<size_t>(o * m.r + k)] * m.a[static_cast<size_t>(k * m.in + i)];
  return out;
}

void expect_same(const LowRankSet& one, const LowRankSet& two) {
  ASSERT_EQ(one.modules.size(), two.modules.size());
  for (size_t i = 0; i < one.modules.size(); ++i) {
    EXPECT_EQ(one.modules[i].path, two.modules[i].path);
    EXPECT_EQ(one.modules[i].embedding, two.modules[i].embedding);
    expect_near(delta(two.modules[i]), delta(one.modules[i]), 1e-6, one.modules[i].path.c_str());
  }
}

std::string said(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) { return error.what(); }
  return "";
}

const std::string kQ = "model.layers.0.self_attn.q_proj", kDown = "model.layers.1.mlp.down_proj";

TEST_F(Convert, MlxThereAndBack) {
  const LowRankSet set{{drawn("model.embed_tokens", 6, 9, 2, 1.5, 7, true), drawn(kQ, 6, 6, 3, 0.5, 1), drawn(kDown, 6, 8, 2, 1.5, 3)},
                       "tiny"};
  write_mlx(set, at("mlx"), false);
  EXPECT_EQ(format_of_adapter(at("mlx")), AdapterFormat::mlx);
  const LowRankSet back = read_mlx(at("mlx"));
  EXPECT_EQ(back.base, "tiny");
  expect_same(set, back);
  const Json config = parse_json_file(at("mlx") + "/adapter_config.json");
  EXPECT_EQ(config["lora_parameters"]["rank"], 3);
  EXPECT_EQ(config["lora_parameters"]["scale"], 1.0);  // they differ: part of lora_b
  EXPECT_EQ(config["lora_parameters"]["keys"], Json::array({"mlp.down_proj", "model.embed_tokens", "self_attn.q_proj"}));
  EXPECT_EQ(config["num_layers"], -1);
  const auto source = open_safetensors(at("mlx") + "/adapters.safetensors");
  EXPECT_EQ(source->find(kDown + ".lora_a")->shape, (std::vector<int64_t>{8, 3}));
  EXPECT_EQ(source->find(kDown + ".lora_b")->shape, (std::vector<int64_t>{3, 6}));
  EXPECT_EQ(source->find("model.embed_tokens.lora_a")->shape, (std::vector<int64_t>{9, 3}));

  WrittenLowRank peft;
  peft.modules = back.modules;
  write_low_rank(peft, at("peft"), false);
  expect_same(set, read_peft_set(at("peft")));
  EXPECT_EQ(format_of_adapter(at("peft")), AdapterFormat::peft);
}

TEST_F(Convert, WhatMlxHasNoPlaceForIsRefused) {
  EXPECT_NE(said([&] {
              write_mlx({{drawn("visual.blocks.0.attn.qkv", 6, 6, 2, 1, 1)}, ""}, at("x"), false);
            }).find("visual.blocks.0"),
            std::string::npos);
  write_mlx({{drawn(kQ, 6, 6, 2, 1, 1)}, ""}, at("mlx"), false);
  write_file(at("mlx") + "/adapter_config.json", R"({"fine_tune_type": "dora", "lora_parameters": {"scale": 2.0}})");
  EXPECT_NE(said([&] { read_mlx(at("mlx")); }).find("fine_tune_type is dora"), std::string::npos);
  write_file(at("mlx") + "/adapter_config.json", R"({"lora_parameters": {"rank": 2}})");
  EXPECT_NE(said([&] { read_mlx(at("mlx")); }).find("no lora_parameters with a scale"), std::string::npos);
  std::vector<float> x(12);
  write_safetensors(at("mlx") + "/adapters.safetensors", {{kQ + ".lora_a", Tensor(x.data(), Dtype::F32, {6, 2})}}, {});
  write_file(at("mlx") + "/adapter_config.json", R"({"lora_parameters": {"scale": 2.0}})");
  EXPECT_NE(said([&] { read_mlx(at("mlx")); }).find("no lora_b"), std::string::npos);
}

TEST_F(Convert, KohyaThereAndBackByTheBasesNames) {
  const LowRankSet set{{drawn(kQ, 6, 6, 3, 0.5, 1), drawn(kDown, 6, 8, 2, 2, 3)}, "tiny"};
  const std::string file = at("kohya.safetensors");
  write_kohya(set, file, "lora_te_", false);
  EXPECT_EQ(format_of_adapter(file), AdapterFormat::kohya);
  expect_same(set, read_kohya(file, {kQ, kDown, "model.layers.1.self_attn.q_proj"}));
  EXPECT_NE(said([&] { read_kohya(file, {}); }).find("underscores"), std::string::npos);
  EXPECT_NE(said([&] { read_kohya(file, {kDown}); }).find("none of the base's modules"), std::string::npos);
  EXPECT_NE(said([&] { read_kohya(file, {kQ, "model.layers.0.self.attn_q.proj", kDown}); }).find("can mean"), std::string::npos);
  EXPECT_NE(said([&] {
              write_kohya({{drawn("a.b_c", 2, 2, 1, 1, 1), drawn("a_b.c", 2, 2, 1, 1, 1)}, ""}, at("k2.safetensors"), "lora_te_", false);
            }).find("both be called"),
            std::string::npos);
  EXPECT_NE(said([&] { write_kohya(set, file, "lora_te_", false); }).find("already"), std::string::npos);
}

TEST_F(Convert, WhatIsNoAdapterIsNamed) {
  EXPECT_NE(said([&] { format_of_adapter(at("nothing")); }).find("no such adapter"), std::string::npos);
  EXPECT_NE(said([&] { format_of_adapter(work.string()); }).find("no adapter_config.json"), std::string::npos);
  write_file(at("bad.gguf"), "GGUF but not");
  EXPECT_NE(said([&] { read_gguf_adapter(at("bad.gguf"), {}); }), "");
  std::vector<float> x(4);
  write_safetensors(at("plain.safetensors"), {{"w", Tensor(x.data(), Dtype::F32, {2, 2})}}, {});
  EXPECT_NE(said([&] { format_of_adapter(at("plain.safetensors")); }).find("lora_down"), std::string::npos);
}

}  // namespace
}  // namespace loraine::convert_test
