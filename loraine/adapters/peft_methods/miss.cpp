// MiSS over folded inputs, and its blocks that multiply the weight.
#include "loraine/adapters/peft_methods/miss.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/adapters/lora.h"
#include "loraine/adapters/peft_methods/weight_change.h"
#include "loraine/core/error.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/structured/diagonal_blocks.h"
#include "loraine/kernels/structured/fold.h"

namespace loraine {
namespace {

constexpr double kHalfStepMiss = 0x1p-24;  // of f32 at 1

struct MissKeys {
  std::string start = "true";  // PEFT's init_weights: true, false, bat, mini
  int64_t mini_r = 1;
};

void fill_as_linear(const Tensor& t, std::mt19937_64& random) {
  const float bound = 1.0f / std::sqrt(static_cast<float>(t.cols()));
  std::uniform_real_distribution<float> uniform(-bound, bound);
  for (int64_t i = 0; i < t.numel(); ++i) t.f32()[i] = uniform(random);
}

// What is not trained runs as LoRA: A the pieces' unit matrices side by side, B the columns of M.
class Miss : public Adapter {
 public:
  Miss(const MissKeys& keys, int64_t in, std::vector<LoraPart> given, float dropout, uint64_t site, bool trained)
      : in_(in), parts_(std::move(given)), dropout_(dropout), site_(site), random_(keys.start == "false") {
    for (const LoraPart& part : parts_) {
      const int64_t columns = keys.start == "mini" ? keys.mini_r : part.out;
      tensors_.add(peft_name(part, ".miss_block"), {r(), columns}, trained);
      turned_.add("", {columns, r()}, false);
      widest_ = std::max(widest_, columns);
    }
    if (trained) return;
    lora_ = std::make_unique<Lora>(in, parts_, 0.0f, site, false);
    for (size_t i = 0; i < parts_.size(); ++i)
      for (int64_t c = 0; c < in; ++c) lora_->a(i).f32()[c % r() * in + c] = 1;
  }
  int64_t saved_width() const override { return lora_ ? lora_->saved_width() : r(); }  // the sum of the pieces
  int64_t scratch_width() const override { return in_ + 2 * r() + widest_; }

  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override {
    const size_t mark = scratch.mark();
    const Tensor sum = saved.col_range(0, r());
    Tensor input = x;
    if (training && dropout_ > 0) {
      input = scratch.take(x.dtype, {x.rows(), in_});
      dropout(ctx, input, x, dropout_, site_);
    }
    fold_columns(ctx, sum, input);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor to = y.col_range(parts_[i].offset, parts_[i].out), m = turned_.value(i);
      if (m.rows() == parts_[i].out) {
        matmul_nt(ctx, to, sum, m, 1, 1);
        continue;
      }
      const size_t inner = scratch.mark();
      const Tensor once = scratch.take(x.dtype, {x.rows(), m.rows()});
      matmul_nt(ctx, once, sum, m);
      unfold_columns(ctx, to, once);
      scratch.release(inner);
    }
    scratch.release(mark);
  }

  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    const size_t mark = scratch.mark();
    const Tensor sum = saved.col_range(0, r()), d_sum = scratch.take(x.dtype, {x.rows(), r()});
    for (size_t i = 0; i < parts_.size(); ++i) {
      const size_t inner = scratch.mark();
      const Tensor m = turned_.value(i);
      Tensor d_part = d_y.col_range(parts_[i].offset, parts_[i].out);
      if (m.rows() < parts_[i].out) {
        const Tensor once = scratch.take(x.dtype, {x.rows(), m.rows()});
        fold_columns(ctx, once, d_part);
        d_part = once;
      }
      matmul_nn(ctx, d_sum, d_part, m, 1, i > 0 ? 1 : 0);
      matmul_tn(ctx, tensors_.gradient(i), sum, d_part, 1, 1);
      scratch.release(inner);
    }
    if (d_x.data && dropout_ > 0) {
      const Tensor d_dropped = scratch.take(x.dtype, {x.rows(), in_});
      scale_to_zero(d_dropped);
      unfold_columns(ctx, d_dropped, d_sum);
      dropout(ctx, d_dropped, d_dropped, dropout_, site_);
      add(ctx, d_x, d_x, d_dropped);
    } else if (d_x.data) {
      unfold_columns(ctx, d_x, d_sum);
    }
    scratch.release(mark);
  }

  std::optional<LowRank> low_rank() const override { return lora_ ? lora_->low_rank() : std::nullopt; }
  const Lora* as_lora() const override { return lora_.get(); }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context&, const Tensor& w, int part) const override {
    const Tensor m = turned_.value(number(part));
    for (int64_t o = 0; o < w.rows(); ++o)
      for (int64_t c = 0; c < w.cols(); ++c) w.f32()[o * w.row_stride + c] += m.f32()[o % m.rows() * r() + c % r()];
  }
  MergeRow exact_merge(int part) const override {
    return [m = turned_.value(number(part))](std::span<double> w, int64_t row) {
      double most = 0;
      for (size_t c = 0; c < w.size(); ++c) {
        w[c] += static_cast<double>(m.f32()[row % m.rows() * m.cols() + static_cast<int64_t>(c) % m.cols()]);
        most = std::max(most, std::abs(w[c]));
      }
      return 2 * kHalfStepMiss * most;
    };
  }
  void initialise(Context& ctx, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site_);
    for (size_t i = 0; random_ && i < parts_.size(); ++i) fill_as_linear(tensors_.value(i), random);
    refresh(ctx);
  }
  void refresh(Context&) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor m = tensors_.value(i), t = turned_.value(i);
      for (int64_t k = 0; k < r(); ++k)
        for (int64_t c = 0; c < m.cols(); ++c) t.f32()[c * r() + k] = m.f32()[k * m.cols() + c];
      for (int64_t o = 0; lora_ && o < parts_[i].out; ++o) std::copy_n(t.f32() + o % t.rows() * r(), r(), lora_->b(i).f32() + o * r());
    }
  }

 private:
  int64_t r() const { return parts_[0].r; }
  size_t number(int part) const { return static_cast<size_t>(std::ranges::find(parts_, part, &LoraPart::part) - parts_.begin()); }
  static void scale_to_zero(const Tensor& t) { std::fill_n(static_cast<char*>(t.data), t.bytes(), '\0'); }

  int64_t in_, widest_ = 0;
  std::vector<LoraPart> parts_;
  float dropout_;
  uint64_t site_;
  bool random_;
  MethodTensors tensors_, turned_;  // M of each part, and its columns as rows
  std::unique_ptr<Lora> lora_;      // of one that is not trained
};

class MissBat : public WeightChange {
 public:
  MissBat(const Weight& base, std::vector<LoraPart> given, uint64_t site, bool trained) : WeightChange(base, std::move(given), 0, site) {
    for (const LoraPart& part : parts()) tensors_.add(peft_name(part, ".miss_block"), {part.out / r(), r(), r()}, trained);
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  MergeRow exact_merge(int part) const override {
    return [m = tensors_.value(number(part)), r = r()](std::span<double> w, int64_t row) {
      const std::vector<double> before(w.begin(), w.end());
      const float* block = m.f32() + row / r * r * r;
      double most = 0;
      for (size_t i = 0; i < w.size(); ++i) {
        const int64_t c = static_cast<int64_t>(i) % r, piece = static_cast<int64_t>(i) - c;
        double sum = static_cast<double>(block[row % r * r + c]), size = std::abs(before[i]) + std::abs(sum);
        for (int64_t k = 0; k < r; ++k) {
          const double product = before[static_cast<size_t>(piece + k)] * static_cast<double>(block[k * r + c]);
          sum += product;
          size += std::abs(product);
        }
        w[i] += sum;
        most = std::max(most, size);
      }
      return static_cast<double>(r + 5) * kHalfStepMiss * most;
    };
  }

 protected:
  int64_t rows_at_once() const override { return (128 + r() - 1) / r() * r(); }
  void change(Context& ctx, const Tensor& delta, const Tensor& w, size_t i, int64_t first) const override {
    for (int64_t row = 0; row < w.rows(); row += r()) {
      const Tensor block = tensors_.value(i).row_range((first + row) / r(), 1), rows = delta.row_range(row, r()), m = square(block);
      multiply_blocks(ctx, rows, w.row_range(row, r()), block, false, false);
      unfold_columns(ctx, rows, m);
    }
  }
  void change_backward(Context& ctx, const Tensor& d_delta, const Tensor& w, size_t i, int64_t first) override {
    std::vector<float> sums(static_cast<size_t>(r() * r()));
    const Tensor folded(sums.data(), Dtype::F32, {r(), r()});
    for (int64_t row = 0; row < w.rows(); row += r()) {
      const Tensor d_block = tensors_.gradient(i).row_range((first + row) / r(), 1), d_rows = d_delta.row_range(row, r());
      multiply_blocks_gradient(ctx, d_block, w.row_range(row, r()), d_rows);
      fold_columns(ctx, folded, d_rows);
      add(ctx, square(d_block), square(d_block), folded);
    }
  }

 private:
  int64_t r() const { return parts()[0].r; }
  Tensor square(const Tensor& block) const { return Tensor(block.data, Dtype::F32, {r(), r()}); }
  MethodTensors tensors_;
};

class MissMethod : public PeftMethod {
 public:
  explicit MissMethod(const MissKeys& keys) : keys_(keys) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig& config) const override {
    const int64_t in = request.base.in();
    for (const LoraPart& part : request.parts) {
      const auto refuse = [&](const std::string& why, const std::string& hint) {
        throw Error(ErrorKind::usage, fmt::format("MiSS: r is {}, and {} is [{}, {}]: {}", part.r, part.name, part.out, in, why), hint);
      };
      if (part.r > in) refuse("r is at most the module's input", fmt::format("set r to at most {}", in));
      if (keys_.start == "bat" && (in % part.r || part.out % part.r))
        refuse("init_weights bat needs an r that divides both sides", "choose another r, other modules, or init_weights true");
      if (keys_.start == "mini" && part.out % keys_.mini_r)
        refuse(fmt::format("init_weights mini needs a mini_r ({}) that divides the module's output", keys_.mini_r),
               "choose another mini_r");
    }
    if (keys_.start == "bat") return std::make_unique<MissBat>(request.base, std::move(request.parts), request.site, request.trained);
    return std::make_unique<Miss>(keys_, in, std::move(request.parts), static_cast<float>(config.lora_dropout), request.site,
                                  request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    json["r"] = config.r;
    json["miss_dropout"] = config.lora_dropout;
    json["mini_r"] = keys_.mini_r;
    json["init_weights"] = word_json(keys_.start);
  }
  std::string words() const override { return keys_.start == "bat" || keys_.start == "mini" ? "MiSS, " + keys_.start : "MiSS"; }

 private:
  MissKeys keys_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_miss(MethodKeys& keys, LoraConfig& config) {
  MissKeys k;
  config.r = keys.integer("r", 64, 1, 65536);
  config.lora_alpha = static_cast<double>(config.r);
  config.lora_dropout = keys.share("miss_dropout");
  k.mini_r = keys.integer("mini_r", 1, 1, INT32_MAX);
  k.start = keys.word("init_weights", "true", {"true", "false", "bat", "mini"});
  return std::make_shared<MissMethod>(k);
}

}  // namespace loraine
