// SHiRA's places and values.
#include "loraine/adapters/peft_methods/shira.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <random>

#include "loraine/core/error.h"
#include "loraine/core/torch_random.h"
#include "loraine/kernels/structured/sparse_rows.h"

namespace loraine {
namespace {

constexpr uint64_t kTorchSeed = 67280421310721;  // of a torch.Generator that nobody has seeded

struct ShiraKeys {
  std::optional<int64_t> random_seed;
  bool zero = true;  // PEFT's init_weights
};

class Shira : public Adapter {
 public:
  Shira(const ShiraKeys& keys, int64_t in, std::vector<LoraPart> given, uint64_t site, bool trained)
      : keys_(keys), in_(in), parts_(std::move(given)), site_(site) {
    for (const LoraPart& part : parts_) {
      const int64_t count = part.r * (in + part.out);
      tensors_.add(peft_name(part, ".shira_weight"), {count}, trained);
      tensors_.add(peft_name(part, ".shira_indices"), {2, count}, false, Dtype::I32);
      starts_.emplace_back(static_cast<size_t>(part.out) + 1);
      starts_.back().back() = static_cast<int32_t>(count);
    }
  }
  int64_t saved_width() const override { return 0; }
  void forward(Context& ctx, const Tensor& y, const Tensor& x, const Tensor&, bool, Arena&) const override {
    for (size_t i = 0; i < parts_.size(); ++i) multiply_sparse(ctx, columns_of(y, i), x, sparse(i));
  }
  void backward(Context& ctx, const Tensor& d_x, const Tensor& d_y, const Tensor& x, const Tensor&, Arena&) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor d = tensors_.gradient(2 * i);
      multiply_sparse_backward(ctx, d_x, {d.f32(), static_cast<size_t>(d.numel())}, columns_of(d_y, i), x, sparse(i));
    }
  }
  std::vector<Parameter> parameters() const override { return tensors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context&, const Tensor& w, int part) const override {
    const SparseRows s = sparse(number(part));
    for (int64_t o = 0; o < w.rows(); ++o)
      for (size_t k = begin_of(s, o); k < begin_of(s, o + 1); ++k) w.f32()[o * w.row_stride + s.columns[k]] += s.values[k];
  }
  MergeRow exact_merge(int part) const override {
    return [s = sparse(number(part))](std::span<double> w, int64_t row) {
      double most = 0;
      for (size_t k = begin_of(s, row); k < begin_of(s, row + 1); ++k) {
        double& v = w[static_cast<size_t>(s.columns[k])];
        v += static_cast<double>(s.values[k]);
        most = std::max(most, std::abs(v));
      }
      return 2 * 0x1p-24 * most;
    };
  }
  void initialise(Context& ctx, uint64_t seed) override {
    std::mt19937_64 random(seed * 1000003 + site_);
    std::normal_distribution<float> normal(0, 1);
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor values = tensors_.value(2 * i);
      const int64_t count = values.numel();
      std::vector<int64_t> places =
          torch_randperm_first(parts_[i].out * in_, count, keys_.random_seed ? static_cast<uint64_t>(*keys_.random_seed) : kTorchSeed);
      std::ranges::sort(places);
      int32_t* index = indices(i);
      for (int64_t k = 0; k < count; ++k) {
        index[k] = static_cast<int32_t>(places[static_cast<size_t>(k)] / in_);
        index[count + k] = static_cast<int32_t>(places[static_cast<size_t>(k)] % in_);
        values.f32()[k] = keys_.zero ? 0 : normal(random);
      }
    }
    refresh(ctx);
  }
  // Where rows start. Throws bad_data for places outside the weight or out of order.
  void refresh(Context&) override {
    for (size_t i = 0; i < parts_.size(); ++i) {
      const int64_t count = tensors_.value(2 * i).numel(), out = parts_[i].out;
      const int32_t *rows = indices(i), *columns = rows + count;
      int64_t before = -1, next = 0;  // rows below `next` have their start
      for (int64_t k = 0; k < count; ++k) {
        const int64_t place = static_cast<int64_t>(rows[k]) * in_ + columns[k];
        if (rows[k] < 0 || rows[k] >= out || columns[k] < 0 || columns[k] >= in_ || place <= before)
          throw Error(ErrorKind::bad_data,
                      fmt::format("{}.shira_indices: place {} is ({}, {}), expected places within [{}, {}], each once, row after row",
                                  parts_[i].name, k, rows[k], columns[k], out, in_),
                      "is the adapter's file damaged?");
        for (; next <= rows[k]; ++next) starts_[i][static_cast<size_t>(next)] = static_cast<int32_t>(k);
        before = place;
      }
      for (; next <= out; ++next) starts_[i][static_cast<size_t>(next)] = static_cast<int32_t>(count);
    }
  }

 private:
  static size_t begin_of(const SparseRows& s, int64_t row) { return static_cast<size_t>(s.starts[static_cast<size_t>(row)]); }
  Tensor columns_of(const Tensor& t, size_t i) const { return t.col_range(parts_[i].offset, parts_[i].out); }
  size_t number(int part) const { return static_cast<size_t>(std::ranges::find(parts_, part, &LoraPart::part) - parts_.begin()); }
  int32_t* indices(size_t i) const { return static_cast<int32_t*>(tensors_.value(2 * i + 1).data); }
  SparseRows sparse(size_t i) const {
    const Tensor values = tensors_.value(2 * i);
    const size_t count = static_cast<size_t>(values.numel());
    return {starts_[i], {indices(i) + count, count}, {values.f32(), count}, in_};
  }

  ShiraKeys keys_;
  int64_t in_;
  std::vector<LoraPart> parts_;
  uint64_t site_;
  MethodTensors tensors_;                     // values and places of each part
  std::vector<std::vector<int32_t>> starts_;  // of each part, the first place of each row, and the number of all
};

class ShiraMethod : public PeftMethod {
 public:
  explicit ShiraMethod(const ShiraKeys& keys) : keys_(keys) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    const int64_t in = request.base.in();
    for (const LoraPart& part : request.parts) {
      const int64_t all = in * part.out, count = part.r * (in + part.out);
      if (count > all)
        throw Error(ErrorKind::usage,
                    fmt::format("SHiRA: r is {}, which makes r (in + out) = {} places, and {} has {}", part.r, count, part.name, all),
                    fmt::format("set r to at most {}", all / (in + part.out)));
      if (all >= int64_t{0xffffffff} / 20)
        throw Error(ErrorKind::unsupported,
                    fmt::format("SHiRA: {} has {} weights, and torch draws places of so many otherwise", part.name, all),
                    "leave that module out of lora_target");
    }
    return std::make_unique<Shira>(keys_, in, std::move(request.parts), request.site, request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    json["r"] = config.r;
    json["mask_type"] = "random";
    json["random_seed"] = keys_.random_seed ? nlohmann::json(*keys_.random_seed) : nlohmann::json();
    json["fan_in_fan_out"] = false;
    json["init_weights"] = keys_.zero;
  }
  std::string words() const override { return "SHiRA"; }

 private:
  ShiraKeys keys_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_shira(MethodKeys& keys, LoraConfig& config) {
  ShiraKeys k;
  config.r = keys.integer("r", 32, 1, 65536);
  config.lora_alpha = static_cast<double>(config.r);
  keys.only("mask_type", "random", "another mask is a function of whoever trains, which no file holds");
  if (keys.has("random_seed")) k.random_seed = keys.integer("random_seed", 0, 0, INT64_MAX);
  else keys.without_effect({"random_seed"});
  k.zero = keys.boolean("init_weights", true);
  return std::make_shared<ShiraMethod>(k);
}

}  // namespace loraine
