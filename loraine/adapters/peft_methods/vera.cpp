// VeRA's vectors around two matrices that all sites share.
#include "loraine/adapters/peft_methods/vera.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/adapters/dropped_input.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/rows/elementwise.h"

namespace loraine {
namespace {

class Vera : public Adapter {
 public:
  Vera(int64_t in, std::vector<LoraPart> parts, std::shared_ptr<MethodTensors> shared, float dropout, float d_initial, uint64_t site,
       bool trained)
      : in_(in), parts_(std::move(parts)), shared_(std::move(shared)), dropout_(dropout), d_initial_(d_initial), site_(site) {
    for (const LoraPart& part : parts_) {
      tensors_.add(peft_name(part, ".vera_lambda_b"), {part.out}, trained);
      tensors_.add(peft_name(part, ".vera_lambda_d"), {part.r}, trained);
      widest_ = std::max(widest_, part.out);
    }
    ones_.assign(static_cast<size_t>(std::max(widest_, parts_[0].r)), 1.0f);
  }
  // A x, the same for all parts; then one part's output before λ_b.
  int64_t saved_width() const override { return r(); }
  int64_t scratch_width() const override { return r() + widest_ + in_; }

  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override {
    const size_t mark = scratch.mark();
    const Tensor input = training ? dropped_input(ctx, x, dropout_, site_, scratch) : x;
    matmul_nt(ctx, saved, input, a());
    for (size_t i = 0; i < parts_.size(); ++i) {
      const size_t inner = scratch.mark();
      const Tensor z = output_before_b(ctx, saved, i, scratch), to = y.col_range(parts_[i].offset, parts_[i].out);
      scale_columns(ctx, to, z, lambda_b(i), nullptr, true);
      scratch.release(inner);
    }
    scratch.release(mark);
  }

  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    const size_t mark = scratch.mark();
    const Tensor d_ax = scratch.take(x.dtype, {x.rows(), r()});
    for (size_t i = 0; i < parts_.size(); ++i) {
      const size_t inner = scratch.mark();
      const Tensor d_part = d_y.col_range(parts_[i].offset, parts_[i].out), z = output_before_b(ctx, saved, i, scratch);
      column_dots(ctx, tensors_.gradient(2 * i).f32(), d_part, z, ones_.data());
      scale_columns(ctx, z, d_part, lambda_b(i));  // d z
      const Tensor d_scaled = scratch.take(x.dtype, {x.rows(), r()});
      matmul_nn(ctx, d_scaled, z, b(i));
      column_dots(ctx, tensors_.gradient(2 * i + 1).f32(), d_scaled, saved, ones_.data());
      scale_columns(ctx, d_ax, d_scaled, lambda_d(i), nullptr, i > 0);
      scratch.release(inner);
    }
    if (d_x.data && dropout_ > 0) {
      const Tensor d_dropped = scratch.take(x.dtype, {x.rows(), in_});
      matmul_nn(ctx, d_dropped, d_ax, a());
      dropout(ctx, d_dropped, d_dropped, dropout_, site_);
      add(ctx, d_x, d_x, d_dropped);
    } else if (d_x.data) {
      matmul_nn(ctx, d_x, d_ax, a(), 1, 1);
    }
    scratch.release(mark);
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }

  // W + (λ_b ∘ B) (λ_d ∘ A)
  void merge_into(Context& ctx, const Tensor& w, int part) const override {
    const size_t i = number(part);
    Buffer memory(static_cast<size_t>((parts_[i].out + in_) * r()) * sizeof(float));
    const Tensor left(memory.data(), Dtype::F32, {parts_[i].out, r()}), right(left.f32() + left.numel(), Dtype::F32, {r(), in_});
    scaled(left, right, i);
    matmul_nn(ctx, w, left, right, 1, 1);
  }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    auto memory = std::make_shared<Buffer>(static_cast<size_t>((parts_[i].out + in_) * r()) * sizeof(float));
    const Tensor left(memory->data(), Dtype::F32, {parts_[i].out, r()}), right(left.f32() + left.numel(), Dtype::F32, {r(), in_});
    scaled(left, right, i);
    return [memory, left, product = ExactProduct(right, 1)](std::span<double> w, int64_t row) {
      return product.add(w, left.f32() + row * left.cols(), 1);
    };
  }
  void initialise(Context&, uint64_t) override {
    for (size_t i = 0; i < parts_.size(); ++i) std::fill_n(tensors_.value(2 * i + 1).f32(), r(), d_initial_);
  }

 private:
  int64_t r() const { return parts_[0].r; }
  Tensor a() const { return shared_->value(0).col_range(0, in_); }
  Tensor b(size_t i) const { return shared_->value(1).row_range(0, parts_[i].out); }
  const float* lambda_b(size_t i) const { return tensors_.value(2 * i).f32(); }
  const float* lambda_d(size_t i) const { return tensors_.value(2 * i + 1).f32(); }
  size_t number(int part) const { return part_number(parts_, part); }

  // B (λ_d ∘ A x) of a part, in scratch [T, out]
  Tensor output_before_b(Context& ctx, const Tensor& ax, size_t i, Arena& scratch) const {
    const Tensor z = scratch.take(ax.dtype, {ax.rows(), parts_[i].out});
    const size_t mark = scratch.mark();
    const Tensor scaled_ax = scratch.take(ax.dtype, {ax.rows(), r()});
    scale_columns(ctx, scaled_ax, ax, lambda_d(i));
    matmul_nt(ctx, z, scaled_ax, b(i));
    scratch.release(mark);
    return z;
  }
  void scaled(const Tensor& left, const Tensor& right, size_t i) const {
    const Tensor all_a = a(), all_b = b(i);
    for (int64_t o = 0; o < left.rows(); ++o)
      for (int64_t k = 0; k < r(); ++k) left.f32()[o * r() + k] = lambda_b(i)[o] * all_b.f32()[o * all_b.row_stride + k];
    for (int64_t k = 0; k < r(); ++k)
      for (int64_t c = 0; c < in_; ++c) right.f32()[k * in_ + c] = lambda_d(i)[k] * all_a.f32()[k * all_a.row_stride + c];
  }

  int64_t in_, widest_ = 0;
  std::vector<LoraPart> parts_;
  std::shared_ptr<MethodTensors> shared_;  // A, B
  float dropout_, d_initial_;
  uint64_t site_;
  MethodTensors tensors_;  // λ_b, λ_d of each part
  std::vector<float> ones_;
};

// Uniform within √(6 / columns), as PEFT draws A and B.
void fill_projection(const Tensor& t, std::mt19937_64& random) {
  const float bound = std::sqrt(6.0f / static_cast<float>(t.cols()));
  std::uniform_real_distribution<float> uniform(-bound, bound);
  for (int64_t i = 0; i < t.numel(); ++i) t.f32()[i] = uniform(random);
}

class VeraMethod : public PeftMethod {
 public:
  VeraMethod(double d_initial, int64_t key) : d_initial_(d_initial), key_(key) {}
  std::shared_ptr<MethodTensors> make_shared(const std::vector<SiteRequest>& sites, bool) const override {
    int64_t in = 0, out = 0, r = 0;
    for (const SiteRequest& site : sites) {
      in = std::max(in, site.base.in());
      for (const LoraPart& part : site.parts) out = std::max(out, part.out), r = part.r;
    }
    auto shared = std::make_shared<MethodTensors>();
    if (r == 0) return shared;
    shared->add("base_model.vera_A", {r, in}, false);
    shared->add("base_model.vera_B", {out, r}, false);
    return shared;
  }
  void start_shared(MethodTensors& shared, uint64_t) const override {
    std::mt19937_64 random(static_cast<uint64_t>(key_));
    for (const Parameter& p : shared.parameters()) fill_projection(p.value, random);
  }
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig& config) const override {
    return std::make_unique<Vera>(request.base.in(), std::move(request.parts), request.shared, static_cast<float>(config.lora_dropout),
                                  static_cast<float>(d_initial_), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    json["r"] = config.r;
    json["vera_dropout"] = config.lora_dropout;
    json["d_initial"] = d_initial_;
    json["projection_prng_key"] = key_;
    json["save_projection"] = true;
    json["fan_in_fan_out"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override { return "VeRA"; }

 private:
  double d_initial_;
  int64_t key_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_vera(MethodKeys& keys, LoraConfig& config) {
  config.r = keys.integer("r", 256, 1, 65536);
  config.lora_alpha = static_cast<double>(config.r);
  keys.only("save_projection", true, "A and B are read from the file, and not drawn as torch draws them");
  keys.without_effect({"init_weights"});
  const double d_initial = keys.number("d_initial", 0.1, -1e9, 1e9);
  const int64_t key = keys.integer("projection_prng_key", 0, 0, INT64_MAX);
  config.lora_dropout = keys.share("vera_dropout");
  return std::make_shared<VeraMethod>(d_initial, key);
}

}  // namespace loraine
