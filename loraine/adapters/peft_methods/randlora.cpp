// RandLoRA by the rows of A: U is made of none but r pieces at a time, as products of the scaled input, or output, with γ.
#include "loraine/adapters/peft_methods/randlora.h"

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

struct RandloraKeys {
  int64_t r = 32, projection_key = 0;
  double alpha = 640, dropout = 0;
  bool sparse = false, very_sparse = false;
};

int64_t bases_of(int64_t narrow, int64_t r) { return (narrow + r - 1) / r; }

// A and B, and Bᵀ where a module has fewer outputs than inputs.
class RandloraBases : public MethodTensors {
 public:
  RandloraBases(int64_t r, int64_t narrow, int64_t wide, bool turned) {
    add("base_model.randlora_A", {r, 1, narrow}, false);
    add("base_model.randlora_B", {wide, bases_of(narrow, r), r}, false);
    if (turned) memory_ = Buffer(value(1).bytes());
  }
  Tensor a() const { return Tensor(value(0).data, Dtype::F32, {value(0).shape[0], value(0).shape[2]}); }                      // [r, m]
  Tensor b() const { return Tensor(value(1).data, Dtype::F32, {value(1).shape[0], value(1).shape[1] * value(1).shape[2]}); }  // [M, N r]
  Tensor b_turned() const { return Tensor(memory_.data(), Dtype::F32, {b().cols(), b().rows()}); }
  void refresh(Context&) override {
    if (memory_.bytes() == 0) return;
    copy_turned(b_turned(), b());
  }
  // PEFT's modules each name the bases, and its files have them once for every module.
  bool repeats(const std::string& name) const override { return name.ends_with(".randlora_A") || name.ends_with(".randlora_B"); }

 private:
  Buffer memory_;
};

class Randlora : public Adapter {
 public:
  Randlora(const RandloraKeys& keys, int64_t in, std::vector<LoraPart> parts, std::shared_ptr<RandloraBases> shared, uint64_t site,
           bool trained)
      : dropout_(static_cast<float>(keys.dropout)), r_(keys.r), in_(in), parts_(std::move(parts)), shared_(std::move(shared)), site_(site) {
    int64_t widest = in;
    for (const LoraPart& part : parts_) {
      const int64_t narrow = std::min(in, part.out), n = bases_of(narrow, r_);
      tensors_.add(peft_name(part, ".randlora_lambda"), {r_, n}, trained);
      tensors_.add(peft_name(part, ".randlora_gamma"), {n, narrow}, trained);
      turned_.add("", {narrow, n}, false);
      width_ += r_ * n;
      most_ = std::max(most_, r_ * n);
      widest = std::max(widest, narrow);
    }
    ones_.assign(static_cast<size_t>(widest), 1.0f);
  }
  int64_t saved_width() const override { return width_; }  // A's pieces before λ, or Bᵀ x
  int64_t scratch_width() const override { return 2 * most_ + 7 * in_; }

  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override {
    const size_t mark = scratch.mark();
    const Tensor input = training ? dropped_input(ctx, x, dropout_, site_, scratch) : x;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const size_t inner = scratch.mark();
      const Tensor own = saved_of(saved, i), to = y.col_range(parts_[i].offset, parts_[i].out),
                   scaled = scratch.take(x.dtype, {x.rows(), own.cols()}), wide = scratch.take(x.dtype, {x.rows(), narrow(i)});
      if (by_input(i)) {
        for (int64_t k = 0; k < r_; ++k) {
          scale_columns(ctx, wide, input, a(k));
          matmul_nt(ctx, piece(own, i, k), wide, gamma(i));
          scale_columns(ctx, piece(scaled, i, k), piece(own, i, k), lambda(i, k));
        }
        matmul_nt(ctx, to, scaled, shared_->b().row_range(0, parts_[i].out).col_range(0, own.cols()), parts_[i].scale, 1);
      } else {
        matmul_nt(ctx, own, input, shared_->b_turned().row_range(0, own.cols()).col_range(0, in_));
        const Tensor sum = scratch.take(Dtype::F32, {x.rows(), narrow(i)});
        for (int64_t k = 0; k < r_; ++k) {
          scale_columns(ctx, piece(scaled, i, k), piece(own, i, k), lambda(i, k));
          matmul_nt(ctx, wide, piece(scaled, i, k), turned_.value(i), parts_[i].scale);
          scale_columns(ctx, sum, wide, a(k), nullptr, k > 0);
        }
        add(ctx, to, to, sum);
      }
      scratch.release(inner);
    }
    scratch.release(mark);
  }

  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    const size_t mark = scratch.mark();
    const Tensor input = dropped_input(ctx, x, dropout_, site_, scratch);
    const Tensor d_input = d_x.data ? scratch.take(Dtype::F32, {x.rows(), in_}) : Tensor();
    for (size_t i = 0; i < parts_.size(); ++i) {
      const size_t inner = scratch.mark();
      const Tensor d_part = d_y.col_range(parts_[i].offset, parts_[i].out);
      if (by_input(i)) backward_by_input(ctx, d_input, d_part, input, saved_of(saved, i), i, scratch);
      else backward_by_output(ctx, d_input, d_part, saved_of(saved, i), i, scratch);
      scratch.release(inner);
    }
    if (d_x.data) {
      if (dropout_ > 0) dropout(ctx, d_input, d_input, dropout_, site_);
      add(ctx, d_x, d_x, d_input);
    }
    scratch.release(mark);
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }

  void merge_into(Context& ctx, const Tensor& w, int part) const override {
    const size_t i = number(part);
    const Made u(*this, i);
    if (by_input(i)) matmul_nn(ctx, w, shared_->b().row_range(0, w.rows()).col_range(0, u.rows.rows()), u.rows, parts_[i].scale, 1);
    else matmul_tn(ctx, w, u.rows, shared_->b_turned().row_range(0, u.rows.rows()).col_range(0, in_), parts_[i].scale, 1);
  }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    const auto u = std::make_shared<Made>(*this, i);
    const double scale = static_cast<double>(parts_[i].scale);
    if (by_input(i))
      return [u, b = shared_->b(), product = ExactProduct(u->rows, scale)](std::span<double> w, int64_t row) {
        return product.add(w, b.f32() + row * b.cols(), 1);
      };
    const Tensor turned = shared_->b_turned().row_range(0, u->rows.rows()).col_range(0, in_);
    return [u, product = ExactProduct(turned, scale)](std::span<double> w, int64_t row) {
      return product.add(w, u->rows.f32() + row, u->rows.cols());
    };
  }
  void initialise(Context& ctx, uint64_t) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor l = tensors_.value(2 * i), g = gamma(i);
      std::fill_n(l.f32(), l.numel(), 0.0f);
      std::fill_n(g.f32(), g.numel(), static_cast<float>(1.0 / static_cast<double>(std::max(g.rows(), g.cols()))));
    }
    refresh(ctx);
  }
  void refresh(Context&) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      if (by_input(i)) continue;
      copy_turned(turned_.value(i), gamma(i));
    }
  }

 private:
  // U of a part, [r n, narrow].
  struct Made {
    Made(const Randlora& of, size_t i)
        : memory(static_cast<size_t>(of.r_ * of.gamma(i).numel()) * sizeof(float)),
          rows(memory.data(), Dtype::F32, {of.r_ * of.bases(i), of.narrow(i)}) {
      for (int64_t k = 0; k < of.r_; ++k)
        for (int64_t j = 0; j < of.bases(i); ++j)
          for (int64_t c = 0; c < of.narrow(i); ++c)
            rows.f32()[(k * of.bases(i) + j) * of.narrow(i) + c] =
                of.lambda(i, k)[j] * of.a(k)[c] * of.gamma(i).f32()[j * of.narrow(i) + c];
    }
    Buffer memory;
    Tensor rows;
  };

  void backward_by_input(Context& ctx, const Tensor& d_input, const Tensor& d_part, const Tensor& input, const Tensor& own, size_t i,
                         Arena& scratch) {
    const int64_t T = input.rows();
    const Tensor d_scaled = scratch.take(input.dtype, {T, own.cols()}), d_own = scratch.take(input.dtype, {T, bases(i)}),
                 wide = scratch.take(input.dtype, {T, in_}), d_wide = scratch.take(input.dtype, {T, in_});
    matmul_nn(ctx, d_scaled, d_part, shared_->b().row_range(0, parts_[i].out).col_range(0, own.cols()), parts_[i].scale);
    for (int64_t k = 0; k < r_; ++k) {
      const Tensor d_piece = piece(d_scaled, i, k);
      column_dots(ctx, d_lambda(i, k), d_piece, piece(own, i, k), ones_.data());
      scale_columns(ctx, d_own, d_piece, lambda(i, k));
      scale_columns(ctx, wide, input, a(k));
      matmul_tn(ctx, tensors_.gradient(2 * i + 1), d_own, wide, 1, 1);
      if (!d_input.data) continue;
      matmul_nn(ctx, d_wide, d_own, gamma(i));
      scale_columns(ctx, d_input, d_wide, a(k), nullptr, i > 0 || k > 0);
    }
  }
  void backward_by_output(Context& ctx, const Tensor& d_input, const Tensor& d_part, const Tensor& own, size_t i, Arena& scratch) {
    const int64_t T = own.rows();
    const Tensor d_own = scratch.take(own.dtype, {T, own.cols()}), scaled = scratch.take(own.dtype, {T, bases(i)}),
                 wide = scratch.take(own.dtype, {T, narrow(i)});
    for (int64_t k = 0; k < r_; ++k) {
      scale_columns(ctx, wide, d_part, a(k));
      const Tensor d_piece = piece(d_own, i, k);
      matmul_nt(ctx, d_piece, wide, gamma(i), parts_[i].scale);
      column_dots(ctx, d_lambda(i, k), d_piece, piece(own, i, k), ones_.data());
      scale_columns(ctx, d_piece, d_piece, lambda(i, k));
      scale_columns(ctx, scaled, piece(own, i, k), lambda(i, k));
      matmul_tn(ctx, tensors_.gradient(2 * i + 1), scaled, wide, parts_[i].scale, 1);
    }
    if (d_input.data) matmul_nt(ctx, d_input, d_own, shared_->b().row_range(0, in_).col_range(0, own.cols()), 1, i > 0 ? 1.0f : 0.0f);
  }

  int64_t narrow(size_t i) const { return gamma(i).cols(); }
  int64_t bases(size_t i) const { return gamma(i).rows(); }
  bool by_input(size_t i) const { return in_ <= parts_[i].out; }
  const float* a(int64_t k) const { return shared_->a().f32() + k * shared_->a().cols(); }
  const float* lambda(size_t i, int64_t k) const { return tensors_.value(2 * i).f32() + k * bases(i); }
  float* d_lambda(size_t i, int64_t k) const { return tensors_.gradient(2 * i).f32() + k * bases(i); }
  const Tensor& gamma(size_t i) const { return tensors_.value(2 * i + 1); }
  Tensor piece(const Tensor& t, size_t i, int64_t k) const { return t.col_range(k * bases(i), bases(i)); }
  Tensor saved_of(const Tensor& saved, size_t i) const {
    int64_t first = 0;
    for (size_t before = 0; before < i; ++before) first += r_ * bases(before);
    return saved.col_range(first, r_ * bases(i));
  }
  size_t number(int part) const { return part_number(parts_, part); }

  float dropout_;
  int64_t r_, in_, width_ = 0, most_ = 0;
  std::vector<LoraPart> parts_;
  std::shared_ptr<RandloraBases> shared_;
  uint64_t site_;
  MethodTensors tensors_, turned_;  // λ, γ of each part; γᵀ of each
  std::vector<float> ones_;
};

// Numbers of a standard deviation of 1, as PEFT divides by it.
void standardise(const Tensor& t) {
  double sum = 0, squares = 0;
  const double n = static_cast<double>(t.numel());
  for (int64_t i = 0; i < t.numel(); ++i) sum += static_cast<double>(t.f32()[i]);
  for (int64_t i = 0; i < t.numel(); ++i) squares += std::pow(static_cast<double>(t.f32()[i]) - sum / n, 2);
  const double deviation = std::sqrt(squares / std::max(1.0, n - 1));
  for (int64_t i = 0; deviation > 0 && i < t.numel(); ++i) t.f32()[i] = static_cast<float>(static_cast<double>(t.f32()[i]) / deviation);
}

class RandloraMethod : public PeftMethod {
 public:
  explicit RandloraMethod(const RandloraKeys& keys) : keys_(keys) {}
  std::shared_ptr<MethodTensors> make_shared(const std::vector<SiteRequest>& sites, bool) const override {
    int64_t in = 1, out = 1;
    bool turned = false;
    for (const SiteRequest& site : sites) {
      in = std::max(in, site.base.in());
      for (const LoraPart& part : site.parts) {
        out = std::max(out, part.out);
        turned = turned || part.out < site.base.in();
      }
    }
    return std::make_shared<RandloraBases>(keys_.r, std::min(in, out), std::max(in, out), turned);
  }
  // Uniform numbers, or −1, 0 and 1, of a standard deviation of 1. PEFT holds those that are not sparse in bf16.
  void start_shared(MethodTensors& shared, uint64_t) const override {
    std::mt19937_64 random(static_cast<uint64_t>(keys_.projection_key));
    std::uniform_real_distribution<float> uniform(-1, 1);
    const double narrow = static_cast<double>(shared.value(0).shape[2]);
    const float edge = static_cast<float>(1 - (keys_.very_sparse ? 1 / std::sqrt(narrow) : 1.0 / 3));  // beyond it ±1
    for (const Parameter& p : shared.parameters()) {
      float* values = p.value.f32();
      for (int64_t i = 0; i < p.value.numel(); ++i) {
        const float drawn = uniform(random);
        values[i] = !is_sparse() ? drawn : drawn > edge ? 1.0f : drawn < -edge ? -1.0f : 0.0f;
      }
      standardise(p.value);
      for (int64_t i = 0; !is_sparse() && i < p.value.numel(); ++i) values[i] = bf16_to_f32(f32_to_bf16(values[i]));
    }
    Context ctx;
    shared.refresh(ctx);
  }
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    return std::make_unique<Randlora>(keys_, request.base.in(), std::move(request.parts),
                                      std::static_pointer_cast<RandloraBases>(request.shared), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig&) const override {
    json["r"] = keys_.r;
    json["randlora_alpha"] = keys_.alpha;
    json["randlora_dropout"] = keys_.dropout;
    json["projection_prng_key"] = keys_.projection_key;
    json["save_projection"] = true;
    json["sparse"] = keys_.sparse;
    json["very_sparse"] = keys_.very_sparse;
    json["fan_in_fan_out"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override { return fmt::format("RandLoRA, bases of rank {}", keys_.r); }

 private:
  bool is_sparse() const { return keys_.sparse || keys_.very_sparse; }
  RandloraKeys keys_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_randlora(MethodKeys& keys, LoraConfig& config) {
  RandloraKeys k;
  k.r = config.r = keys.integer("r", 32, 1, 65536);
  k.alpha = config.lora_alpha = keys.number("randlora_alpha", 640, -1e9, 1e9);
  k.dropout = config.lora_dropout = keys.share("randlora_dropout");
  k.projection_key = keys.integer("projection_prng_key", 0, 0, INT64_MAX);
  k.sparse = keys.boolean("sparse", false);
  k.very_sparse = keys.boolean("very_sparse", false);
  keys.only("save_projection", true, "A and B are read from the file, and not drawn as torch draws them");
  keys.without_effect({"init_weights"});
  return std::make_shared<RandloraMethod>(k);
}

}  // namespace loraine
