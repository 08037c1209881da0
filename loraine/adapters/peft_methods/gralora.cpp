// GraLoRA's two products by pieces, with an exchange between them, so that the blocks are never made.
#include "loraine/adapters/peft_methods/gralora.h"

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "loraine/adapters/dropped_input.h"
#include "loraine/adapters/fill_values.h"
#include "loraine/core/error.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/structured/exchanged_pieces.h"

namespace loraine {
namespace {

struct GraloraKeys {
  int64_t r = 32, k = 2, hybrid_r = 0;
  double alpha = 64, dropout = 0;
};

// Matrix i of a stack [n, rows, cols].
Tensor matrix_of(const Tensor& stack, int64_t i) {
  const int64_t rows = stack.shape[1], cols = stack.shape[2];
  return Tensor(stack.f32() + i * rows * cols, Dtype::F32, {rows, cols});
}

class Gralora : public Adapter {
 public:
  Gralora(const GraloraKeys& keys, int64_t in, std::vector<LoraPart> parts, uint64_t site, bool trained)
      : keys_(keys),
        in_(in),
        scale_(static_cast<float>(keys.alpha / static_cast<double>(keys.r + keys.hybrid_r))),
        parts_(std::move(parts)),
        site_(site) {
    const int64_t k = keys_.k, r = keys_.r;
    for (const LoraPart& part : parts_) {
      if (in % k != 0 || part.out % k != 0)
        throw Error(ErrorKind::usage,
                    fmt::format("{}: a weight of {} inputs and {} outputs, which gralora_k {} does not divide, as it has to in PEFT too",
                                part.name, in, part.out, k),
                    "choose another gralora_k, or leave the module out");
      tensors_.add(peft_name(part, ".gralora_A"), {k, in / k, r}, trained);
      tensors_.add(peft_name(part, ".gralora_B"), {k, r, part.out / k}, trained);
      turned_.add("", {k, r, in / k}, false);
      turned_.add("", {k, part.out / k, r}, false);
      if (keys_.hybrid_r == 0) continue;
      hybrid_.add(peft_name(part, ".gralora_A_general.weight"), {keys_.hybrid_r, in}, trained);
      hybrid_.add(peft_name(part, ".gralora_B_general.weight"), {part.out, keys_.hybrid_r}, trained);
    }
  }
  // Of each part: the pieces' products with A in the order in which B takes them, and the hybrid's.
  int64_t saved_width() const override { return static_cast<int64_t>(parts_.size()) * part_width(); }
  int64_t scratch_width() const override { return 2 * pieces_width() + keys_.hybrid_r + (keys_.dropout > 0 ? 2 * in_ : 0); }

  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool training, Arena& scratch) const override {
    const size_t mark = scratch.mark();
    const Tensor input = training ? dropped(ctx, x, scratch) : x, h = scratch.take(x.dtype, {x.rows(), pieces_width()});
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor u = pieces_of(saved, i), to = columns(y, i);
      for (int64_t n = 0; n < keys_.k; ++n) matmul_nt(ctx, piece(h, n), piece(input, n), matrix_of(turned_.value(2 * i), n));
      exchange_pieces(ctx, u, h, keys_.k, keys_.k);
      for (int64_t n = 0; n < keys_.k; ++n) matmul_nt(ctx, piece(to, n), piece(u, n), matrix_of(turned_.value(2 * i + 1), n), scale_, 1);
      if (keys_.hybrid_r == 0) continue;
      const Tensor v = hybrid_of(saved, i);
      matmul_nt(ctx, v, input, hybrid_.value(2 * i));
      matmul_nt(ctx, to, v, hybrid_.value(2 * i + 1), scale_, 1);
    }
    scratch.release(mark);
  }

  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    const size_t mark = scratch.mark();
    const Tensor input = dropped(ctx, x, scratch), d_h = scratch.take(x.dtype, {x.rows(), pieces_width()}),
                 d_u = scratch.take(x.dtype, {x.rows(), pieces_width()});
    const Tensor d_v = keys_.hybrid_r > 0 ? scratch.take(x.dtype, {x.rows(), keys_.hybrid_r}) : Tensor();
    const bool drops = d_x.data && keys_.dropout > 0;
    const Tensor d_input = drops ? scratch.take(x.dtype, {x.rows(), in_}) : d_x;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor u = pieces_of(saved, i), d_part = columns(d_y, i);
      for (int64_t n = 0; n < keys_.k; ++n) {
        matmul_nt(ctx, piece(d_u, n), piece(d_part, n), matrix_of(tensors_.value(2 * i + 1), n), scale_);
        matmul_tn(ctx, matrix_of(tensors_.gradient(2 * i + 1), n), piece(u, n), piece(d_part, n), scale_, 1);
      }
      exchange_pieces(ctx, d_h, d_u, keys_.k, keys_.k);
      for (int64_t n = 0; n < keys_.k; ++n) {
        matmul_tn(ctx, matrix_of(tensors_.gradient(2 * i), n), piece(input, n), piece(d_h, n), 1, 1);
        const float before = drops && i == 0 ? 0.0f : 1.0f;
        if (d_x.data) matmul_nt(ctx, piece(d_input, n), piece(d_h, n), matrix_of(tensors_.value(2 * i), n), 1, before);
      }
      if (keys_.hybrid_r == 0) continue;
      matmul_nn(ctx, d_v, d_part, hybrid_.value(2 * i + 1), scale_);
      matmul_tn(ctx, hybrid_.gradient(2 * i + 1), d_part, hybrid_of(saved, i), scale_, 1);
      matmul_tn(ctx, hybrid_.gradient(2 * i), d_v, input, 1, 1);
      if (d_x.data) matmul_nn(ctx, d_input, d_v, hybrid_.value(2 * i), 1, 1);
    }
    if (drops) {
      dropout(ctx, d_input, d_input, static_cast<float>(keys_.dropout), site_);
      add(ctx, d_x, d_x, d_input);
    }
    scratch.release(mark);
  }
  std::vector<Parameter> parameters() const override {
    std::vector<Parameter> all = tensors_.parameters();
    all.insert(all.end(), hybrid_.parameters().begin(), hybrid_.parameters().end());
    return all;
  }
  bool adapts(int part) const override { return number(part) < parts_.size(); }

  void merge_into(Context& ctx, const Tensor& w, int part) const override {
    const size_t i = number(part);
    const int64_t k = keys_.k, rank = keys_.r / k, rows = w.rows() / k, cols = in_ / k;
    for (int64_t o = 0; o < k; ++o)
      for (int64_t n = 0; n < k; ++n)
        matmul_nn(ctx, w.row_range(o * rows, rows).col_range(n * cols, cols), left_of(i, o).col_range(n * rank, rank),
                  right_of(i, n).row_range(o * rank, rank), scale_, 1);
    if (keys_.hybrid_r > 0) matmul_nn(ctx, w, hybrid_.value(2 * i + 1), hybrid_.value(2 * i), scale_, 1);
  }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    const int64_t k = keys_.k, rank = keys_.r / k, rows = parts_[i].out / k, cols = in_ / k;
    std::vector<ExactProduct> blocks, hybrid;
    for (int64_t o = 0; o < k; ++o)
      for (int64_t n = 0; n < k; ++n) blocks.emplace_back(right_of(i, n).row_range(o * rank, rank), static_cast<double>(scale_));
    if (keys_.hybrid_r > 0) hybrid.emplace_back(hybrid_.value(2 * i), static_cast<double>(scale_));
    return [this, i, k, rank, rows, cols, blocks, hybrid](std::span<double> w, int64_t row) {
      const int64_t o = row / rows;
      const float* left = left_of(i, o).f32() + row % rows * keys_.r;
      double error = 0;
      for (int64_t n = 0; n < k; ++n)
        error = std::max(error, blocks[static_cast<size_t>(o * k + n)].add(
                                    w.subspan(static_cast<size_t>(n * cols), static_cast<size_t>(cols)), left + n * rank, 1));
      for (const ExactProduct& product : hybrid) error += product.add(w, hybrid_.value(2 * i + 1).f32() + row * keys_.hybrid_r, 1);
      return error;
    };
  }

  // PEFT's: right factors as nn.Linear's, left ones zero.
  void initialise(Context& ctx, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site_);
    const auto fill = [&](const Tensor& right, const Tensor& left, int64_t inputs) {
      fill_uniform(right, inputs, random);
      std::fill_n(left.f32(), left.numel(), 0.0f);
    };
    for (size_t i = 0; i < parts_.size(); ++i) {
      fill(tensors_.value(2 * i), tensors_.value(2 * i + 1), in_ / keys_.k);
      if (keys_.hybrid_r > 0) fill(hybrid_.value(2 * i), hybrid_.value(2 * i + 1), in_);
    }
    refresh(ctx);
  }
  void refresh(Context&) override {
    for (size_t t = 0; t < 2 * parts_.size(); ++t)
      for (int64_t n = 0; n < keys_.k; ++n) copy_turned(matrix_of(turned_.value(t), n), matrix_of(tensors_.value(t), n));
  }

 private:
  int64_t pieces_width() const { return keys_.k * keys_.r; }
  int64_t part_width() const { return pieces_width() + keys_.hybrid_r; }
  Tensor pieces_of(const Tensor& saved, size_t i) const { return saved.col_range(static_cast<int64_t>(i) * part_width(), pieces_width()); }
  Tensor hybrid_of(const Tensor& saved, size_t i) const {
    return saved.col_range(static_cast<int64_t>(i) * part_width() + pieces_width(), keys_.hybrid_r);
  }
  Tensor columns(const Tensor& y, size_t i) const { return y.col_range(parts_[i].offset, parts_[i].out); }
  Tensor piece(const Tensor& t, int64_t n) const { return t.col_range(n * (t.cols() / keys_.k), t.cols() / keys_.k); }
  Tensor right_of(size_t i, int64_t n) const { return matrix_of(turned_.value(2 * i), n); }     // [r, in / k]
  Tensor left_of(size_t i, int64_t n) const { return matrix_of(turned_.value(2 * i + 1), n); }  // [out / k, r]
  size_t number(int part) const { return part_number(parts_, part); }
  Tensor dropped(Context& ctx, const Tensor& x, Arena& scratch) const {
    return dropped_input(ctx, x, static_cast<float>(keys_.dropout), site_, scratch);
  }

  GraloraKeys keys_;
  int64_t in_;
  float scale_;
  std::vector<LoraPart> parts_;
  uint64_t site_;
  MethodTensors tensors_, turned_, hybrid_;  // two of each part; turned_: those of tensors_ transposed, as a forward multiplies them
};

class GraloraMethod : public PeftMethod {
 public:
  explicit GraloraMethod(const GraloraKeys& keys) : keys_(keys) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    return std::make_unique<Gralora>(keys_, request.base.in(), std::move(request.parts), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig&) const override {
    json["r"] = keys_.r;
    json["alpha"] = keys_.alpha;
    json["hybrid_r"] = keys_.hybrid_r;
    json["gralora_k"] = keys_.k;
    json["gralora_dropout"] = keys_.dropout;
    json["fan_in_fan_out"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override { return fmt::format("GraLoRA, {} × {} blocks", keys_.k, keys_.k); }

 private:
  GraloraKeys keys_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_gralora(MethodKeys& keys, LoraConfig& config) {
  GraloraKeys k;
  k.r = config.r = keys.integer("r", 32, 1, 65536);
  k.alpha = config.lora_alpha = keys.number("alpha", 64, -1e9, 1e9);
  k.hybrid_r = keys.integer("hybrid_r", 0, 0, 65536);
  k.k = keys.integer("gralora_k", 2, 1, 65536);
  if (k.r % k.k != 0) keys.wrong("gralora_k", fmt::format("a number that divides r, which is {}", k.r));
  k.dropout = config.lora_dropout = keys.share("gralora_dropout");
  keys.without_effect({"init_weights"});
  return std::make_shared<GraloraMethod>(k);
}

}  // namespace loraine
