// Adapters of transformers 4 and of PEFT before 0.19: each expert gains the product of its own A and B, however the file calls them.
#include "loraine/model/older_adapters.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <list>
#include <nlohmann/json.hpp>

#include "loraine/adapters/expert_lora.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/model/attach.h"
#include "tests/support/any_model.h"
#include "tests/support/formula_model.h"

namespace loraine::older_adapters_test {
namespace {

constexpr int64_t kE = 3, kH = 16, kI = 6, kR = 2;

nlohmann::json config(const char* type) {
  return {{"model_type", type},     {"vocab_size", 31},         {"hidden_size", kH},        {"intermediate_size", kI},
          {"num_hidden_layers", 2}, {"num_attention_heads", 2}, {"num_key_value_heads", 1}, {"max_position_embeddings", 64},
          {"num_experts", kE},      {"num_local_experts", kE},  {"num_experts_per_tok", 2}, {"moe_intermediate_size", kI}};
}

// A folder with an adapter; tensors are filled by their names.
class Folder {
 public:
  Folder() : path_(std::filesystem::temp_directory_path() / ("loraine_older_" + std::to_string(::getpid()))) {
    std::filesystem::create_directories(path_);
  }
  ~Folder() { std::filesystem::remove_all(path_); }
  std::string path() const { return path_.string(); }
  void add(const std::string& name, int64_t rows, int64_t cols) {
    std::vector<float>& values = memory_.emplace_back(static_cast<size_t>(rows * cols));
    for (size_t i = 0; i < values.size(); ++i) values[i] = noise(i, std::hash<std::string>{}(name));
    tensors_.emplace_back("base_model.model." + name, Tensor(values.data(), Dtype::F32, {rows, cols}));
  }
  void add_layer(const std::string& module, int64_t out, int64_t in, int64_t r = kR) {
    add(module + ".lora_A.weight", r, in);
    add(module + ".lora_B.weight", out, r);
  }
  const float* of(const std::string& name) const {
    for (const auto& [own, tensor] : tensors_)
      if (own == "base_model.model." + name) return tensor.f32();
    throw std::out_of_range(name);
  }
  void drop(const std::string& name) {
    std::erase_if(tensors_, [&](const auto& one) { return one.first == "base_model.model." + name; });
  }
  void write(nlohmann::json settings) {
    nlohmann::json all = {{"peft_type", "LORA"}, {"r", kR}, {"lora_alpha", 4}, {"lora_dropout", 0}};
    all.update(settings);
    std::ofstream(path_ / "adapter_config.json") << all;
    write_safetensors(path() + "/adapter_model.safetensors", tensors_, {{"format", "pt"}});
  }

 private:
  std::filesystem::path path_;
  std::list<std::vector<float>> memory_;
  std::vector<std::pair<std::string, Tensor>> tensors_;
};

// What expert e of the parameter gains at [o, i].
double gain(const ExpertLora& lora, int64_t e, int64_t o, int64_t i) {
  const ExpertFactors& f = lora.factors();
  const int64_t r = f.rank(), in = f.down.shape[2], out = f.up.shape[1];
  double sum = 0;
  for (int64_t k = 0; k < r; ++k)
    sum += static_cast<double>(f.up.f32()[(e * out + o) * r + k]) * static_cast<double>(f.down.f32()[(e * r + k) * in + i]);
  return static_cast<double>(f.scale) * sum;
}

double layer_gain(const Folder& folder, const std::string& module, int64_t r, int64_t in, double scale, int64_t o, int64_t i) {
  const float *a = folder.of(module + ".lora_A.weight"), *b = folder.of(module + ".lora_B.weight");
  double sum = 0;
  for (int64_t k = 0; k < r; ++k) sum += static_cast<double>(b[o * r + k]) * static_cast<double>(a[k * in + i]);
  return scale * sum;
}

const ExpertLora& lora_on(const AdapterSet& set, const Model& model, const std::string& name) {
  for (const ExpertWeights* w : model.experts())
    if (w->name() == name && set.expert(w->index)) return *set.expert(w->index);
  throw std::out_of_range(name);
}

// A whole adapter as transformers 4 and LLaMA-Factory's `all` make it.
void write_split(Folder& folder, const std::string& mlp, const std::vector<std::string>& pieces, const nlohmann::json& more = {}) {
  for (int layer = 0; layer < 2; ++layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".";
    folder.add_layer(module + "self_attn.q_proj", kH, kH);
    folder.add_layer(module + mlp + ".gate", kE, kH);
    for (int64_t e = 0; e < kE; ++e) {
      const std::string expert = module + mlp + ".experts." + std::to_string(e) + ".";
      folder.add_layer(expert + pieces[0], kI, kH);
      folder.add_layer(expert + pieces[1], kI, kH);
      folder.add_layer(expert + pieces[2], kH, kI);
    }
  }
  nlohmann::json settings = {{"target_modules", {"q_proj", "gate", pieces[0], pieces[1], pieces[2]}}, {"peft_version", "0.17.1"}};
  if (!more.is_null()) settings.update(more);
  folder.write(settings);
}

TEST(OlderAdapters, ExpertsThatWereLayers) {
  struct Form {
    const char *type, *mlp;
    std::vector<std::string> pieces;
  };
  for (const Form& form :
       {Form{"mixtral", "block_sparse_moe", {"w1", "w3", "w2"}}, Form{"qwen3_moe", "mlp", {"gate_proj", "up_proj", "down_proj"}},
        Form{"olmoe", "mlp", {"gate_proj", "up_proj", "down_proj"}}})
    for (const bool trained : {false, true}) {
      SCOPED_TRACE(form.type);
      Model model = any_model(config(form.type));
      Folder folder;
      write_split(folder, form.mlp, form.pieces);
      LoraConfig read;
      const AdapterSet set = trained ? load_adapter_to_train(model, folder.path(), &read) : load_adapter(model, folder.path(), &read);
      EXPECT_EQ(read.target_parameters, (std::vector<std::string>{"gate.weight", "experts.down_proj", "experts.gate_up_proj"}));
      EXPECT_EQ(read.target_modules, std::vector<std::string>{"q_proj"});
      for (int layer = 0; layer < 2; ++layer) {
        const std::string at = "model.layers." + std::to_string(layer) + ".";
        const ExpertLora &both = lora_on(set, model, at + "mlp.experts.gate_up_proj"),
                         &down = lora_on(set, model, at + "mlp.experts.down_proj");
        EXPECT_EQ(both.factors().rank(), 2 * kR);
        for (int64_t e = 0; e < kE; ++e) {
          const std::string expert = at + form.mlp + ".experts." + std::to_string(e) + ".";
          for (int64_t i = 0; i < kH; ++i)
            for (int64_t o = 0; o < kI; ++o) {
              EXPECT_NEAR(gain(both, e, o, i), layer_gain(folder, expert + form.pieces[0], kR, kH, 2, o, i), 1e-12);
              EXPECT_NEAR(gain(both, e, kI + o, i), layer_gain(folder, expert + form.pieces[1], kR, kH, 2, o, i), 1e-12);
              EXPECT_NEAR(gain(down, e, i, o), layer_gain(folder, expert + form.pieces[2], kR, kI, 2, i, o), 1e-12);
            }
        }
      }
      for (const Parameter& p : set.parameters())
        if (p.name == "base_model.model.model.layers.1.mlp.gate.lora_A.weight") {
          EXPECT_EQ(p.value.f32()[3], folder.of(std::string("model.layers.1.") + form.mlp + ".gate.lora_A.weight")[3]);
        }
      // Written, it is PEFT 0.19's, and read again the same.
      Folder again;
      write_peft(set, read, again.path());
      LoraConfig reread;
      const AdapterSet second = load_adapter(model, again.path(), &reread);
      EXPECT_EQ(reread.target_parameters, read.target_parameters);
      const auto first = set.parameters(), other = second.parameters();
      ASSERT_EQ(first.size(), other.size());
      for (size_t n = 0; n < first.size(); ++n)
        for (int64_t i = 0; i < first[n].value.numel(); ++i) ASSERT_EQ(first[n].value.f32()[i], other[n].value.f32()[i]) << first[n].name;
    }
}

// One matrix of the three, in one layer, each with a rank and a scale of its own, chosen by a regular expression.
TEST(OlderAdapters, SomeOfTheLayers) {
  Model model = any_model(config("mixtral"));
  Folder folder;
  const std::string mlp = "model.layers.1.block_sparse_moe.";
  for (int64_t e = 0; e < kE; ++e) folder.add_layer(mlp + "experts." + std::to_string(e) + ".w3", kI, kH, e == 1 ? 3 : kR);
  folder.add_layer(mlp + "gate", kE, kH);
  folder.write({{"target_modules", ".*\\.1\\.block_sparse_moe\\.(gate|.*w3)"},
                {"rank_pattern", {{"experts.1.w3", 3}}},
                {"alpha_pattern", {{"experts.2.w3", 10}}}});
  LoraConfig read;
  const AdapterSet set = load_adapter(model, folder.path(), &read);
  EXPECT_EQ(read.target_parameters,
            (std::vector<std::string>{"model.layers.1.mlp.gate.weight", "model.layers.1.mlp.experts.gate_up_proj"}));
  EXPECT_TRUE(read.target_modules.empty());
  const ExpertLora& both = lora_on(set, model, "model.layers.1.mlp.experts.gate_up_proj");
  EXPECT_EQ(both.factors().rank(), 3);
  for (int64_t e = 0; e < kE; ++e)
    for (int64_t i = 0; i < kH; ++i)
      for (int64_t o = 0; o < kI; ++o) {
        EXPECT_EQ(gain(both, e, o, i), 0);
        const int64_t r = e == 1 ? 3 : kR;
        const double scale = e == 1 ? 4.0 / 3 : e == 2 ? 5 : 2;
        EXPECT_NEAR(gain(both, e, kI + o, i), layer_gain(folder, mlp + "experts." + std::to_string(e) + ".w3", r, kH, scale, o, i), 1e-6);
      }
}

TEST(OlderAdapters, WhatDoesNotFitIsNamed) {
  const auto message = [](const std::function<void(Folder&)>& change, const nlohmann::json& more = {}) -> std::string {
    Model model = any_model(config("mixtral"));
    Folder folder;
    write_split(folder, "block_sparse_moe", {"w1", "w3", "w2"}, more);
    change(folder);
    nlohmann::json settings = {{"target_modules", {"q_proj", "gate", "w1", "w2", "w3"}}};
    if (!more.is_null()) settings.update(more);
    folder.write(settings);
    try {
      load_adapter(model, folder.path());
    } catch (const Error& error) { return error.what(); }
    return "loaded";
  };
  const std::string expert = "model.layers.0.block_sparse_moe.experts.1.w2";
  EXPECT_EQ(message([](Folder&) {}), "loaded");
  EXPECT_NE(message([&](Folder& f) {
              f.drop(expert + ".lora_B.weight");
            }).find(expert + ": the config targets this module and the file has no A or no B"),
            std::string::npos);
  EXPECT_NE(message([&](Folder& f) {
              f.drop(expert + ".lora_A.weight");
              f.add(expert + ".lora_A.weight", kR, kI + 1);
            }).find(expert + ".lora_A.weight: file has [2, 7], model and config imply [2, 6]"),
            std::string::npos);
  EXPECT_NE(message([](Folder&) {}, {{"target_modules", {"q_proj", "gate", "w1", "w3"}}}).find("w2.lora_A.weight: belongs to no module"),
            std::string::npos);
  EXPECT_NE(message([&](Folder& f) { f.add(expert + ".lora_magnitude_vector", 1, kH); }).find("DoRA on experts"), std::string::npos);
  EXPECT_NE(message([&](Folder& f) { f.add_layer("model.layers.1.mlp.gate", kE, kH); }).find("under two names"), std::string::npos);
}

// PEFT up to 0.18: A and B the other way round; either of the parameters inside.
TEST(OlderAdapters, FusedExpertsOfPeft018) {
  for (const bool otherwise : {false, true}) {
    Model model = any_model(config("qwen3_moe"));
    Folder folder;
    const std::string inside = ".base_layer", none;
    for (int layer = 0; layer < 2; ++layer) {
      const std::string module = "model.layers." + std::to_string(layer) + ".mlp.experts";
      folder.add(module + (otherwise ? none : inside) + ".lora_A.weight", kR * kE, 2 * kI);
      folder.add(module + (otherwise ? none : inside) + ".lora_B.weight", kH, kR * kE);
      folder.add(module + (otherwise ? inside : none) + ".lora_A.weight", kR * kE, kH);
      folder.add(module + (otherwise ? inside : none) + ".lora_B.weight", kI, kR * kE);
    }
    folder.write({{"target_modules", nlohmann::json::array()},
                  {"target_parameters", {"experts.gate_up_proj", "experts.down_proj"}},
                  {"peft_version", "0.18.1"}});
    const AdapterSet set = load_adapter(model, folder.path());
    for (const bool up : {true, false}) {
      const std::string module = "model.layers.1.mlp.experts";
      const ExpertLora& lora = lora_on(set, model, module + (up ? ".gate_up_proj" : ".down_proj"));
      const std::string key = module + (up == otherwise ? none : inside);
      const float *a = folder.of(key + ".lora_A.weight"), *b = folder.of(key + ".lora_B.weight");
      const int64_t out = up ? 2 * kI : kH, in = up ? kH : kI;
      for (int64_t e = 0; e < kE; ++e)
        for (int64_t o = 0; o < out; ++o)
          for (int64_t i = 0; i < in; ++i) {
            double want = 0;  // (B_e A_e) transposed
            for (int64_t k = 0; k < kR; ++k)
              want += static_cast<double>(b[i * kR * kE + k * kE + e]) * static_cast<double>(a[(e * kR + k) * out + o]);
            EXPECT_NEAR(gain(lora, e, o, i), 2 * want, 1e-12);
          }
    }
  }
}

}  // namespace
}  // namespace loraine::older_adapters_test
