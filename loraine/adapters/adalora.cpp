// AdaLoRA's triplets over LoRA's products.
#include "loraine/adapters/adalora.h"

#include <algorithm>
#include <random>

#include "loraine/adapters/methods.h"

namespace loraine {

std::unique_ptr<Adapter> make_adalora(const LoraConfig& config, SiteRequest request) {
  return std::make_unique<AdaLora>(request.base.in(), std::move(request.parts), static_cast<float>(config.lora_dropout), request.site,
                                   request.trained);
}

AdaLora::AdaLora(int64_t in, std::vector<LoraPart> parts, float dropout, uint64_t site, bool trained)
    : lora_(in, std::move(parts), dropout, site, trained), site_(site), trained_(trained) {
  int64_t elements = 0;
  for (const LoraPart& part : lora_.parts()) elements += part.r * (in + 1);
  memory_ = Buffer(static_cast<size_t>(elements * (trained ? 2 : 1)) * sizeof(float), true);
  float* next = static_cast<float*>(memory_.data());
  auto place = [&](std::vector<Tensor>& tensors, int64_t rows, int64_t cols) {
    tensors.emplace_back(next, Dtype::F32, std::initializer_list<int64_t>{rows, cols});
    next += rows * cols;
  };
  for (const LoraPart& part : lora_.parts()) {
    place(a_, part.r, in);
    place(e_, part.r, 1);
    if (!trained) continue;
    place(d_a_, part.r, in);
    place(d_e_, part.r, 1);
  }
}

std::vector<AdaLora::Triplets> AdaLora::triplets() const {
  std::vector<Triplets> all;
  for (size_t i = 0; i < a_.size(); ++i) {
    const Tensor none;
    all.push_back({lora_.parts()[i].name, a_[i], e_[i], lora_.b(i), trained_ ? d_a_[i] : none, trained_ ? d_e_[i] : none,
                   trained_ ? lora_.d_b(i) : none});
  }
  return all;
}

std::vector<Parameter> AdaLora::parameters() const {
  std::vector<Parameter> all;
  for (const Triplets& t : triplets()) {
    const std::string prefix = "base_model.model." + t.name;
    all.push_back({prefix + ".lora_A", t.a, t.d_a});
    all.push_back({prefix + ".lora_B", t.b, t.d_b});
    all.push_back({prefix + ".lora_E", t.e, t.d_e});
  }
  return all;
}

void AdaLora::initialise(Context& ctx, uint64_t seed) {
  std::mt19937_64 random(seed * 1000003 + site_);
  std::normal_distribution<float> normal(0, 0.02f);
  for (const Triplets& t : triplets()) {
    for (const Tensor& matrix : {t.a, t.b})
      for (int64_t i = 0; i < matrix.numel(); ++i) matrix.f32()[i] = normal(random);
    std::fill_n(t.e.f32(), t.e.numel(), 0.0f);
  }
  refresh(ctx);
}

void AdaLora::refresh(Context&) {
  for (size_t i = 0; i < a_.size(); ++i) {
    const int64_t in = a_[i].cols();
    const Tensor scaled = lora_.a(i);
    for (int64_t k = 0; k < a_[i].rows(); ++k)
      for (int64_t j = 0; j < in; ++j) scaled.f32()[k * in + j] = e_[i].f32()[k] * a_[i].f32()[k * in + j];
  }
}

void AdaLora::finish_gradients(Context&) {
  for (size_t i = 0; i < a_.size(); ++i) {
    const int64_t in = a_[i].cols();
    const Tensor d_scaled = lora_.d_a(i);
    for (int64_t k = 0; k < a_[i].rows(); ++k) {
      float *d = d_scaled.f32() + k * in, *d_a = d_a_[i].f32() + k * in;
      const float *a = a_[i].f32() + k * in, e = e_[i].f32()[k];
      double sum = 0;
      for (int64_t j = 0; j < in; ++j) {
        sum += static_cast<double>(d[j]) * static_cast<double>(a[j]);
        d_a[j] += e * d[j];
        d[j] = 0;  // the optimizer does not know it, and the next step adds to it
      }
      d_e_[i].f32()[k] += static_cast<float>(sum);
    }
  }
}

}  // namespace loraine
