// LoKr's factors, and their products.
#include "loraine/adapters/peft_methods/lokr.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/adapters/fill_values.h"
#include "loraine/adapters/peft_methods/loha.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/structured/kronecker.h"

namespace loraine {
namespace {

struct LokrKeys {
  bool decompose_both = false;
  int64_t decompose_factor = -1;
  LycorisDropout dropout;
  bool dropout_scale = false;
};

// One factor [rows, cols]: a tensor of its own, or left [rows, r] · right [r, cols].
struct LokrFactor {
  Tensor value, gradient;
  size_t first = 0;  // its tensors in MethodTensors
  bool whole = true;
};

class LoKr : public Adapter {
 public:
  LoKr(const LokrKeys& keys, int64_t in, std::vector<LoraPart> parts, uint64_t site, bool trained) : parts_(std::move(parts)), site_(site) {
    for (const LoraPart& part : parts_) {
      const auto [in_m, in_n] = kronecker_factors(in, keys.decompose_factor);
      const auto [out_l, out_k] = kronecker_factors(part.out, keys.decompose_factor);
      const bool whole1 = !(keys.decompose_both && 2 * part.r < std::max(out_l, in_m)), whole2 = 2 * part.r >= std::max(out_k, in_n);
      factors_.push_back(add(part, "1", out_l, in_m, whole1, trained));
      factors_.push_back(add(part, "2", out_k, in_n, whole2, trained));
      width_ += in_m * out_k;
    }
  }
  int64_t saved_width() const override { return width_; }  // w₂ on the pieces of x, part by part
  int64_t scratch_width() const override { return width_; }

  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool, Arena&) const override {
    int64_t first = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor u = saved.col_range(first, inner_width(i));
      kronecker(ctx, y.col_range(parts_[i].offset, parts_[i].out), u, x, w1(i).value, w2(i).value, parts_[i].scale);
      first += u.cols();
    }
  }
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    int64_t first = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const size_t mark = scratch.mark();
      const Tensor u = saved.col_range(first, inner_width(i)), d_u = scratch.take(x.dtype, {x.rows(), u.cols()});
      kronecker_backward(ctx, d_x, w1(i).gradient, w2(i).gradient, d_u, d_y.col_range(parts_[i].offset, parts_[i].out), x, u, w1(i).value,
                         w2(i).value, parts_[i].scale);
      first += u.cols();
      scratch.release(mark);
    }
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context&, const Tensor& w, int part) const override {
    const size_t i = number(part);
    for (int64_t o = 0; o < w.rows(); ++o)
      for (int64_t c = 0; c < w.cols(); ++c) w.f32()[o * w.row_stride + c] += element(i, o, c) * parts_[i].scale;
  }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    return [this, i](std::span<double> w, int64_t row) {
      double most = 0;
      const int64_t K = w2(i).value.rows(), D = w2(i).value.cols(), a = row / K, c = row % K;
      for (size_t at = 0; at < w.size(); ++at) {
        const int64_t b = static_cast<int64_t>(at) / D, d = static_cast<int64_t>(at) % D;
        const double more = static_cast<double>(parts_[i].scale) * static_cast<double>(w1(i).value.f32()[a * w1(i).value.cols() + b]) *
                            static_cast<double>(w2(i).value.f32()[c * D + d]);
        most = std::max(most, std::abs(w[at]) + std::abs(more));
        w[at] += more;
      }
      return 5 * 0x1p-24 * most;
    };
  }

  // PEFT's: w₁ (or its left matrix) zero, the others as nn.Linear's.
  void initialise(Context& ctx, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site_);
    for (const LokrFactor& f : factors_)
      for (size_t t = f.first; t < f.first + (f.whole ? 1 : 2); ++t) {
        const Tensor value = tensors_.value(t);
        if (t == f.first && (&f - factors_.data()) % 2 == 0) std::fill_n(value.f32(), value.numel(), 0.0f);
        else fill_uniform(value, value.cols(), random);
      }
    refresh(ctx);
  }
  void refresh(Context& ctx) override {
    for (const LokrFactor& f : factors_)
      if (!f.whole) matmul_nn(ctx, f.value, tensors_.value(f.first), tensors_.value(f.first + 1));
  }
  void finish_gradients(Context& ctx) override {
    for (const LokrFactor& f : factors_) {
      if (f.whole) continue;
      matmul_nt(ctx, tensors_.gradient(f.first), f.gradient, tensors_.value(f.first + 1), 1, 1);
      matmul_tn(ctx, tensors_.gradient(f.first + 1), tensors_.value(f.first), f.gradient, 1, 1);
      std::fill_n(f.gradient.f32(), f.gradient.numel(), 0.0f);  // the optimizer does not know it, and the next step adds to it
    }
  }

 private:
  const LokrFactor& w1(size_t i) const { return factors_[2 * i]; }
  const LokrFactor& w2(size_t i) const { return factors_[2 * i + 1]; }
  int64_t inner_width(size_t i) const { return w1(i).value.cols() * w2(i).value.rows(); }
  size_t number(int part) const { return part_number(parts_, part); }
  float element(size_t i, int64_t o, int64_t c) const {
    const Tensor &a = w1(i).value, &b = w2(i).value;
    return a.f32()[o / b.rows() * a.cols() + c / b.cols()] * b.f32()[o % b.rows() * b.cols() + c % b.cols()];
  }
  LokrFactor add(const LoraPart& part, const std::string& which, int64_t rows, int64_t cols, bool whole, bool trained) {
    LokrFactor f;
    f.whole = whole;
    const std::string name = ".lokr_w" + which;
    MethodTensors& of_value = whole ? tensors_ : products_;
    const size_t at = of_value.add(peft_name(part, name.c_str()), {rows, cols}, trained);
    f.value = of_value.value(at);
    f.gradient = of_value.gradient(at);
    f.first = at;
    if (whole) return f;
    f.first = tensors_.add(peft_name(part, (name + "_a").c_str()), {rows, part.r}, trained);
    tensors_.add(peft_name(part, (name + "_b").c_str()), {part.r, cols}, trained);
    return f;
  }

  int64_t width_ = 0;
  std::vector<LoraPart> parts_;
  uint64_t site_;
  MethodTensors tensors_, products_;  // products_: of factors of rank r
  std::vector<LokrFactor> factors_;   // w₁, w₂ of each part
};

class LokrMethod : public PeftMethod {
 public:
  explicit LokrMethod(const LokrKeys& keys) : keys_(keys) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    keys_.dropout.check(request.trained);
    return std::make_unique<LoKr>(keys_, request.base.in(), std::move(request.parts), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    json["r"] = config.r;
    json["alpha"] = config.lora_alpha;
    json["decompose_both"] = keys_.decompose_both;
    json["decompose_factor"] = keys_.decompose_factor;
    json["rank_dropout"] = keys_.dropout.rank;
    json["module_dropout"] = keys_.dropout.module;
    json["rank_dropout_scale"] = keys_.dropout_scale;
    json["use_effective_conv2d"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override { return "LoKr"; }

 private:
  LokrKeys keys_;
};

}  // namespace

std::pair<int64_t, int64_t> kronecker_factors(int64_t n, int64_t factor) {
  if (factor > 0 && n % factor == 0) return {factor, n / factor};
  if (factor == -1) factor = n;
  int64_t first = 1, second = n;
  const int64_t length = first + second;
  while (first < second) {
    int64_t next = first + 1;
    while (n % next != 0) ++next;
    if (next + n / next > length || next > factor) break;
    first = next, second = n / next;
  }
  return {std::min(first, second), std::max(first, second)};
}

std::shared_ptr<PeftMethod> read_lokr(MethodKeys& keys, LoraConfig& config) {
  LokrKeys k;
  config.r = keys.integer("r", 8, 1, 65536);
  config.lora_alpha = keys.number("alpha", 8, -1e9, 1e9);
  k.decompose_both = keys.boolean("decompose_both", false);
  k.decompose_factor = keys.integer("decompose_factor", -1, -1, 65536);
  if (k.decompose_factor == 0) keys.wrong("decompose_factor", "a number above 0, or -1");
  k.dropout = LycorisDropout::read(keys);
  k.dropout_scale = keys.boolean("rank_dropout_scale", false);
  keys.without_effect({"use_effective_conv2d", "init_weights"});  // the former is for convolutions
  return std::make_shared<LokrMethod>(k);
}

}  // namespace loraine
