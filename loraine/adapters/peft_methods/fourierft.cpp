// A number σ at (u, v) adds σ / (out · in) · cos(2π (u o / out + v c / in)) to Δ[o, c], which is a product of rank 2: cos cos − sin sin. So
// Δ is never made, but in merges: y += D diag(σ, −σ) C x, with C [2n, in] and D [out, 2n] made once for all weights of one shape.
#include "loraine/adapters/peft_methods/fourierft.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <map>
#include <mutex>
#include <random>

#include "loraine/adapters/fill_values.h"
#include "loraine/core/error.h"
#include "loraine/core/parallel.h"
#include "loraine/core/torch_random.h"
#include "loraine/kernels/products/matmul.h"
#include "loraine/kernels/rows/columns.h"

namespace loraine {
namespace {

struct FourierKeys {
  int64_t n = 1000, seed = 777;
  double scaling = 150;
  bool zeros = false;                                     // init_weights
  std::vector<std::pair<std::string, int64_t>> patterns;  // n_frequency_pattern
};

// cos and sin of 2π k / n.
struct Circle {
  explicit Circle(int64_t n) : cosine(static_cast<size_t>(n)), sine(static_cast<size_t>(n)) {
    for (size_t k = 0; k < cosine.size(); ++k) {
      const double angle = 2 * std::acos(-1.0) * static_cast<double>(k) / static_cast<double>(n);
      cosine[k] = static_cast<float>(std::cos(angle));
      sine[k] = static_cast<float>(std::sin(angle));
    }
  }
  std::vector<float> cosine, sine;
};

// C and D of a shape.
struct FourierWaves {
  FourierWaves(int64_t out, int64_t in, int64_t n, uint64_t seed)
      : memory(static_cast<size_t>(2 * n * (in + out)) * sizeof(float)),
        c(memory.data(), Dtype::F32, {2 * n, in}),
        d(c.f32() + c.numel(), Dtype::F32, {out, 2 * n}) {
    const std::vector<int64_t> places = torch_randperm_first(out * in, n, seed);
    const Circle of_in(in), of_out(out);
    parallel_for(n, [&](int64_t f) {
      const int64_t v = places[static_cast<size_t>(f)] % in;
      for (int64_t i = 0; i < in; ++i) {
        c.f32()[f * in + i] = of_in.cosine[static_cast<size_t>(v * i % in)];
        c.f32()[(n + f) * in + i] = of_in.sine[static_cast<size_t>(v * i % in)];
      }
    });
    parallel_for(out, [&](int64_t o) {
      for (int64_t f = 0; f < n; ++f) {
        const size_t k = static_cast<size_t>(places[static_cast<size_t>(f)] / in * o % out);
        d.f32()[o * 2 * n + f] = of_out.cosine[k];
        d.f32()[o * 2 * n + n + f] = of_out.sine[k];
      }
    });
  }
  Buffer memory;
  Tensor c, d;
};

class Fourier : public Adapter {
 public:
  // waves: of each part
  Fourier(const FourierKeys& keys, int64_t in, std::vector<LoraPart> parts, std::vector<std::shared_ptr<const FourierWaves>> waves,
          uint64_t site, bool trained)
      : keys_(keys), in_(in), parts_(std::move(parts)), waves_(std::move(waves)), site_(site) {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const int64_t n = waves_[i]->c.rows() / 2;
      tensors_.add(peft_name(parts_[i], ".fourierft_spectrum"), {n}, trained);
      factors_.add("", {2 * n}, false);
      width_ += 2 * n;
      widest_ = std::max(widest_, 2 * n);
    }
    ones_.assign(static_cast<size_t>(widest_), 1.0f);
  }
  int64_t saved_width() const override { return width_; }  // C x
  int64_t scratch_width() const override { return widest_; }

  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor& saved, bool, Arena& scratch) const override {
    const size_t mark = scratch.mark();
    int64_t first = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor own = saved.col_range(first, waves_[i]->c.rows()), scaled = scratch.take(x.dtype, {x.rows(), own.cols()});
      matmul_nt(ctx, own, x, waves_[i]->c);
      scale_columns(ctx, scaled, own, factors_.value(i).f32());
      matmul_nt(ctx, y.col_range(parts_[i].offset, parts_[i].out), scaled, waves_[i]->d, 1, 1);
      first += own.cols();
      scratch.release(mark);
    }
  }
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor& saved, Arena& scratch) override {
    const size_t mark = scratch.mark();
    int64_t first = 0;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor own = saved.col_range(first, waves_[i]->c.rows()), d_scaled = scratch.take(x.dtype, {x.rows(), own.cols()});
      matmul_nn(ctx, d_scaled, d_y.col_range(parts_[i].offset, parts_[i].out), waves_[i]->d);
      std::vector<float> d_factors(static_cast<size_t>(own.cols()));
      column_dots(ctx, d_factors.data(), d_scaled, own, ones_.data());
      const size_t n = d_factors.size() / 2;
      for (size_t f = 0; f < n; ++f) tensors_.gradient(i).f32()[f] += scale(i) * (d_factors[f] - d_factors[n + f]);
      if (d_x.data) {
        scale_columns(ctx, d_scaled, d_scaled, factors_.value(i).f32());
        matmul_nn(ctx, d_x, d_scaled, waves_[i]->c, 1, 1);
      }
      first += own.cols();
      scratch.release(mark);
    }
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context& ctx, const Tensor& w, int part) const override {
    const size_t i = number(part);
    const Buffer memory(waves_[i]->c.bytes());
    const Tensor scaled(memory.data(), Dtype::F32, {waves_[i]->c.rows(), in_});
    scale_rows(scaled, i);
    matmul_nn(ctx, w, waves_[i]->d, scaled, 1, 1);
  }
  MergeRow exact_merge(int part) const override {
    const size_t i = number(part);
    const auto memory = std::make_shared<Buffer>(waves_[i]->c.bytes());
    const Tensor scaled(memory->data(), Dtype::F32, {waves_[i]->c.rows(), in_});
    scale_rows(scaled, i);
    return [memory, waves = waves_[i], product = ExactProduct(scaled, 1)](std::span<double> w, int64_t row) {
      return product.add(w, waves->d.f32() + row * waves->d.cols(), 1);
    };
  }
  // PEFT's default: numbers of a standard normal, so that a new adapter changes the model.
  void initialise(Context& ctx, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site_);
    for (const Parameter& p : tensors_.parameters())
      if (keys_.zeros) std::fill_n(p.value.f32(), p.value.numel(), 0.0f);
      else fill_normal(p.value, 1, random);
    refresh(ctx);
  }
  void refresh(Context&) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor from = tensors_.value(i);
      for (int64_t f = 0; f < from.numel(); ++f) {
        factors_.value(i).f32()[f] = scale(i) * from.f32()[f];
        factors_.value(i).f32()[from.numel() + f] = -scale(i) * from.f32()[f];
      }
    }
  }

 private:
  float scale(size_t i) const {
    return static_cast<float>(keys_.scaling / (static_cast<double>(parts_[i].out) * static_cast<double>(in_)));
  }
  size_t number(int part) const { return part_number(parts_, part); }
  // diag(σ, −σ) C of a part
  void scale_rows(const Tensor& out, size_t i) const {
    for (int64_t f = 0; f < out.rows(); ++f)
      for (int64_t c = 0; c < in_; ++c) out.f32()[f * in_ + c] = factors_.value(i).f32()[f] * waves_[i]->c.f32()[f * in_ + c];
  }

  FourierKeys keys_;
  int64_t in_, width_ = 0, widest_ = 0;
  std::vector<LoraPart> parts_;
  std::vector<std::shared_ptr<const FourierWaves>> waves_;
  uint64_t site_;
  MethodTensors tensors_, factors_;  // σ of each part; s / (out · in) · (σ, −σ)
  std::vector<float> ones_;
};

class FourierMethod : public PeftMethod {
 public:
  explicit FourierMethod(FourierKeys keys) : keys_(std::move(keys)) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    std::vector<std::shared_ptr<const FourierWaves>> waves;
    for (const LoraPart& part : request.parts) waves.push_back(waves_of(part.out, request.base.in(), count_of(part, request.base.in())));
    return std::make_unique<Fourier>(keys_, request.base.in(), std::move(request.parts), std::move(waves), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig&) const override {
    json["n_frequency"] = keys_.n;
    json["n_frequency_pattern"] = nlohmann::json::object();
    for (const auto& [name, count] : keys_.patterns) json["n_frequency_pattern"][name] = count;
    json["scaling"] = keys_.scaling;
    json["random_loc_seed"] = keys_.seed;
    json["fan_in_fan_out"] = false;
    json["init_weights"] = keys_.zeros;
  }
  std::string words() const override { return fmt::format("FourierFT, {} frequencies", keys_.n); }

 private:
  // PEFT's: the first pattern that fits the end of the path from a dot on, else the whole path.
  int64_t count_of(const LoraPart& part, int64_t in) const {
    int64_t count = keys_.n;
    const auto fits = [&](const auto& pattern) { return matches_whole(".*\\." + pattern.first, part.name); };
    auto found = std::ranges::find_if(keys_.patterns, fits);
    if (found == keys_.patterns.end()) found = std::ranges::find(keys_.patterns, part.name, &std::pair<std::string, int64_t>::first);
    if (found != keys_.patterns.end()) count = found->second;
    if (count > part.out * in)
      throw Error(ErrorKind::usage, fmt::format("{}: has {} × {} places, and n_frequency is {}", part.name, part.out, in, count),
                  "choose a smaller n_frequency, or n_frequency_pattern for this module");
    return count;
  }
  std::shared_ptr<const FourierWaves> waves_of(int64_t out, int64_t in, int64_t count) const {
    const std::scoped_lock lock(mutex_);
    std::weak_ptr<const FourierWaves>& kept = made_[{out, in, count}];
    std::shared_ptr<const FourierWaves> waves = kept.lock();
    if (!waves) kept = waves = std::make_shared<FourierWaves>(out, in, count, static_cast<uint64_t>(keys_.seed));
    return waves;
  }

  FourierKeys keys_;
  mutable std::mutex mutex_;
  mutable std::map<std::array<int64_t, 3>, std::weak_ptr<const FourierWaves>> made_;  // by out, in and count
};

}  // namespace

std::shared_ptr<PeftMethod> read_fourierft(MethodKeys& keys, LoraConfig&) {
  FourierKeys k;
  k.n = keys.integer("n_frequency", 1000, 1, int64_t{1} << 31);
  k.patterns = keys.counts("n_frequency_pattern", 1, int64_t{1} << 31);
  k.scaling = keys.number("scaling", 150, -1e9, 1e9);
  k.seed = keys.integer("random_loc_seed", 777, 0, UINT32_MAX);
  k.zeros = keys.boolean("init_weights", false);
  return std::make_shared<FourierMethod>(std::move(k));
}

}  // namespace loraine
