// BOFT's blocks, made of their parameters when those have changed. Factor i takes the columns in groups of b · 2ⁱ, of each the even ones of
// its pieces of b / 2 first, so that blocks turn what lies ever farther apart. The highest factor is applied first.
#include "loraine/adapters/peft_methods/boft.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/adapters/peft_methods/cayley.h"
#include "loraine/adapters/peft_methods/input_adapter.h"
#include "loraine/adapters/peft_methods/oft.h"
#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/kernels/rows/elementwise.h"
#include "loraine/kernels/structured/diagonal_blocks.h"
#include "loraine/kernels/structured/exchanged_pieces.h"

namespace loraine {
namespace {

struct BoftKeys {
  int64_t block_size = 4, blocks = 0, factors = 1;  // one of block_size and blocks is 0
  double dropout = 0;
};

// Of a module with `in` inputs, by PEFT's rules.
int64_t block_size_of(const BoftKeys& keys, int64_t in, const std::string& module) {
  const int64_t given = keys.blocks > 0 ? keys.blocks : keys.block_size;
  const auto refuse = [&](const std::string& what) {
    throw Error(ErrorKind::usage, fmt::format("{}: has {} inputs, {}, as in PEFT", module, in, what),
                "choose another number, or leave the module out");
  };
  if (in % given != 0) refuse(fmt::format("which {} {} does not divide", keys.blocks > 0 ? "boft_block_num" : "boft_block_size", given));
  const int64_t size = keys.blocks > 0 ? in / keys.blocks : keys.block_size, blocks = in / size;
  if (keys.factors > 1 && (size % 2 != 0 || keys.factors > 32 || blocks % (int64_t{1} << (keys.factors - 1)) != 0))
    refuse(fmt::format("in {} blocks of {}; boft_n_butterfly_factor {} needs blocks of an even size, a multiple of {} of them", blocks,
                       size, keys.factors, int64_t{1} << std::min<int64_t>(keys.factors - 1, 32)));
  return size;
}

class Boft : public InputAdapter {
 public:
  Boft(const BoftKeys& keys, int64_t in, std::vector<LoraPart> given, bool trained)
      : InputAdapter(in, std::move(given)),
        factors_(keys.factors),
        block_(block_size_of(keys, in, parts().front().name)),
        blocks_(in / block_) {
    for (const LoraPart& part : parts()) {
      tensors_.add(peft_name(part, ".boft_R"), {factors_, blocks_, block_, block_}, trained);
      tensors_.add(peft_name(part, ".boft_s"), {part.out, 1}, trained);
      rotations_.add("", {factors_ * blocks_, block_, block_}, trained);
      outputs_ += part.out;
    }
    rebuild();
  }
  int64_t saved_width() const override { return outputs_; }
  // Of several factors the inputs, two rooms and two gradients of each but one; an output's gradient.
  int64_t scratch_width() const override { return in() * (factors_ == 1 ? 1 : 3 * factors_ + 2) + outputs_; }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }

  // s ∘ (W Rᵀ): the lowest factor first.
  void merge_into(Context& ctx, const Tensor& w, int part) const override {
    const size_t i = number(part);
    const size_t bytes = static_cast<size_t>(w.numel()) * sizeof(float);
    const Buffer memory(2 * bytes);
    const Tensor turned(memory.data(), Dtype::F32, {w.rows(), w.cols()}), out(turned.f32() + w.numel(), Dtype::F32, {w.rows(), w.cols()});
    for (int64_t f = 0; f < factors_; ++f) {
      if (f > 0) exchange(ctx, turned, w, f);
      multiply_blocks(ctx, out, f > 0 ? turned : w, factor(rotations_.value(i), f), true, false);
      if (f > 0) exchange_back(ctx, w, out, f);
      else
        for (int64_t o = 0; o < w.rows(); ++o) std::copy_n(out.f32() + o * w.cols(), w.cols(), w.f32() + o * w.row_stride);
    }
    for (int64_t o = 0; o < w.rows(); ++o)
      for (int64_t c = 0; c < w.cols(); ++c) w.f32()[o * w.row_stride + c] *= tensors_.value(2 * i + 1).f32()[o];
  }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    return [this, rotations = rotations_.value(i), s = tensors_.value(2 * i + 1).f32()](std::span<double> w, int64_t row) {
      std::vector<double> turned(w.size());
      double error = 0;
      for (int64_t f = 0; f < factors_; ++f) {
        for (size_t c = 0; c < w.size(); ++c) turned[place(static_cast<int64_t>(c), f)] = w[c];
        error = error * std::sqrt(static_cast<double>(block_)) + rotate_exactly(turned, factor(rotations, f));
        for (size_t c = 0; c < w.size(); ++c) w[c] = turned[place(static_cast<int64_t>(c), f)];
      }
      double most = 0;
      for (double& v : w) most = std::max(most, std::abs(v *= static_cast<double>(s[row])));
      return std::abs(static_cast<double>(s[row])) * error + 2 * 0x1p-24 * most;
    };
  }
  void initialise(Context&, uint64_t) override {  // R is the identity
    for (size_t i = 0; i < parts().size(); ++i) {
      std::fill_n(tensors_.value(2 * i).f32(), tensors_.value(2 * i).numel(), 0.0f);
      std::fill_n(tensors_.value(2 * i + 1).f32(), tensors_.value(2 * i + 1).numel(), 1.0f);
    }
    rebuild();
  }
  void refresh(Context&) override { rebuild(); }
  void finish_gradients(Context&) override {
    for (size_t i = 0; i < parts().size(); ++i) {
      const Tensor r = rotations_.value(i), d_r = rotations_.gradient(i), d_m = tensors_.gradient(2 * i);
      parallel_for(factors_ * blocks_, [&](int64_t k) {
        const int64_t square = k * block_ * block_;
        const std::vector<float> v = skew_of(tensors_.value(2 * i).f32() + square);
        std::vector<float> d_v(v.size());
        cayley_backward(d_v.data(), d_r.f32() + square, r.f32() + square, v.data(), block_, 0);
        std::fill_n(d_r.f32() + square, block_ * block_, 0.0f);  // the optimizer does not know it, and the next step adds to it
        float* d = d_m.f32() + square;
        for (int64_t row = 0, at = 0; row < block_; ++row)
          for (int64_t c = row + 1; c < block_; ++c, ++at) {
            d[row * block_ + c] += 0.5f * d_v[static_cast<size_t>(at)];
            d[c * block_ + row] -= 0.5f * d_v[static_cast<size_t>(at)];
          }
      });
    }
  }

 protected:
  const float* output_factors(size_t i) const override { return tensors_.value(2 * i + 1).f32(); }
  float* output_factor_gradients(size_t i) override { return tensors_.gradient(2 * i + 1).f32(); }

  void change(Context& ctx, const Tensor& out, const Tensor& x, size_t i, Arena& scratch) const override {
    const size_t mark = scratch.mark();
    const std::vector<Tensor> inputs = inputs_of_factors(ctx, x, i, scratch);
    multiply_blocks(ctx, out, inputs[0], factor(rotations_.value(i), 0), false, false);
    scratch.release(mark);
  }
  void change_backward(Context& ctx, const Tensor& d_x, const Tensor& d_out, const Tensor& x, size_t i, bool accumulate,
                       Arena& scratch) override {
    const size_t mark = scratch.mark();
    const std::vector<Tensor> inputs = inputs_of_factors(ctx, x, i, scratch);
    Tensor d = d_out;  // of a factor's output, its columns in the factor's order
    for (int64_t f = 0; f < factors_; ++f) {
      multiply_blocks_gradient(ctx, factor(rotations_.gradient(i), f), inputs[static_cast<size_t>(f)], d);
      if (f + 1 == factors_ && f == 0) {
        if (d_x.data) multiply_blocks(ctx, d_x, d, factor(rotations_.value(i), f), true, accumulate);
        break;
      }
      if (f + 1 == factors_ && !d_x.data) break;
      const Tensor d_in = f == 0 ? inputs[0] : scratch.take(x.dtype, {x.rows(), in()});  // inputs[0] is not asked for again
      multiply_blocks(ctx, d_in, d, factor(rotations_.value(i), f), true, false);
      Tensor back = d_in;
      if (f > 0) exchange_back(ctx, back = inputs[static_cast<size_t>(f)], d_in, f);
      if (f + 1 == factors_) {
        if (accumulate) add(ctx, d_x, d_x, back);
        else convert_rows(ctx, d_x, back);
        break;
      }
      exchange(ctx, d = scratch.take(x.dtype, {x.rows(), in()}), back, f + 1);
    }
    scratch.release(mark);
  }

 private:
  size_t number(int part) const { return part_number(parts(), part); }
  Tensor factor(const Tensor& rotations, int64_t f) const {
    return Tensor(rotations.f32() + f * blocks_ * block_ * block_, Dtype::F32, {blocks_, block_, block_});
  }
  int64_t groups(int64_t f) const { return blocks_ >> f; }
  void exchange(Context& ctx, const Tensor& to, const Tensor& x, int64_t f) const {
    exchange_pieces(ctx, to, x, 2, int64_t{1} << f, groups(f));
  }
  void exchange_back(Context& ctx, const Tensor& to, const Tensor& x, int64_t f) const {
    exchange_pieces(ctx, to, x, int64_t{1} << f, 2, groups(f));
  }
  // Where exchange puts a column.
  size_t place(int64_t column, int64_t f) const {
    if (f == 0) return static_cast<size_t>(column);
    const int64_t half = block_ / 2, pieces = int64_t{1} << (f + 1), piece = column / half % pieces, first = column / half - piece;
    return static_cast<size_t>((first + piece % (pieces / 2) * 2 + piece / (pieces / 2)) * half + column % half);
  }
  // What the blocks of each factor multiply: x for the only one, else room in scratch.
  std::vector<Tensor> inputs_of_factors(Context& ctx, const Tensor& x, size_t i, Arena& scratch) const {
    std::vector<Tensor> inputs(static_cast<size_t>(factors_));
    if (factors_ == 1) return {x};
    for (Tensor& input : inputs) input = scratch.take(x.dtype, {x.rows(), in()});
    const Tensor room = scratch.take(x.dtype, {x.rows(), in()}), other = scratch.take(x.dtype, {x.rows(), in()});
    Tensor from = x;
    for (int64_t f = factors_ - 1; f > 0; --f) {
      exchange(ctx, inputs[static_cast<size_t>(f)], from, f);
      multiply_blocks(ctx, room, inputs[static_cast<size_t>(f)], factor(rotations_.value(i), f), false, false);
      exchange_back(ctx, from = f > 1 ? other : inputs[0], room, f);
    }
    return inputs;
  }
  // The numbers above the diagonal of (M − Mᵀ) / 2.
  std::vector<float> skew_of(const float* m) const {
    std::vector<float> v;
    for (int64_t row = 0; row < block_; ++row)
      for (int64_t c = row + 1; c < block_; ++c) v.push_back(0.5f * (m[row * block_ + c] - m[c * block_ + row]));
    return v;
  }
  void rebuild() {
    for (size_t i = 0; i < parts().size(); ++i)
      parallel_for(factors_ * blocks_, [&](int64_t k) {
        const int64_t square = k * block_ * block_;
        cayley(rotations_.value(i).f32() + square, skew_of(tensors_.value(2 * i).f32() + square).data(), block_, 0);
      });
  }

  int64_t factors_, block_, blocks_, outputs_ = 0;
  MethodTensors tensors_, rotations_;  // M and s of each part; rotations [factors · blocks, b, b], and the gradient that gives that of M
};

class BoftMethod : public PeftMethod {
 public:
  explicit BoftMethod(const BoftKeys& keys) : keys_(keys) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    if (request.trained && keys_.dropout > 0)
      throw Error(ErrorKind::unsupported, fmt::format("training with boft_dropout {} is not built", keys_.dropout),
                  "set it to 0, in adapter_args or in the adapter's adapter_config.json");
    return std::make_unique<Boft>(keys_, request.base.in(), std::move(request.parts), request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig&) const override {
    json["boft_block_size"] = keys_.block_size;
    json["boft_block_num"] = keys_.blocks;
    json["boft_n_butterfly_factor"] = keys_.factors;
    json["boft_dropout"] = keys_.dropout;
    json["fan_in_fan_out"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override {
    return keys_.blocks ? fmt::format("BOFT, {} blocks", keys_.blocks) : fmt::format("BOFT, blocks of {}", keys_.block_size);
  }

 private:
  BoftKeys keys_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_boft(MethodKeys& keys, LoraConfig&) {
  BoftKeys k;
  k.block_size = keys.integer("boft_block_size", 4, 0, 65536);
  k.blocks = keys.integer("boft_block_num", 0, 0, 65536);
  if ((k.block_size == 0) == (k.blocks == 0))
    keys.wrong("boft_block_size",
               fmt::format("{} (boft_block_num) and boft_block_size to be 0 one and a number the other: each gives the other", k.blocks));
  k.factors = keys.integer("boft_n_butterfly_factor", 1, 1, 32);
  k.dropout = keys.share("boft_dropout");
  keys.without_effect({"init_weights"});
  return std::make_shared<BoftMethod>(k);
}

}  // namespace loraine
