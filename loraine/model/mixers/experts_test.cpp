// The forms in which files hold experts give the same model; tokens beside each other do not change what a token gets; the gradient of the
// balance of choices.
#include "loraine/model/mixers/experts.h"

#include <gtest/gtest.h>

#include <cstring>

#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "tests/support/any_model.h"
#include "tests/support/formula_model.h"

namespace loraine::experts_test {
namespace {

constexpr int64_t kE = 4, kH = 32, kI = 12, kRows = 19;

nlohmann::json config(const char* type) {
  return {{"model_type", type},      {"vocab_size", 61},         {"hidden_size", kH},          {"intermediate_size", kI},
          {"num_hidden_layers", 2},  {"num_attention_heads", 4}, {"num_key_value_heads", 2},   {"max_position_embeddings", 64},
          {"num_local_experts", kE}, {"num_experts_per_tok", 2}, {"moe_intermediate_size", kI}};
}

// A source over values by name.
class Values : public TensorSource {
 public:
  void add(const std::string& name, const std::vector<int64_t>& shape, std::vector<float> values) {
    infos_.push_back({name, Dtype::F32, shape, "F32", ""});
    values_.push_back(std::move(values));
    std::ranges::sort(infos_, {}, &TensorInfo::name);
    by_name_[name] = values_.size() - 1;
  }
  const std::vector<float>& of(const std::string& name) const { return values_[by_name_.at(name)]; }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map(const TensorInfo& info) const override { return Tensor(const_cast<float*>(of(info.name).data()), Dtype::F32, info.shape); }
  void read(const TensorInfo& info, const Tensor& out) const override {
    convert(out.data, out.dtype, of(info.name).data(), Dtype::F32, out.numel());
  }

 private:
  std::vector<TensorInfo> infos_;
  std::vector<std::vector<float>> values_;
  std::map<std::string, size_t> by_name_;
};

Batch batch() {
  Batch out;
  for (int64_t t = 0; t < kRows; ++t) {
    out.tokens.push_back(static_cast<int32_t>((t * 7 + 5) % 61));
    out.positions.push_back(static_cast<int32_t>(t));
  }
  out.sequences.push_back({0, kRows, 0, kRows});
  out.adapter_rows = {{0, kRows, 0}};
  return out;
}

std::vector<float> hidden(const Model& model) {
  Arena dry;
  plan_activations(model, kRows, false, {}, dry);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, false, {}));
  Activations activations = plan_activations(model, kRows, false, {}, memory);
  Pass pass{&activations, nullptr, {}, &scratch, false};
  Context ctx;
  Batch all = batch();
  all.adapter_rows.clear();
  decoder_forward(ctx, model, all, pass);
  return {activations.hidden.f32(), activations.hidden.f32() + kRows * kH};
}

Model load(const std::shared_ptr<Values>& source, const LoadOptions& options = {}) {
  ModelFiles files;
  files.path = "values";
  files.config = config("qwen3_moe");
  files.tensors = source;
  return load_model(files, options);
}

enum class Form { split, whole, stacked };

std::shared_ptr<Values> source(Form form) {
  auto out = std::make_shared<Values>();
  std::map<std::string, std::vector<float>> pieces;  // stacked by expert
  for (const TensorInfo& info : tensors_of(config("qwen3_moe"), "config.json")) {
    std::vector<float> values(static_cast<size_t>(Tensor(nullptr, Dtype::F32, info.shape).numel()));
    AnyWeights({}).read(info, Tensor(values.data(), Dtype::F32, info.shape));
    const size_t at = info.name.find(".experts.");
    if (at == std::string::npos || form == Form::split) {
      out->add(info.name, info.shape, values);
      continue;
    }
    const std::string name = info.name.substr(0, at + 9) + info.name.substr(info.name.find('.', at + 9) + 1);
    std::vector<float>& all = pieces[name];  // experts come in the order of their names
    all.insert(all.end(), values.begin(), values.end());
  }
  if (form == Form::split) return out;
  for (int layer = 0; layer < 2; ++layer) {
    const std::string module = "model.layers." + std::to_string(layer) + ".mlp.experts.";
    const std::vector<float>&gate = pieces[module + "gate_proj.weight"], &up = pieces[module + "up_proj.weight"],
          &down = pieces[module + "down_proj.weight"];
    if (form == Form::stacked) {
      out->add(module + "gate_proj.weight", {kE, kI, kH}, gate);
      out->add(module + "up_proj.weight", {kE, kI, kH}, up);
      out->add(module + "down_proj.weight", {kE, kH, kI}, down);
      continue;
    }
    std::vector<float> both;
    for (int64_t e = 0; e < kE; ++e)
      for (const std::vector<float>* piece : {&gate, &up})
        both.insert(both.end(), piece->begin() + e * kI * kH, piece->begin() + (e + 1) * kI * kH);
    out->add(module + "gate_up_proj", {kE, 2 * kI, kH}, both);
    out->add(module + "down_proj", {kE, kH, kI}, down);
  }
  return out;
}

TEST(Experts, EveryFormOfTheFilesIsTheSameModel) {
  LoadOptions bf16, four_bits;
  bf16.bf16 = true;
  four_bits.quantisation = {Dtype::NF4, false};  // blocks end where matrices do
  for (const LoadOptions& options : {LoadOptions(), four_bits}) {
    const Model split = load(source(Form::split), options);
    const std::vector<float> want = hidden(split);
    for (const Form form : {Form::whole, Form::stacked}) {
      const Model model = load(source(form), options);
      EXPECT_EQ(model.parameter_count(), split.parameter_count());
      const std::vector<float> got = hidden(model);
      for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-5) << static_cast<int>(form);
    }
  }
  const Model narrow = load(source(Form::whole), bf16);
  for (const ExpertWeights* experts : narrow.experts())
    for (const WeightPart& part : experts->stacks[0].parts) EXPECT_EQ(part.weight.dtype, Dtype::BF16);
  LoadOptions whole = four_bits;
  whole.whole_experts = true;
  const Model kept = load(source(Form::split), whole);
  EXPECT_EQ(kept.experts()[0]->stacks[0].parts[0].weight.dtype, Dtype::F32);
  EXPECT_EQ(kept.sites()[0]->parts[0].weight.dtype, Dtype::NF4);
  EXPECT_EQ(kept.sites()[2]->parts[0].weight.dtype, Dtype::F32);  // the router
}

TEST(Experts, AMissingOneIsNamed) {
  auto all = source(Form::split);
  auto less = std::make_shared<Values>();
  for (const TensorInfo& info : all->tensors())
    if (info.name != "model.layers.1.mlp.experts.2.up_proj.weight") less->add(info.name, info.shape, all->of(info.name));
  try {
    load(less);
    FAIL() << "loaded";
  } catch (const Error& error) {
    EXPECT_EQ(error.kind, ErrorKind::bad_data);
    EXPECT_NE(std::string(error.what()).find("model.layers.1.mlp.experts.2.up_proj.weight: missing"), std::string::npos) << error.what();
  }
}

// d loss of the balance into the adapters, which reach routers through the layers below, against differences.
TEST(Experts, BalanceHasItsGradient) {
  nlohmann::json hf = config("qwen3_moe");
  hf["output_router_logits"] = true;
  hf["router_aux_loss_coef"] = 0.5;
  const Model model = any_model(hf);
  EXPECT_EQ(model.config.router_aux_loss_coef, 0.5);
  LoraConfig lora;
  lora.r = 2;
  set_targets(lora, "q_proj,gate,experts");
  for (const Recompute recompute : {Recompute::none, Recompute::block}) {
    AdapterSet set = attach_adapter(model, lora, true);
    for (const Parameter& p : set.parameters())
      for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = 0.3f * noise(static_cast<size_t>(i), p.name.size());
    Context ctx;
    const std::vector<const AdapterSet*> sets = {&set};
    Arena dry;
    plan_activations(model, kRows, true, sets, dry, recompute);
    Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, true, sets));
    Activations activations = plan_activations(model, kRows, true, sets, memory, recompute);
    RouterBalance balance{BalanceSums(kE), 1};
    Pass pass{&activations, nullptr, sets, &scratch, true};
    pass.balance = &balance;
    const Batch rows = batch();
    const auto loss = [&] {
      set.refresh(ctx);
      decoder_forward(ctx, model, rows, pass);
      return balance_loss(balance.sums);
    };
    const double begin = loss();
    EXPECT_GT(begin, 1.9);  // about the number of choices
    std::vector<float> d(static_cast<size_t>(kRows * kH));
    decoder_backward(ctx, model, rows, pass, set, Tensor(d.data(), Dtype::F32, {kRows, kH}));
    set.finish_gradients(ctx);
    for (const Parameter& p : set.parameters()) {
      if (p.name.find("layers.1.") != std::string::npos && p.name.find("experts") != std::string::npos) continue;  // no router above
      int64_t most = 0;
      for (int64_t i = 0; i < p.gradient.numel(); ++i)
        if (std::abs(p.gradient.f32()[i]) > std::abs(p.gradient.f32()[most])) most = i;
      const float value = p.value.f32()[most], step = 0.01f;
      p.value.f32()[most] = value + step;
      const double above = loss();
      p.value.f32()[most] = value - step;
      const double below = loss();
      p.value.f32()[most] = value;
      const double gradient = static_cast<double>(p.gradient.f32()[most]);
      EXPECT_NEAR((above - below) / (2 * static_cast<double>(step)), gradient, 0.02 * std::abs(gradient) + 1e-4) << p.name;
    }
  }
}

}  // namespace
}  // namespace loraine::experts_test
