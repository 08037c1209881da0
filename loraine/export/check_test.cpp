// Right merges of every method and type pass the check; a value that is off by one step, a byte of a copied tensor, and a sum that the type
// cannot hold do not.
#include "loraine/export/check.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>

#include "loraine/core/error.h"
#include "loraine/io/files/durable_file.h"
#include "loraine/model/attach.h"
#include "tests/support/formula_model.h"

namespace loraine::check_test {
namespace {

namespace fs = std::filesystem;

struct Folder {
  std::string path;
  explicit Folder(const std::string& name) : path(fs::temp_directory_path() / ("loraine_check_" + name + std::to_string(::getpid()))) {
    fs::remove_all(path);
    fs::create_directories(path);
    write_file(path + "/config.json", R"({"model_type": "llama", "vocab_size": 101, "hidden_size": 64, "intermediate_size": 96,
      "num_hidden_layers": 2, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16, "rms_norm_eps": 1e-5,
      "tie_word_embeddings": true})");
  }
  ~Folder() { fs::remove_all(path); }
};

LoraConfig method(const std::string& name) {
  LoraConfig config;
  config.r = 4;
  set_targets(config, name == "embedding" ? "q_proj,embed_tokens" : "all");
  config.use_dora = name == "dora";
  if (name == "adalora") config.adalora = AdaloraConfig{.init_r = 4, .target_r = 4, .total_step = 10};
  if (name == "whole") config.modules_to_save = {"norm", "down_proj"};
  return config;
}

AdapterSet adapter_of(const Model& model, const LoraConfig& config, float size) {
  AdapterSet set = attach_adapter(model, config, false);
  std::mt19937 random(3);
  std::normal_distribution<float> normal(0, size);
  for (const Parameter& p : set.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i)
      p.value.f32()[i] = p.name.ends_with("magnitude_vector") ? 1 + normal(random) : normal(random);
  Context ctx;
  set.refresh(ctx);
  return set;
}

// Changes byte `offset` of a tensor in model.safetensors.
void change_byte(const std::string& folder, const std::string& name, size_t offset, const std::function<char(char)>& change) {
  std::fstream file(folder + "/model.safetensors", std::ios::in | std::ios::out | std::ios::binary);
  uint64_t length = 0;
  file.read(reinterpret_cast<char*>(&length), 8);
  std::string header(length, ' ');
  file.read(header.data(), static_cast<std::streamsize>(length));
  const auto at = static_cast<std::streamoff>(8 + length + Json::parse(header)[name]["data_offsets"][0].get<uint64_t>() + offset);
  file.seekg(at);
  const char changed = change(static_cast<char>(file.get()));
  file.seekp(at);
  file.put(changed);
}

std::string message_of(const Merge& merge, const std::string& folder, ErrorKind kind) {
  try {
    check_written(merge, folder);
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, kind) << error.what();
    return error.what();
  }
  return "accepted";
}

TEST(Check, RightMergesPass) {
  const Model model = make_model(false, true);
  for (const char* name : {"lora", "dora", "adalora", "embedding", "whole"})
    for (const std::optional<Dtype> type : {std::optional<Dtype>{}, std::optional(Dtype::BF16), std::optional(Dtype::F16)})
      for (const float size : {0.003f, 0.3f}) {
        const Folder folder("right");
        const AdapterSet set = adapter_of(model, method(name), size);
        const auto merge = plan_merge(model, &set, type);
        write_merge(*merge, folder.path, {int64_t{1} << 40});
        EXPECT_EQ(message_of(*merge, folder.path, ErrorKind::internal), "accepted") << name << " " << size;
      }
}

TEST(Check, OneStepOfOneValueIsFound) {
  const Model model = make_model(false, true);
  const std::string q = "model.layers.1.self_attn.q_proj.weight", norm = "model.norm.weight";
  for (const char* name : {"lora", "dora"}) {
    const AdapterSet set = adapter_of(model, method(name), 0.1f);
    const Folder folder("step");
    const auto merge = plan_merge(model, &set, Dtype::BF16);
    write_merge(*merge, folder.path, {int64_t{1} << 40});
    change_byte(folder.path, q, 2 * 77,
                [](char c) { return static_cast<char>(c ^ 1); });  // the neighbour: between half and one and a half steps
    EXPECT_NE(message_of(*merge, folder.path, ErrorKind::internal).find(q + ": 1 of its 4096 values"), std::string::npos);
  }
  const AdapterSet set = adapter_of(model, method("lora"), 0.1f);
  const Folder folder("f32");
  const auto merge = plan_merge(model, &set);
  write_merge(*merge, folder.path, {int64_t{1} << 40});
  change_byte(folder.path, q, 4 * 77 + 1, [](char c) { return static_cast<char>(c ^ 1); });  // 256 steps
  EXPECT_NE(message_of(*merge, folder.path, ErrorKind::internal).find(q), std::string::npos);
  change_byte(folder.path, q, 4 * 77 + 1, [](char c) { return static_cast<char>(c ^ 1); });
  change_byte(folder.path, norm, 9, [](char c) { return static_cast<char>(c ^ 1); });  // a tensor that is only copied
  EXPECT_NE(message_of(*merge, folder.path, ErrorKind::io).find(norm), std::string::npos);
}

TEST(Check, WhatTheTypeCannotHoldIsNamed) {
  const Model model = make_model(false, true);
  AdapterSet set = adapter_of(model, method("lora"), 0.1f);
  for (const Parameter& p : set.parameters())
    if (p.name.ends_with("layers.0.mlp.up_proj.lora_B.weight")) p.value.f32()[0] = 1e8f;
  const Folder folder("large");
  const auto merge = plan_merge(model, &set, Dtype::F16);
  write_merge(*merge, folder.path, {int64_t{1} << 40});
  const std::string said = message_of(*merge, folder.path, ErrorKind::numeric);
  EXPECT_NE(said.find("model.layers.0.mlp.up_proj.weight"), std::string::npos) << said;
  EXPECT_NE(said.find("F16"), std::string::npos) << said;
}

TEST(Check, WithoutRoundingNothingIsApart) {
  const Model model = make_model(false, true);
  const std::vector<std::vector<int32_t>> texts = {{5, 9, 33, 7, 12, 40}, {3, 8, 13, 21}};
  double kl[2];
  for (const bool narrow : {false, true}) {
    const Folder folder("logits");
    const AdapterSet set = adapter_of(model, method("lora"), 0.1f);
    const auto merge = plan_merge(model, &set, narrow ? std::optional(Dtype::BF16) : std::nullopt);
    write_merge(*merge, folder.path, {int64_t{1} << 40});
    const LogitsReport report = compare_logits(*merge, folder.path, texts);
    ASSERT_TRUE(report.rounding.has_value() == narrow && report.merged.finite);
    EXPECT_EQ(report.tokens, 10);
    kl[narrow] = report.merged.mean_kl;
    if (narrow) {
      EXPECT_NEAR(report.rounding->mean_kl, kl[narrow], 0.05 * kl[narrow]);  // the rest is the order of sums
    }
    EXPECT_GE(report.merged.same_first, narrow ? 0.8 : 1.0);
  }
  EXPECT_LT(kl[0], 1e-9);
  EXPECT_GT(kl[1], 1e-7);
}

}  // namespace
}  // namespace loraine::check_test
