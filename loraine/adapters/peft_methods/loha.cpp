// LoHa's four matrices over LoRA's products of rank r².
#include "loraine/adapters/peft_methods/loha.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "loraine/adapters/fill_values.h"
#include "loraine/adapters/lora.h"
#include "loraine/core/error.h"

namespace loraine {
namespace {

// "as LoRA" parts: rank r².
std::vector<LoraPart> squared_ranks(std::vector<LoraPart> parts) {
  for (LoraPart& part : parts) part.r *= part.r;
  return parts;
}

class LoHa : public Adapter {
 public:
  LoHa(int64_t in, const std::vector<LoraPart>& parts, uint64_t site, bool trained)
      : parts_(parts), lora_(in, squared_ranks(parts), 0.0f, site, trained), site_(site) {
    for (const LoraPart& part : parts)
      for (const auto& [a, b] : {std::pair{".hada_w1_a", ".hada_w1_b"}, {".hada_w2_a", ".hada_w2_b"}}) {
        tensors_.add(peft_name(part, a), {part.out, part.r}, trained);
        tensors_.add(peft_name(part, b), {part.r, in}, trained);
      }
  }
  int64_t saved_width() const override { return lora_.saved_width(); }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override {
    lora_.forward(ctx, y, x, saved, training, scratch);
  }
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    lora_.backward(ctx, d_x, d_y, x, saved, scratch);
  }
  std::optional<LowRank> low_rank() const override { return lora_.low_rank(); }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return lora_.adapts(part); }
  void merge_into(Context& ctx, const Tensor& w, int part) const override { lora_.merge_into(ctx, w, part); }
  MergeRow exact_merge(int part) const override { return lora_.exact_merge(part); }
  const Lora* as_lora() const override { return &lora_; }

  void initialise(Context& ctx, uint64_t seed) override {  // Kaiming uniform as nn.Linear, B₂ zero
    std::mt19937_64 random(seed * 1000003 + site_);
    for (size_t i = 0; i < 4 * parts_.size(); ++i) {
      const Tensor t = tensors_.value(i);
      if (i % 4 == 3) std::fill_n(t.f32(), t.numel(), 0.0f);
      else fill_uniform(t, t.cols(), random);
    }
    refresh(ctx);
  }
  void refresh(Context&) override {
    for (size_t p = 0; p < parts_.size(); ++p) {
      const int64_t r = parts_[p].r, out = parts_[p].out, in = matrix(p, 1).cols();
      const float *a1 = matrix(p, 0).f32(), *b1 = matrix(p, 1).f32(), *a2 = matrix(p, 2).f32(), *b2 = matrix(p, 3).f32();
      float *a = lora_.a(p).f32(), *b = lora_.b(p).f32();
      for (int64_t i = 0; i < r; ++i)
        for (int64_t j = 0; j < r; ++j)
          for (int64_t c = 0; c < in; ++c) a[(i * r + j) * in + c] = b1[i * in + c] * b2[j * in + c];
      for (int64_t o = 0; o < out; ++o)
        for (int64_t i = 0; i < r; ++i)
          for (int64_t j = 0; j < r; ++j) b[(o * r + i) * r + j] = a1[o * r + i] * a2[o * r + j];
    }
  }
  void finish_gradients(Context&) override {
    for (size_t p = 0; p < parts_.size(); ++p) {
      const int64_t r = parts_[p].r, out = parts_[p].out, in = matrix(p, 1).cols();
      const float *a1 = matrix(p, 0).f32(), *b1 = matrix(p, 1).f32(), *a2 = matrix(p, 2).f32(), *b2 = matrix(p, 3).f32();
      float *d_a1 = gradient(p, 0), *d_b1 = gradient(p, 1), *d_a2 = gradient(p, 2), *d_b2 = gradient(p, 3);
      const Tensor d_rows = lora_.d_a(p), d_columns = lora_.d_b(p);  // the optimizer does not know them: they begin at zero again
      for (int64_t i = 0; i < r; ++i)
        for (int64_t j = 0; j < r; ++j)
          for (int64_t c = 0; c < in; ++c) {
            float& d = d_rows.f32()[(i * r + j) * in + c];
            d_b1[i * in + c] += d * b2[j * in + c];
            d_b2[j * in + c] += d * b1[i * in + c];
            d = 0;
          }
      for (int64_t o = 0; o < out; ++o)
        for (int64_t i = 0; i < r; ++i)
          for (int64_t j = 0; j < r; ++j) {
            float& d = d_columns.f32()[(o * r + i) * r + j];
            d_a1[o * r + i] += d * a2[o * r + j];
            d_a2[o * r + j] += d * a1[o * r + i];
            d = 0;
          }
    }
  }

 private:
  const Tensor& matrix(size_t part, size_t i) const { return tensors_.value(4 * part + i); }  // A₁, B₁, A₂, B₂
  float* gradient(size_t part, size_t i) const { return tensors_.gradient(4 * part + i).f32(); }

  std::vector<LoraPart> parts_;
  Lora lora_;
  uint64_t site_;
  MethodTensors tensors_;
};

class LoHaMethod : public PeftMethod {
 public:
  explicit LoHaMethod(const LycorisDropout& dropout) : dropout_(dropout) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    dropout_.check(request.trained);
    return std::make_unique<LoHa>(request.base.in(), request.parts, request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    json["r"] = config.r;
    json["alpha"] = config.lora_alpha;
    json["rank_dropout"] = dropout_.rank;
    json["module_dropout"] = dropout_.module;
    json["use_effective_conv2d"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override { return "LoHa"; }

 private:
  LycorisDropout dropout_;
};

}  // namespace

void LycorisDropout::check(bool trained) const {
  if (trained && (rank > 0 || module > 0))
    throw Error(ErrorKind::unsupported, fmt::format("training with rank_dropout {} and module_dropout {} is not built", rank, module),
                "set both to 0, in adapter_args or in the adapter's adapter_config.json");
}

std::shared_ptr<PeftMethod> read_loha(MethodKeys& keys, LoraConfig& config) {
  config.r = keys.integer("r", 8, 1, 4096);
  config.lora_alpha = keys.number("alpha", 8, -1e9, 1e9);
  keys.without_effect({"use_effective_conv2d", "init_weights"});  // the former is for convolutions
  return std::make_shared<LoHaMethod>(LycorisDropout::read(keys));
}

}  // namespace loraine
