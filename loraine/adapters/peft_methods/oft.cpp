// OFT's blocks: made of their parameters when those have changed, multiplied with the input of a site.
#include "loraine/adapters/peft_methods/oft.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "loraine/adapters/peft_methods/cayley.h"
#include "loraine/adapters/peft_methods/input_adapter.h"
#include "loraine/core/parallel.h"
#include "loraine/kernels/structured/diagonal_blocks.h"

namespace loraine {
namespace {

struct OftKeys {
  int64_t r = 0, block_size = 32, terms = 5;  // one of r and block_size is 0; terms 0: exact
  int64_t neumann_terms = 5;                  // as the config has them
  bool share = false, neumann = true, coft = false;
  double eps = 6e-5, module_dropout = 0;
};

class Oft : public InputAdapter {
 public:
  Oft(const OftKeys& keys, int64_t in, std::vector<LoraPart> given, bool trained) : InputAdapter(in, std::move(given)), keys_(keys) {
    block_ = keys.r == 0 ? nearest_divisor(in, keys.block_size) : in / nearest_divisor(in, keys.r);
    blocks_ = keys.share ? 1 : in / block_;
    for (const LoraPart& part : parts()) {
      tensors_.add(peft_name(part, ".oft_R.weight"), {blocks_, block_ * (block_ - 1) / 2}, trained);
      rotations_.add("", {blocks_, block_, block_}, trained);
    }
    rebuild();
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }

  // W R row by row: w[k·b + j] becomes Σ_c w[k·b + c] R[k, j, c].
  void merge_into(Context& ctx, const Tensor& w, int part) const override {
    Buffer memory(static_cast<size_t>(w.numel()) * sizeof(float));
    const Tensor out(memory.data(), Dtype::F32, {w.rows(), w.cols()});
    multiply_blocks(ctx, out, w, rotations_.value(number(part)), true, false);
    for (int64_t o = 0; o < w.rows(); ++o) std::copy_n(out.f32() + o * w.cols(), w.cols(), w.f32() + o * w.row_stride);
  }
  MergeRow exact_merge(int part) const override {
    return [rotation = rotations_.value(number(part))](std::span<double> w, int64_t) { return rotate_exactly(w, rotation); };
  }
  void initialise(Context&, uint64_t) override { rebuild(); }  // all zero: R is the identity
  void refresh(Context&) override { rebuild(); }
  void finish_gradients(Context&) override {
    for (size_t i = 0; i < parts().size(); ++i) {
      const Tensor v = tensors_.value(i), d_v = tensors_.gradient(i), r = rotations_.value(i), d_r = rotations_.gradient(i);
      parallel_for(blocks_, [&](int64_t k) {
        const int64_t square = k * block_ * block_;
        cayley_backward(d_v.f32() + k * v.cols(), d_r.f32() + square, r.f32() + square, v.f32() + k * v.cols(), block_, keys_.terms);
        std::fill_n(d_r.f32() + square, block_ * block_, 0.0f);  // the optimizer does not know it, and the next step adds to it
      });
    }
  }

 protected:
  void change(Context& ctx, const Tensor& out, const Tensor& x, size_t i, Arena&) const override {
    multiply_blocks(ctx, out, x, rotations_.value(i), false, false);
  }
  void change_backward(Context& ctx, const Tensor& d_x, const Tensor& d_out, const Tensor& x, size_t i, bool accumulate, Arena&) override {
    multiply_blocks_gradient(ctx, rotations_.gradient(i), x, d_out);
    if (d_x.data) multiply_blocks(ctx, d_x, d_out, rotations_.value(i), true, accumulate);
  }

 private:
  size_t number(int part) const { return part_number(parts(), part); }

  void rebuild() {
    for (size_t i = 0; i < parts().size(); ++i) {
      const Tensor v = tensors_.value(i), r = rotations_.value(i);
      parallel_for(blocks_, [&](int64_t k) {
        float* own = v.f32() + k * v.cols();
        if (keys_.coft) project(own, v.cols());
        cayley(r.f32() + k * block_ * block_, own, block_, keys_.terms);
      });
    }
  }

  // coft: Q is kept at a norm of at most eps / √blocks.
  void project(float* v, int64_t n) const {
    double squares = 0;
    for (int64_t i = 0; i < n; ++i) squares += 2 * static_cast<double>(v[i]) * static_cast<double>(v[i]);
    const double most = keys_.eps / std::sqrt(static_cast<double>(blocks_)), norm = std::sqrt(squares);
    if (norm <= most) return;
    for (int64_t i = 0; i < n; ++i) v[i] = static_cast<float>(most * (static_cast<double>(v[i]) / norm));
  }

  OftKeys keys_;
  int64_t block_ = 0, blocks_ = 0;
  MethodTensors tensors_, rotations_;  // one per part; rotations [blocks, b, b] and the gradient that gives that of the tensors
};

class OftMethod : public PeftMethod {
 public:
  explicit OftMethod(const OftKeys& keys) : keys_(keys) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    return std::make_unique<Oft>(keys_, request.base.in(), std::move(request.parts), request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig&) const override {
    json["r"] = keys_.r;
    json["oft_block_size"] = keys_.block_size;
    json["module_dropout"] = keys_.module_dropout;
    json["coft"] = keys_.coft;
    json["eps"] = keys_.eps;
    json["block_share"] = keys_.share;
    json["use_cayley_neumann"] = keys_.neumann;
    json["num_cayley_neumann_terms"] = keys_.neumann_terms;
    json["fan_in_fan_out"] = false;
    json["init_weights"] = true;
  }
  std::string words() const override {
    return keys_.r ? fmt::format("OFT, {} blocks", keys_.r) : fmt::format("OFT, blocks of {}", keys_.block_size);
  }

 private:
  OftKeys keys_;
};

}  // namespace

int64_t nearest_divisor(int64_t columns, int64_t wanted) {
  if (wanted >= columns) return columns;
  int64_t above = wanted, below = wanted;
  while (columns % above) ++above;
  while (columns % below) --below;
  return wanted - below <= above - wanted ? below : above;
}

double rotate_exactly(std::span<double> w, const Tensor& blocks) {
  const std::vector<double> before(w.begin(), w.end());
  const int64_t b = blocks.shape[1];
  double most = 0;
  for (size_t i = 0; i < w.size(); ++i) {
    const int64_t k = static_cast<int64_t>(i) / b, j = static_cast<int64_t>(i) % b;
    const float* row = blocks.f32() + ((blocks.shape[0] == 1 ? 0 : k) * b + j) * b;
    double sum = 0, size = 0;
    for (int64_t c = 0; c < b; ++c) {
      const double product = before[static_cast<size_t>(k * b + c)] * static_cast<double>(row[c]);
      sum += product;
      size += std::abs(product);
    }
    w[i] = sum;
    most = std::max(most, size);
  }
  return static_cast<double>(b + 4) * 0x1p-24 * most;
}

std::shared_ptr<PeftMethod> read_oft(MethodKeys& keys, LoraConfig&) {
  OftKeys k;
  if (!keys.has("oft_block_size"))
    keys.wrong("oft_block_size", "a number: files of PEFT before 0.14 have another form of OFT, which is not built");
  k.r = keys.integer("r", 0, 0, 65536);
  k.block_size = keys.integer("oft_block_size", 32, 0, 65536);
  if ((k.r == 0) == (k.block_size == 0))
    keys.wrong("oft_block_size",
               fmt::format("{} (r, oft_rank) and oft_block_size to be 0 one and a number the other: each gives the other", k.r));
  k.module_dropout = keys.share("module_dropout");
  k.coft = keys.boolean("coft", false);
  k.eps = keys.number("eps", 6e-5, 0, 1e9);
  k.share = keys.boolean("block_share", false);
  k.neumann = keys.boolean("use_cayley_neumann", true);
  k.neumann_terms = keys.integer("num_cayley_neumann_terms", 5, 1, 64);
  k.terms = k.neumann ? k.neumann_terms : 0;
  keys.without_effect({"init_weights"});
  return std::make_shared<OftMethod>(k);
}

}  // namespace loraine
