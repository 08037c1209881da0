// Experts whose matrices lie packed and the other way in the file (gpt-oss): codes with powers of two apart, and gate and up as blocks of
// their own, are the same model as the unpacked whole.
#include <gtest/gtest.h>

#include <cstring>

#include "loraine/core/packed.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/model/attach.h"
#include "loraine/model/decoder.h"
#include "tests/support/any_model.h"
#include "tests/support/op_check.h"

namespace loraine::packed_experts_test {
namespace {

constexpr int64_t kE = 3, kH = 64, kI = 32, kRows = 33;

nlohmann::json config() {
  return {{"model_type", "gpt_oss"}, {"vocab_size", 61},         {"hidden_size", kH},        {"intermediate_size", kI},
          {"num_hidden_layers", 2},  {"num_attention_heads", 4}, {"num_key_value_heads", 2}, {"head_dim", 8},
          {"sliding_window", 6},     {"num_local_experts", kE},  {"num_experts_per_tok", 2}, {"max_position_embeddings", 64}};
}

enum class Form { whole, codes, halves };

// Random weights, experts of them in MXFP4: [E, out, in] in codes, and the same numbers in ggml's blocks.
class Packed : public AnyWeights {
 public:
  explicit Packed(Form form) : AnyWeights(tensors_of(config(), "config.json")), form_(form) {
    for (const TensorInfo& info : tensors())
      if (info.shape.size() == 3 && info.name.find("experts") != std::string::npos) fill(stacks_[info.name], info);
  }
  void read(const TensorInfo& info, const Tensor& out) const override {
    const auto found = stacks_.find(info.name);
    if (found == stacks_.end()) return AnyWeights::read(info, out);
    const int64_t in = info.shape[1], columns = info.shape[2];
    std::vector<float> values(static_cast<size_t>(out.numel()));
    unpack(values.data(), codes(info, found->second));
    for (int64_t e = 0; e < kE; ++e)
      for (int64_t o = 0; o < columns; ++o)
        for (int64_t i = 0; i < in; ++i)
          convert(static_cast<char*>(out.data) + static_cast<size_t>((e * in + i) * columns + o) * size_of(out.dtype), out.dtype,
                  &values[static_cast<size_t>((e * columns + o) * in + i)], Dtype::F32, 1);
  }
  std::vector<StackPiece> map_pieces(const TensorInfo& info) const override {
    const auto found = stacks_.find(info.name);
    if (found == stacks_.end() || form_ == Form::whole) return {};
    if (form_ == Form::codes) return {{codes(info, found->second)}};
    std::vector<StackPiece> halves;
    const int64_t step = static_cast<int64_t>(found->second.blocks.size());
    for (int64_t first = 0; first < step; ++first)
      halves.push_back({Tensor(const_cast<uint8_t*>(found->second.blocks[static_cast<size_t>(first)].data()), Dtype::MXFP4,
                               {kE, info.shape[2] / step, info.shape[1]}),
                        first, step});
    return halves;
  }

 private:
  struct Stack {
    std::vector<uint8_t> codes, exponents;
    QuantState state;
    std::vector<std::vector<uint8_t>> blocks;  // gate and up apart
  };
  static Tensor codes(const TensorInfo& info, const Stack& stack) {
    Tensor all(const_cast<uint8_t*>(stack.codes.data()), Dtype::MXFP4_CODES, {kE, info.shape[2], info.shape[1]});
    all.quant = &stack.state;
    return all;
  }
  static void fill(Stack& stack, const TensorInfo& info) {
    const int64_t in = info.shape[1], out = info.shape[2], rows = kE * out;
    std::mt19937 random(static_cast<uint32_t>(info.name.size()));
    stack.codes.resize(static_cast<size_t>(rows * in / 2));
    stack.exponents.resize(static_cast<size_t>(rows * in / 32));
    for (uint8_t& code : stack.codes) code = static_cast<uint8_t>(random());
    for (uint8_t& exponent : stack.exponents) exponent = static_cast<uint8_t>(121 + random() % 3);
    stack.state.codes = stack.codes.data();
    stack.state.exponents = stack.exponents.data();
    stack.state.cols = in;
    stack.blocks.resize(info.name.ends_with("gate_up_proj") ? 2 : 1);
    for (int64_t row = 0; row < rows; ++row)
      for (int64_t block = 0; block < in / 32; ++block) {
        const uint8_t* from = stack.codes.data() + row * in / 2 + block * 16;
        const auto code = [&](int64_t i) { return i % 2 ? from[i / 2] >> 4 : from[i / 2] & 15; };
        std::vector<uint8_t>& to = stack.blocks[static_cast<size_t>(row) % stack.blocks.size()];
        to.push_back(stack.exponents[static_cast<size_t>(row * in / 32 + block)]);
        for (int64_t i = 0; i < 16; ++i) to.push_back(static_cast<uint8_t>(code(i) | code(i + 16) << 4));
      }
  }

  Form form_;
  std::map<std::string, Stack> stacks_;
};

Model load(Form form, bool bf16) {
  ModelFiles files;
  files.path = "random";
  files.config = config();
  files.tensors = std::make_unique<Packed>(form);
  LoadOptions options;
  options.bf16 = bf16;
  return load_model(files, options);
}

struct Result {
  std::vector<float> hidden, gradients;
};

Result train(const Model& model) {
  LoraConfig lora;
  lora.r = 2;
  set_targets(lora, "q_proj");
  lora.target_parameters = {"experts.gate_up_proj", "experts.down_proj"};
  AdapterSet set = attach_adapter(model, lora, true);
  for (const Parameter& p : set.parameters()) {
    const std::vector<float> values = random_floats(p.value.numel(), static_cast<uint32_t>(p.name.size()), 0.1f);
    std::copy(values.begin(), values.end(), p.value.f32());
  }
  Context ctx;
  set.refresh(ctx);
  const std::vector<const AdapterSet*> sets = {&set};
  Arena dry;
  plan_activations(model, kRows, true, sets, dry);
  Arena memory(dry.peak()), scratch(scratch_bytes(model, kRows, true, sets));
  Activations activations = plan_activations(model, kRows, true, sets, memory);
  Pass pass{&activations, nullptr, sets, &scratch, true};
  Batch batch;
  for (int64_t t = 0; t < kRows; ++t) {
    batch.tokens.push_back(static_cast<int32_t>((t * 7 + 5) % 61));
    batch.positions.push_back(static_cast<int32_t>(t));
  }
  batch.sequences.push_back({0, kRows, 0, kRows});
  batch.adapter_rows = {{0, kRows, 0}};
  decoder_forward(ctx, model, batch, pass);
  Result result;
  result.hidden.resize(kRows * kH);
  convert(result.hidden.data(), Dtype::F32, activations.hidden.data, activations.hidden.dtype, kRows * kH);
  std::vector<float> d = random_floats(kRows * kH, 3);
  decoder_backward(ctx, model, batch, pass, set, matrix(d, kRows, kH));
  set.finish_gradients(ctx);
  for (const Parameter& p : set.parameters())
    result.gradients.insert(result.gradients.end(), p.gradient.f32(), p.gradient.f32() + p.gradient.numel());
  return result;
}

TEST(PackedExperts, AreTheSameModelAsTheUnpackedWhole) {
  for (const bool bf16 : {false, true}) {
    const Result want = train(load(Form::whole, bf16));
    for (const Form form : {Form::codes, Form::halves}) {
      const Model model = load(form, bf16);
      for (const ExpertWeights* experts : model.experts()) {
        EXPECT_FALSE(experts->transposed);
        for (const ExpertStack& stack : experts->stacks)
          for (const WeightPart& part : stack.parts) {
            EXPECT_EQ(part.weight.dtype, form == Form::codes ? Dtype::MXFP4_CODES : Dtype::MXFP4);
            EXPECT_EQ(part.owned.bytes(), 0u);
          }
      }
      const Result got = train(model);
      expect_near(got.hidden, doubles(want.hidden), bf16 ? 2e-2 : 1e-5, "hidden");
      if (!bf16) expect_near(got.gradients, doubles(want.gradients), 2e-5, "gradients");
    }
  }
}

}  // namespace
}  // namespace loraine::packed_experts_test
