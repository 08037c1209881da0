// LoftQ: the alternation against its definition, what becomes of bases in full and in codes, and what PEFT made of a recorded model.
#include "loraine/adapters/loftq.h"

#include <cstring>

#include "loraine/adapters/peft_files.h"
#include "loraine/adapters/start.h"
#include "loraine/core/error.h"
#include "loraine/io/safetensors/safetensors.h"
#include "loraine/kernels/products/row_dots.h"
#include "tests/support/op_check.h"
#include "tests/support/recorded_base.h"

namespace loraine::loftq_test {
namespace {

constexpr int64_t kOut = 20, kIn = 48, kRank = 3;
constexpr Quantisation kNf4{Dtype::NF4, false}, kInt8{Dtype::INT8, false};

std::vector<float> values_of(const Tensor& t) {
  std::vector<float> out(static_cast<size_t>(t.numel()));
  widen_row(out.data(), t);
  return out;
}

// b [out, r] times a [r, in]
std::vector<double> product(const Tensor& a, const Tensor& b) {
  std::vector<double> out(static_cast<size_t>(b.rows() * a.cols()));
  for (int64_t o = 0; o < b.rows(); ++o)
    for (int64_t k = 0; k < a.rows(); ++k)
      for (int64_t i = 0; i < a.cols(); ++i)
        out[static_cast<size_t>(o * a.cols() + i)] +=
            static_cast<double>(b.f32()[o * a.rows() + k]) * static_cast<double>(a.f32()[k * a.cols() + i]);
  return out;
}

struct Result {
  std::vector<float> q, a, b;
  Tensor a_view() { return {a.data(), Dtype::F32, {kRank, kIn}}; }
  Tensor b_view() { return {b.data(), Dtype::F32, {kOut, kRank}}; }
};

Result run(std::vector<float>& w, Quantisation how, int64_t iterations, bool last_product = true) {
  Result out{{}, std::vector<float>(kRank * kIn), std::vector<float>(kOut * kRank)};
  Context ctx;
  const QuantisedWeight q =
      loftq(ctx, Tensor(w.data(), Dtype::F32, {kOut, kIn}), how, iterations, out.a_view(), out.b_view(), last_product);
  EXPECT_EQ(q.weight.dtype, how.type);
  out.q = values_of(q.weight);
  return out;
}

std::vector<double> minus(const std::vector<float>& w, const std::vector<float>& q, const std::vector<double>& ba) {
  std::vector<double> rest(w.size());
  for (size_t i = 0; i < w.size(); ++i) rest[i] = static_cast<double>(w[i]) - static_cast<double>(q[i]) - ba[i];
  return rest;
}

double size_of(const std::vector<double>& x) {
  double squares = 0;
  for (double e : x) squares += e * e;
  return std::sqrt(squares);
}

// What is left of W − Q lies at right angles to every row of A and every column of B, is smaller than they are in every direction, and the
// two share the singular values evenly: so B A is the best product of its rank.
TEST(Loftq, ProductIsTheBestForWhatCodesLose) {
  for (const Quantisation how : {kNf4, kInt8})
    for (const int64_t iterations : {1, 3}) {
      std::vector<float> w = random_floats(kOut * kIn, 7);
      Result got = run(w, how, iterations);
      const std::vector<double> lost = minus(w, got.q, std::vector<double>(w.size())),
                                rest = minus(w, got.q, product(got.a_view(), got.b_view()));
      const double scale = size_of(lost);
      EXPECT_GT(scale, 1e-4);
      EXPECT_LT(size_of(rest), 0.95 * scale);
      double smallest = 1e30;
      for (int64_t k = 0; k < kRank; ++k)
        for (int64_t l = 0; l < kRank; ++l) {
          double a = 0, b = 0;
          for (int64_t i = 0; i < kIn; ++i)
            a +=
                static_cast<double>(got.a[static_cast<size_t>(k * kIn + i)]) * static_cast<double>(got.a[static_cast<size_t>(l * kIn + i)]);
          for (int64_t o = 0; o < kOut; ++o)
            b += static_cast<double>(got.b[static_cast<size_t>(o * kRank + k)]) *
                 static_cast<double>(got.b[static_cast<size_t>(o * kRank + l)]);
          EXPECT_NEAR(a, b, 1e-5 * scale);
          if (k == l) smallest = std::min(smallest, a);
          else EXPECT_NEAR(a, 0, 1e-5 * scale);
        }
      for (int64_t k = 0; k < kRank; ++k) {
        std::vector<double> along_a(kOut), along_b(kIn);
        for (int64_t o = 0; o < kOut; ++o)
          for (int64_t i = 0; i < kIn; ++i) {
            along_a[static_cast<size_t>(o)] +=
                rest[static_cast<size_t>(o * kIn + i)] * static_cast<double>(got.a[static_cast<size_t>(k * kIn + i)]);
            along_b[static_cast<size_t>(i)] +=
                rest[static_cast<size_t>(o * kIn + i)] * static_cast<double>(got.b[static_cast<size_t>(o * kRank + k)]);
          }
        EXPECT_LT(size_of(along_a), 1e-5 * scale);
        EXPECT_LT(size_of(along_b), 1e-5 * scale);
      }
      std::vector<double> x(kIn, 1.0), y(kOut);  // the largest singular value of the rest, by powers
      double largest = 0;
      for (int step = 0; step < 300; ++step) {
        std::fill(y.begin(), y.end(), 0.0);
        for (size_t o = 0; o < kOut; ++o)
          for (size_t i = 0; i < kIn; ++i) y[o] += rest[o * kIn + i] * x[i] / size_of(x);
        std::fill(x.begin(), x.end(), 0.0);
        for (size_t o = 0; o < kOut; ++o)
          for (size_t i = 0; i < kIn; ++i) x[i] += rest[o * kIn + i] * y[o];
        largest = size_of(y);
      }
      EXPECT_LT(largest, smallest * (1 + 1e-5));
    }
}

TEST(Loftq, CodesAreThoseOfWhatTheProductLeaves) {
  for (const Quantisation how : {kNf4, kInt8}) {
    std::vector<float> w = random_floats(kOut * kIn, 8);
    Result one = run(w, how, 1), two = run(w, how, 2);
    const Tensor whole(w.data(), Dtype::F32, {kOut, kIn});
    EXPECT_EQ(one.q, values_of(quantise(whole, how, Dtype::F32).weight));
    std::vector<float> left(w.size());
    const std::vector<double> ba = product(one.a_view(), one.b_view());
    for (size_t i = 0; i < w.size(); ++i) left[i] = static_cast<float>(static_cast<double>(w[i]) - ba[i]);
    expect_near(two.q, values_of(quantise(Tensor(left.data(), Dtype::F32, {kOut, kIn}), how, Dtype::F32).weight), 1e-6, "second codes");
    EXPECT_NE(one.q, two.q);
    EXPECT_LT(size_of(minus(w, two.q, product(two.a_view(), two.b_view()))), size_of(minus(w, one.q, ba)));
    for (const int64_t iterations : {1, 2}) EXPECT_EQ(run(w, how, iterations, false).q, (iterations == 1 ? one : two).q);
  }
}

TEST(Loftq, WhatCodesHoldExactlyNeedsNoProduct) {
  std::vector<float> zeros(kOut * kIn), w = random_floats(kOut * kIn, 9);
  std::vector<float> held = run(w, kNf4, 1).q;
  for (std::vector<float>* exact : {&zeros, &held}) {
    Result got = run(*exact, kNf4, 2);
    EXPECT_EQ(got.q, *exact);
    for (double e : product(got.a_view(), got.b_view())) EXPECT_NEAR(e, 0, 1e-12);
  }
}

LoraConfig config_of(int64_t bits) {
  LoraConfig config;
  config.r = kRank;
  config.lora_alpha = 2 * kRank;
  config.init_lora_weights = "loftq";
  config.loftq_bits = bits;
  config.target_modules = {"q_proj"};
  return config;
}

// A base of one weight, in full or in codes.
struct Base {
  std::vector<float> w = random_floats(kOut * kIn, 10);
  std::vector<uint16_t> narrow = std::vector<uint16_t>(kOut * kIn);
  std::vector<Weight> weights = std::vector<Weight>(1);
  WeightPart& part() { return weights[0].parts[0]; }
  explicit Base(Dtype type) {
    WeightPart& part = weights[0].parts.emplace_back();
    part.name = "model.layers.0.self_attn.q_proj";
    const Tensor whole(w.data(), Dtype::F32, {kOut, kIn});
    if (type == Dtype::F32) {
      part.weight = whole;
    } else if (type == Dtype::BF16) {
      convert(narrow.data(), type, w.data(), Dtype::F32, kOut * kIn);
      part.weight = Tensor(narrow.data(), type, {kOut, kIn});
    } else {
      QuantisedWeight q = quantise(whole, {type, true}, Dtype::F32);
      part.weight = q.weight;
      part.owned = std::move(q.memory);
      part.quant_state = std::move(q.state);
    }
  }
  AdapterSet start(const LoraConfig& config) {
    AdapterSet set = attach_lora({&weights[0]}, config, false);
    start_adapter(set, {&weights[0]}, config, 5, [&](const WeightPart& asked, const Tensor& room) {
      EXPECT_EQ(&asked, &part());
      std::copy(w.begin(), w.end(), room.f32());
    });
    return set;
  }
};

TEST(Loftq, BaseIsHeldAsBefore) {
  for (const int64_t bits : {4, 8}) {
    const LoraConfig config = config_of(bits);
    const Quantisation how = loftq_quantisation(config);
    Base full(Dtype::F32), narrow(Dtype::BF16), codes(how.type);
    std::vector<float> w = full.w;
    Result want = run(w, how, 1);
    const AdapterSet set = full.start(config), in_codes = codes.start(config);
    EXPECT_EQ(full.part().weight.dtype, Dtype::F32);
    EXPECT_EQ(values_of(full.part().weight), want.q);
    EXPECT_EQ(full.w, w);  // what was mapped stays as it is
    EXPECT_TRUE(full.part().changed);
    EXPECT_EQ(codes.part().weight.dtype, how.type);
    EXPECT_EQ(values_of(codes.part().weight), want.q);
    EXPECT_NE(codes.part().weight.quant->absmax == nullptr, bits == 4);  // scales in f32
    const AdapterMatrices one = set.sites[0]->matrices()[0], other = in_codes.sites[0]->matrices()[0];
    EXPECT_EQ(values_of(one.a), want.a);  // alpha / r stays in the product, as in PEFT
    EXPECT_EQ(values_of(one.b), want.b);
    EXPECT_EQ(values_of(other.a), want.a);
    EXPECT_EQ(values_of(other.b), want.b);
    std::vector<float> rounded = values_of(narrow.part().weight);
    narrow.start(config);
    EXPECT_EQ(narrow.part().weight.dtype, Dtype::BF16);
    EXPECT_EQ(values_of(narrow.part().weight), to_floats(to_bf16(run(rounded, how, 1).q)));
  }
}

TEST(Loftq, RefusesOtherCodes) {
  for (const auto& [type, bits] : {std::pair{Dtype::NF4, 8}, {Dtype::FP4, 4}, {Dtype::INT8, 4}}) {
    Base base(type);
    const std::vector<float> before = values_of(base.part().weight);
    EXPECT_THROW(base.start(config_of(bits)), Error);
    EXPECT_EQ(values_of(base.part().weight), before);
  }
  Base stored(Dtype::NF4);  // as a file has it: the state is not the part's own
  const std::unique_ptr<QuantState> elsewhere = std::move(stored.part().quant_state);
  EXPECT_THROW(stored.start(config_of(4)), Error);
}

// What PEFT's base became and its A and B, from the recorded model and the recorded config.
TEST(Loftq, StartsAsPeft) {
  const std::string golden = std::string(LORAINE_SOURCE_DIR) + "/tests/golden/peft/";
  for (const std::string name : {"loftq", "loftq_twice", "loftq_8bit"}) {
    const std::string folder = golden + "variants/" + name;
    const auto after = open_safetensors(folder + "/base_after.safetensors");
    const auto init = open_safetensors(folder + "/init/adapter_model.safetensors");
    const LoraConfig config = read_lora_config(folder + "/init");
    RecordedBase base(golden + "llama/model");
    ASSERT_EQ(base.weights.size(), 14u);
    AdapterSet set = attach_lora(base.sites(), config, true);
    start_adapter(set, base.sites_to_change(), config, 1);
    for (size_t s = 0; s < base.weights.size(); ++s) {
      const WeightPart& part = base.weights[s].parts[0];
      std::vector<float> want(static_cast<size_t>(part.weight.numel()));
      const TensorInfo* info = after->find(part.name + ".base_layer.weight");
      ASSERT_NE(info, nullptr) << part.name;
      after->read(*info, Tensor(want.data(), Dtype::F32, info->shape));
      expect_near(values_of(part.weight), want, 1e-6, (name + " " + part.name).c_str());
      const AdapterMatrices m = set.sites[s]->matrices()[0];
      std::vector<float> a(static_cast<size_t>(m.a.numel())), b(static_cast<size_t>(m.b.numel()));
      const Tensor a_view(a.data(), Dtype::F32, {m.a.rows(), m.a.cols()}), b_view(b.data(), Dtype::F32, {m.b.rows(), m.b.cols()});
      init->read(*init->find("base_model.model." + part.name + ".lora_A.weight"), a_view);
      init->read(*init->find("base_model.model." + part.name + ".lora_B.weight"), b_view);
      const std::vector<double> ours = product(m.a, m.b), theirs = product(a_view, b_view);  // signs of singular vectors are free
      for (size_t i = 0; i < ours.size(); ++i) ASSERT_NEAR(ours[i], theirs[i], 1e-6) << name << " " << part.name;
    }
  }
}

}  // namespace
}  // namespace loraine::loftq_test
