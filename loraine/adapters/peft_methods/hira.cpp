// HiRA's change of the weight, row by row of it.
#include "loraine/adapters/peft_methods/hira.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/adapters/peft_methods/weight_change.h"
#include "loraine/core/parallel.h"
#include "loraine/kernels/products/matmul.h"

namespace loraine {
namespace {

// a ∘= w
void multiply_elements(const Tensor& a, const Tensor& w) {
  parallel_for(
      a.rows(),
      [&](int64_t row) {
        float* to = a.f32() + row * a.row_stride;
        const float* from = w.f32() + row * w.row_stride;
        for (int64_t i = 0; i < a.cols(); ++i) to[i] *= from[i];
      },
      16);
}

class Hira : public WeightChange {
 public:
  Hira(const Weight& base, std::vector<LoraPart> given, float dropout, uint64_t site, std::string start, bool trained)
      : WeightChange(base, std::move(given), dropout, site), start_(std::move(start)) {
    for (const LoraPart& part : parts()) {
      tensors_.add(peft_name(part, ".hira_A"), {part.r, base.in()}, trained);
      tensors_.add(peft_name(part, ".hira_B"), {part.out, part.r}, trained);
    }
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    return [product = ExactProduct(a(i), 1), b = b(i)](std::span<double> w, int64_t row) {
      std::vector<double> change(w.size());
      const double error = product.add(change, b.f32() + row * b.cols(), 1);
      double most = 0, largest = 0;
      for (size_t c = 0; c < w.size(); ++c) {
        most = std::max(most, std::abs(w[c]));
        w[c] += w[c] * change[c];
        largest = std::max(largest, std::abs(w[c]));
      }
      return most * (error + 0x1p-23) + largest * 0x1p-23;
    };
  }
  void initialise(Context&, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site());
    for (size_t i = 0; i < 2 * parts().size(); ++i) {
      const Tensor t = tensors_.value(i);
      const bool of_b = i % 2 == 1;
      const float bound = 1 / std::sqrt(static_cast<float>(t.cols())), r = static_cast<float>(parts()[i / 2].r);
      std::normal_distribution<float> normal(0, start_ == "gaussian" ? 1 / r : 1);
      std::uniform_real_distribution<float> uniform(-bound, bound);
      for (int64_t k = 0; k < t.numel(); ++k)
        t.f32()[k] = of_b && start_ != "false" ? 0 : start_ == "true" ? uniform(random) : normal(random);
    }
  }

 protected:
  void change(Context& ctx, const Tensor& delta, const Tensor& w, size_t i, int64_t first) const override {
    matmul_nn(ctx, delta, b(i).row_range(first, w.rows()), a(i));
    multiply_elements(delta, w);
  }
  void change_backward(Context& ctx, const Tensor& d_delta, const Tensor& w, size_t i, int64_t first) override {
    multiply_elements(d_delta, w);
    matmul_nt(ctx, tensors_.gradient(2 * i + 1).row_range(first, w.rows()), d_delta, a(i), 1, 1);
    matmul_tn(ctx, tensors_.gradient(2 * i), b(i).row_range(first, w.rows()), d_delta, 1, 1);
  }

 private:
  const Tensor& a(size_t i) const { return tensors_.value(2 * i); }
  const Tensor& b(size_t i) const { return tensors_.value(2 * i + 1); }
  std::string start_;
  MethodTensors tensors_;  // A, B of each part
};

class HiraMethod : public PeftMethod {
 public:
  explicit HiraMethod(std::string start) : start_(std::move(start)) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig& config) const override {
    return std::make_unique<Hira>(request.base, std::move(request.parts), static_cast<float>(config.lora_dropout), request.site, start_,
                                  request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    json["r"] = config.r;
    json["hira_dropout"] = config.lora_dropout;
    json["init_weights"] = word_json(start_);
    json["fan_in_fan_out"] = false;
    json["rank_pattern"] = nlohmann::json::object();
    json["peft_version"] = "0.21.2";  // the first that has it
  }
  std::string words() const override { return "HiRA"; }

 private:
  std::string start_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_hira(MethodKeys& keys, LoraConfig& config) {
  config.r = keys.integer("r", 32, 1, 65536);
  config.lora_alpha = static_cast<double>(config.r);
  config.lora_dropout = keys.share("hira_dropout");
  keys.only("rank_pattern", nlohmann::ordered_json::object(), "PEFT 0.21 gives every module over plain layers the rank r all the same");
  return std::make_shared<HiraMethod>(keys.word("init_weights", "true", {"true", "false", "gaussian"}));
}

}  // namespace loraine
