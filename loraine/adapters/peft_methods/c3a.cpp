// C3A's kernels, their spectra, and what is made of both.
#include "loraine/adapters/peft_methods/c3a.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/core/error.h"
#include "loraine/kernels/structured/circulant.h"

namespace loraine {
namespace {

struct C3aKeys {
  int64_t block_size = 256;
  std::vector<std::pair<std::string, int64_t>> pattern;
  std::string start = "xavier_uniform";
};

// As PEFT looks a module up: the first pattern that begins a match behind a dot, or the whole path as a key.
int64_t block_size_of(const C3aKeys& keys, const std::string& path) {
  for (const auto& [pattern, size] : keys.pattern)
    if (matches_whole("(?:.*\\." + pattern + "$).*", path)) return size;
  for (const auto& [name, size] : keys.pattern)
    if (name == path) return size;
  return keys.block_size;
}

class C3a : public Adapter {
 public:
  C3a(const C3aKeys& keys, int64_t in, std::vector<LoraPart> given, uint64_t site, bool trained)
      : in_(in), parts_(std::move(given)), start_(keys.start), site_(site) {
    for (const LoraPart& part : parts_) {
      const int64_t b = block_size_of(keys, part.name);
      blocks_.push_back(b);
      tensors_.add(peft_name(part, ".c3a_kernel"), {part.out / b, in / b, b}, trained);
      spectra_.add("", {part.out / b, in / b, spectrum_width(b)}, trained);
    }
  }
  int64_t saved_width() const override { return 0; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor&, bool, Arena&) const override {
    for (size_t i = 0; i < parts_.size(); ++i) multiply_circulant(ctx, columns(y, i), x, spectra_.value(i), blocks_[i], scale());
  }
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor&, Arena&) override {
    for (size_t i = 0; i < parts_.size(); ++i)
      multiply_circulant_backward(ctx, d_x, spectra_.gradient(i), columns(d_y, i), x, spectra_.value(i), blocks_[i], scale());
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context&, const Tensor& w, int part) const override {
    const size_t i = number(part);
    for (int64_t o = 0; o < w.rows(); ++o)
      for (int64_t c = 0; c < in_; ++c) w.f32()[o * w.row_stride + c] += element(i, o, c) * scale();
  }
  MergeRow exact_merge(int part) const override {
    return [this, i = number(part)](std::span<double> w, int64_t row) {
      double most = 0;
      for (size_t c = 0; c < w.size(); ++c) {
        const double more = static_cast<double>(element(i, row, static_cast<int64_t>(c))) / static_cast<double>(in_);
        most = std::max(most, std::abs(w[c]) + std::abs(more));
        w[c] += more;
      }
      return 5 * 0x1p-24 * most;
    };
  }
  void initialise(Context& ctx, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site_);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor kernel = tensors_.value(i);
      const float in = static_cast<float>(in_), both = static_cast<float>(in_ + parts_[i].out);
      const float bound = start_ == "kaiming_uniform" ? std::sqrt(1 / in) : std::sqrt(6 / both);
      std::normal_distribution<float> normal(0, 1);
      std::uniform_real_distribution<float> uniform(-bound, bound);
      for (int64_t k = 0; k < kernel.numel(); ++k)
        kernel.f32()[k] = start_ == "true" ? 0 : start_ == "gaussian" ? normal(random) : uniform(random);
    }
    refresh(ctx);
  }
  void refresh(Context& ctx) override {
    for (size_t i = 0; i < parts_.size(); ++i) circulant_spectrum(ctx, spectra_.value(i), tensors_.value(i));
  }
  void finish_gradients(Context& ctx) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      circulant_spectrum_backward(ctx, tensors_.gradient(i), spectra_.gradient(i));
      std::fill_n(spectra_.gradient(i).f32(), spectra_.gradient(i).numel(),
                  0.0f);  // the optimizer does not know it; the next step adds to it
    }
  }

 private:
  float scale() const { return 1 / static_cast<float>(in_); }
  Tensor columns(const Tensor& t, size_t i) const { return t.col_range(parts_[i].offset, parts_[i].out); }
  size_t number(int part) const { return static_cast<size_t>(std::ranges::find(parts_, part, &LoraPart::part) - parts_.begin()); }
  float element(size_t i, int64_t o, int64_t c) const {  // of C
    const int64_t b = blocks_[i];
    return tensors_.value(i).f32()[(o / b * (in_ / b) + c / b) * b + (c % b - o % b + b) % b];
  }

  int64_t in_;
  std::vector<LoraPart> parts_;
  std::string start_;
  uint64_t site_;
  std::vector<int64_t> blocks_;
  MethodTensors tensors_, spectra_;  // of each part; the gradients of spectra give those of the kernels
};

class C3aMethod : public PeftMethod {
 public:
  explicit C3aMethod(C3aKeys keys) : keys_(std::move(keys)) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    const int64_t in = request.base.in();
    for (const LoraPart& part : request.parts) {
      const int64_t b = block_size_of(keys_, part.name);
      if (in % b || part.out % b)
        throw Error(ErrorKind::usage,
                    fmt::format("C3A: block_size is {}, and {} is [{}, {}]: it has to divide both sides", b, part.name, part.out, in),
                    "choose a common divisor, or give the module one of its own in block_size_pattern");
    }
    return std::make_unique<C3a>(keys_, in, std::move(request.parts), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig&) const override {
    json["block_size"] = keys_.block_size;
    json["block_size_pattern"] = nlohmann::json::object();
    for (const auto& [name, size] : keys_.pattern) json["block_size_pattern"][name] = size;
    json["init_weights"] = word_json(keys_.start);
  }
  std::string words() const override { return fmt::format("C3A, blocks of {}", keys_.block_size); }

 private:
  C3aKeys keys_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_c3a(MethodKeys& keys, LoraConfig&) {
  C3aKeys k;
  k.block_size = keys.integer("block_size", 256, 1, 65536);
  k.pattern = keys.counts("block_size_pattern", 1, 65536);
  k.start = keys.word("init_weights", "xavier_uniform", {"true", "false", "gaussian", "kaiming_uniform", "xavier_uniform"});
  return std::make_shared<C3aMethod>(std::move(k));
}

}  // namespace loraine
