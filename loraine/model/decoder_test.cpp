// A whole forward and backward on a small random model: the same bits with any number of threads; a bf16 base near the f32 one.
#include "loraine/model/decoder.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/adapters/attach.h"
#include "loraine/core/packed.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/attach.h"
#include "loraine/model/int8.h"
#include "tests/support/apart.h"
#include "tests/support/formula_model.h"

namespace loraine::decoder_test {
namespace {

constexpr int64_t kRows = 150;

// The matrices as Q8_0 blocks, which are shown or only read unpacked.
class PackedWeights : public FormulaWeights {
 public:
  explicit PackedWeights(bool shown) : FormulaWeights(false), infos_(FormulaWeights::tensors()) {
    for (TensorInfo& info : infos_) {
      if (info.shape.size() != 2) continue;
      std::vector<float> values(static_cast<size_t>(info.shape[0] * info.shape[1]));
      FormulaWeights::read(info, Tensor(values.data(), Dtype::F32, info.shape));
      std::vector<unsigned char>& blocks = blocks_[info.name];
      for (size_t first = 0; first < values.size(); first += 32) {
        const f16 scale = f32_to_f16(0.2f / 127);
        blocks.insert(blocks.end(), {static_cast<unsigned char>(scale & 255), static_cast<unsigned char>(scale >> 8)});
        for (size_t i = 0; i < 32; ++i)
          blocks.push_back(static_cast<unsigned char>(static_cast<int8_t>(std::lround(values[first + i] / f16_to_f32(scale)))));
      }
      if (shown) info.packed = Dtype::Q8_0;
    }
  }
  const std::vector<TensorInfo>& tensors() const override { return infos_; }
  Tensor map_packed(const TensorInfo& info) const override {
    return Tensor(const_cast<unsigned char*>(blocks_.at(info.name).data()), Dtype::Q8_0, std::span<const int64_t>(info.shape));
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    if (info.shape.size() == 1) return FormulaWeights::read(info, out);
    std::vector<float> values(static_cast<size_t>(out.numel()));
    unpack(values.data(), blocks_.at(info.name).data(), Dtype::Q8_0, out.numel());
    convert(out.data, out.dtype, values.data(), Dtype::F32, out.numel());
  }

 private:
  std::vector<TensorInfo> infos_;
  std::map<std::string, std::vector<unsigned char>> blocks_;
};

struct Result {
  std::vector<float> hidden, gradients;
  size_t bytes = 0;  // of the activations
};

Result run(const Model& model, Recompute recompute = Recompute::none, double lora_dropout = 0) {
  LoraConfig lora;
  lora.r = 4;
  lora.lora_alpha = 8;
  lora.lora_dropout = lora_dropout;
  set_targets(lora, "all");
  AdapterSet adapter = attach_lora(model.sites(), lora, true);
  for (const Parameter& p : adapter.parameters())
    for (int64_t i = 0; i < p.value.numel(); ++i) p.value.f32()[i] = noise(static_cast<size_t>(i), p.name.size());
  Batch batch;
  for (int64_t t = 0; t < kRows; ++t) {
    batch.tokens.push_back(static_cast<int32_t>(t * 7 % kVocab));
    batch.positions.push_back(static_cast<int32_t>(t < 100 ? t : t - 100));
  }
  batch.sequences = {{0, 100, 0, 100}, {100, kRows - 100, 100, kRows - 100}};
  batch.adapter_rows = {{0, kRows, 0}};
  std::vector<const AdapterSet*> sets = {&adapter};
  Arena dry;
  plan_activations(model, kRows, true, sets, dry, recompute);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, true, sets));
  Activations activations = plan_activations(model, kRows, true, sets, memory, recompute);
  Pass pass{&activations, nullptr, sets, &scratch, true};
  Context ctx;
  decoder_forward(ctx, model, batch, pass);
  Result result;
  result.bytes = dry.peak();
  result.hidden.resize(static_cast<size_t>(kRows * kHidden));
  convert_rows(ctx, Tensor(result.hidden.data(), Dtype::F32, {kRows, kHidden}), activations.hidden);
  std::vector<float> d(static_cast<size_t>(kRows * kHidden));
  for (size_t i = 0; i < d.size(); ++i) d[i] = noise(i, 5);
  decoder_backward(ctx, model, batch, pass, adapter, Tensor(d.data(), Dtype::F32, {kRows, kHidden}));
  for (const Parameter& p : adapter.parameters())
    result.gradients.insert(result.gradients.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
  return result;
}

TEST(Decoder, HasTheSameBitsWithAnyNumberOfThreads) {
  int threads = omp_get_max_threads();
  for (bool bf16 : {false, true}) {
    Model model = make_model(bf16, false);
    omp_set_num_threads(1);
    Result one = run(model);
    for (int n : {2, 3}) {
      omp_set_num_threads(n);
      Result many = run(model);
      EXPECT_EQ(one.hidden, many.hidden);
      EXPECT_EQ(one.gradients, many.gradients);
    }
    omp_set_num_threads(threads);
  }
}

TEST(Decoder, RecomputingTakesLessMemoryAndGivesTheSameBits) {
  for (bool bf16 : {false, true}) {
    const Model model = make_model(bf16, false);
    const Result kept = run(model, Recompute::none, 0.1), mlp = run(model, Recompute::mlp, 0.1), block = run(model, Recompute::block, 0.1);
    EXPECT_EQ(kept.hidden, mlp.hidden);
    EXPECT_EQ(kept.gradients, mlp.gradients);
    EXPECT_EQ(kept.hidden, block.hidden);
    EXPECT_EQ(kept.gradients, block.gradients);
    EXPECT_LT(mlp.bytes, kept.bytes);
    EXPECT_LT(block.bytes, mlp.bytes);
  }
}

TEST(Decoder, BfloatBaseIsNearTheFloatOne) {
  Model narrow = make_model(true, false);
  EXPECT_EQ(narrow.sites()[0]->parts[0].weight.dtype, Dtype::BF16);
  EXPECT_EQ(narrow.embedding.dtype, Dtype::BF16);
  Result bf16 = run(narrow), f32 = run(make_model(false, false)), rounded = run(make_model(false, true));
  double size = 0;
  for (float g : f32.gradients) size += std::fabs(g);
  EXPECT_GT(size, 0);
  EXPECT_LT(apart(bf16.hidden, f32.hidden), 7e-2);
  EXPECT_LT(apart(bf16.gradients, f32.gradients), 0.12);
  EXPECT_GT(apart(bf16.hidden, f32.hidden), 1e-6);  // the weights were rounded
  // Against the same rounded weights in f32 only the activations differ; these weights are noise, which carries a rounding far.
  EXPECT_LT(apart(bf16.hidden, rounded.hidden), 7e-2);
  EXPECT_LT(apart(bf16.gradients, rounded.gradients), 0.12);
}

// The tolerance of int8: both sides of every frozen product are rounded to about 1 % (quant/int8_weight_test.cpp), as of bf16 with its 8
// bits of mantissa to 0.3 %; these weights are noise, which carries a rounding far.
TEST(Decoder, Int8BaseIsNearTheFloatOne) {
  const Result f32 = run(make_model(false, false));
  for (bool bf16 : {false, true}) {
    Model model = make_model(bf16, false);
    const size_t before = model.weight_bytes(),
                 kept = model.embedding.bytes() + (model.config.tie_word_embeddings ? 0 : model.head.weight.parts[0].weight.bytes());
    blocks_to_int8(model);
    EXPECT_EQ(model.layer_sites().back()->parts[0].weight.dtype, Dtype::INT8);
    const size_t codes = (before - kept) / (bf16 ? 2 : 4);
    EXPECT_GT(model.weight_bytes() - kept, codes);
    EXPECT_LT(model.weight_bytes() - kept, codes * 5 / 4);  // and a scale a row
    const Result int8 = run(model), again = run(model, Recompute::block);
    EXPECT_LT(apart(int8.hidden, f32.hidden), 0.1);
    EXPECT_LT(apart(int8.gradients, f32.gradients), 0.2);
    EXPECT_GT(apart(int8.hidden, f32.hidden), 1e-4);
    EXPECT_EQ(int8.hidden, again.hidden);
    EXPECT_EQ(int8.gradients, again.gradients);
  }
}

TEST(Decoder, PackedBaseStaysPackedAndGivesTheBitsOfTheUnpackedOne) {
  for (bool bf16 : {false, true}) {
    const Model packed = make_model(std::make_unique<PackedWeights>(true), bf16),
                wide = make_model(std::make_unique<PackedWeights>(false), bf16);
    EXPECT_EQ(packed.sites()[0]->parts[0].weight.dtype, Dtype::Q8_0);
    EXPECT_EQ(packed.embedding.dtype, Dtype::Q8_0);
    EXPECT_EQ(wide.embedding.dtype, bf16 ? Dtype::BF16 : Dtype::F32);
    EXPECT_LT(packed.weight_bytes() * (bf16 ? 1 : 3), wide.weight_bytes());
    const Result a = run(packed), b = run(wide);
    if (bf16) {  // where the embedding, too, is rounded when it is not packed; these weights are noise, which carries a rounding far
      EXPECT_LT(apart(a.hidden, b.hidden), 7e-2);
      EXPECT_LT(apart(a.gradients, b.gradients), 0.2);  // two roundings, each 0.07 from f32 as above: 0.09 to 0.16 by instruction set
    } else {
      EXPECT_EQ(a.hidden, b.hidden);
      EXPECT_EQ(a.gradients, b.gradients);
      AdapterSet of_packed, of_wide;  // trained copies
      for (auto [set, model] : {std::pair{&of_packed, &packed}, std::pair{&of_wide, &wide}})
        attach_dense(
            *set, *model, [](const std::string& name) { return name; }, true, true);
      const std::vector<Parameter> p = of_packed.parameters(), q = of_wide.parameters();
      ASSERT_EQ(p.size(), q.size());
      for (size_t i = 0; i < p.size(); ++i)
        EXPECT_TRUE(p[i].name == q[i].name && std::equal(p[i].value.f32(), p[i].value.f32() + p[i].value.numel(), q[i].value.f32()));
    }
  }
}

}  // namespace
}  // namespace loraine::decoder_test
