// A whole forward and backward on a small random model: the same bits with any number of threads; a bf16 base near the f32 one.
#include "loraine/model/decoder.h"

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "loraine/adapters/attach.h"
#include "loraine/core/packed.h"
#include "loraine/kernels/elementwise.h"
#include "loraine/model/load.h"

namespace loraine {
namespace {

constexpr int64_t kHidden = 64, kInner = 96, kVocab = 101, kHeads = 4, kKvHeads = 2, kHeadDim = 16, kLayers = 2, kRows = 150;

float noise(size_t i, size_t seed) { return std::sin(static_cast<float>(i % 9973) * 12.9898f + static_cast<float>(seed) * 78.233f) * 0.2f; }

// Weights from a formula, rounded to bf16 when asked.
class FormulaWeights : public TensorSource {
 public:
  explicit FormulaWeights(bool rounded) : rounded_(rounded) {
    add("model.embed_tokens.weight", {kVocab, kHidden});
    add("model.norm.weight", {kHidden});
    for (int layer = 0; layer < kLayers; ++layer) {
      std::string p = "model.layers." + std::to_string(layer) + ".";
      add(p + "input_layernorm.weight", {kHidden});
      add(p + "post_attention_layernorm.weight", {kHidden});
      add(p + "self_attn.q_proj.weight", {kHeads * kHeadDim, kHidden});
      add(p + "self_attn.k_proj.weight", {kKvHeads * kHeadDim, kHidden});
      add(p + "self_attn.v_proj.weight", {kKvHeads * kHeadDim, kHidden});
      add(p + "self_attn.o_proj.weight", {kHidden, kHeads * kHeadDim});
      add(p + "mlp.gate_proj.weight", {kInner, kHidden});
      add(p + "mlp.up_proj.weight", {kInner, kHidden});
      add(p + "mlp.down_proj.weight", {kHidden, kInner});
    }
    std::sort(all_.begin(), all_.end(), [](const TensorInfo& a, const TensorInfo& b) { return a.name < b.name; });
  }
  const std::vector<TensorInfo>& tensors() const override { return all_; }
  Tensor map(const TensorInfo&) const override { return {}; }
  void read(const TensorInfo& info, const Tensor& out) const override {
    for (int64_t i = 0; i < out.numel(); ++i) {
      float v = noise(static_cast<size_t>(i), info.name.size() * 31 + static_cast<size_t>(info.name[13]));
      if (info.shape.size() == 1) v = 1 + v;
      else if (rounded_) v = bf16_to_f32(f32_to_bf16(v));
      if (out.dtype == Dtype::F32) static_cast<float*>(out.data)[i] = v;
      else convert(static_cast<uint16_t*>(out.data) + i, out.dtype, &v, Dtype::F32, 1);
    }
  }

 private:
  void add(const std::string& name, std::vector<int64_t> shape) { all_.push_back({name, Dtype::F32, std::move(shape), "F32", "formula"}); }
  std::vector<TensorInfo> all_;
  bool rounded_;
};

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

Model make_model(std::unique_ptr<TensorSource> weights, bool bf16) {
  ModelFiles files;
  files.path = "formula";
  files.config = {{"model_type", "llama"},
                  {"vocab_size", kVocab},
                  {"hidden_size", kHidden},
                  {"intermediate_size", kInner},
                  {"num_hidden_layers", kLayers},
                  {"num_attention_heads", kHeads},
                  {"num_key_value_heads", kKvHeads},
                  {"head_dim", kHeadDim},
                  {"rms_norm_eps", 1e-5},
                  {"rope_theta", 10000.0},
                  {"tie_word_embeddings", true},
                  {"hidden_act", "silu"},
                  {"max_position_embeddings", 512},
                  {"eos_token_id", 2},
                  {"bos_token_id", 1}};
  files.tensors = std::move(weights);
  return load_model(files, bf16);
}

Model make_model(bool bf16, bool rounded) { return make_model(std::make_unique<FormulaWeights>(rounded), bf16); }

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

// |a − b| / |b| over all elements
double apart(const std::vector<float>& a, const std::vector<float>& b) {
  double difference = 0, size = 0;
  for (size_t i = 0; i < a.size(); ++i) {
    difference += (static_cast<double>(a[i]) - b[i]) * (static_cast<double>(a[i]) - b[i]);
    size += static_cast<double>(b[i]) * b[i];
  }
  return std::sqrt(difference / size);
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
  EXPECT_EQ(narrow.blocks[0].sites[kQkv].parts[0].weight.dtype, Dtype::BF16);
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

TEST(Decoder, PackedBaseStaysPackedAndGivesTheBitsOfTheUnpackedOne) {
  for (bool bf16 : {false, true}) {
    const Model packed = make_model(std::make_unique<PackedWeights>(true), bf16),
                wide = make_model(std::make_unique<PackedWeights>(false), bf16);
    EXPECT_EQ(packed.blocks[0].sites[kQkv].parts[0].weight.dtype, Dtype::Q8_0);
    EXPECT_EQ(packed.embedding.dtype, Dtype::Q8_0);
    EXPECT_EQ(wide.embedding.dtype, bf16 ? Dtype::BF16 : Dtype::F32);
    EXPECT_LT(packed.weight_bytes() * (bf16 ? 1 : 3), wide.weight_bytes());
    const Result a = run(packed), b = run(wide);
    if (bf16) {  // where the embedding, too, is rounded when it is not packed; these weights are noise, which carries a rounding far
      EXPECT_LT(apart(a.hidden, b.hidden), 7e-2);
      EXPECT_LT(apart(a.gradients, b.gradients), 0.13);
    } else {
      EXPECT_EQ(a.hidden, b.hidden);
      EXPECT_EQ(a.gradients, b.gradients);
    }
  }
}

}  // namespace
}  // namespace loraine
