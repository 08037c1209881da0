// Vectors on outputs, and vectors on inputs.
#include "loraine/adapters/peft_methods/ia3.h"

#include <fmt/format.h>

#include <algorithm>

#include "loraine/adapters/peft_methods/input_adapter.h"
#include "loraine/core/error.h"
#include "loraine/kernels/rows/columns.h"
#include "loraine/kernels/rows/elementwise.h"

namespace loraine {
namespace {

constexpr double kHalfStep = 0x1p-24;  // of f32 at 1

// A vector for each part of a site.
class Ia3Vectors {
 public:
  Ia3Vectors(const std::vector<LoraPart>& parts, int64_t in, bool of_input, bool trained) {
    for (const LoraPart& part : parts) {
      if (of_input) tensors_.add(peft_name(part, ".ia3_l"), {1, in}, trained);
      else tensors_.add(peft_name(part, ".ia3_l"), {part.out, 1}, trained);
    }
    ones_.assign(static_cast<size_t>(in), 1.0f);
    for (const LoraPart& part : parts) ones_.resize(std::max(ones_.size(), static_cast<size_t>(part.out)), 1.0f);
  }
  const float* values(size_t i) const { return tensors_.value(i).f32(); }
  float* gradients(size_t i) const { return tensors_.gradient(i).f32(); }
  const float* ones() const { return ones_.data(); }
  const std::vector<Parameter>& parameters() const { return tensors_.parameters(); }
  void start() const {
    for (const Parameter& p : parameters()) std::fill_n(p.value.f32(), p.value.numel(), 1.0f);
  }

 private:
  MethodTensors tensors_;
  std::vector<float> ones_;
};

class Ia3Output : public Adapter {
 public:
  Ia3Output(int64_t out, int64_t in, std::vector<LoraPart> parts, bool trained)
      : out_(out), parts_(std::move(parts)), vectors_(parts_, in, false, trained) {}
  int64_t saved_width() const override { return out_; }  // the base's output
  void forward(Context& ctx, const Tensor& y, const Tensor&, const Tensor& saved, bool, Arena&) const override {
    convert_rows(ctx, saved, y);
    for (size_t i = 0; i < parts_.size(); ++i) scale_columns(ctx, columns(y, i), columns(y, i), vectors_.values(i));
  }
  void backward(Context&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, Arena&) override {
    throw Error(ErrorKind::internal, "(IA)³ has no backward apart from its base's: site_backward does both");
  }
  void site_backward(Context& ctx, const Weight& base, const Tensor& d_x, const Tensor& d_y, const Tensor&, const Tensor& saved,
                     Arena& scratch) override {
    const size_t mark = scratch.mark();
    for (size_t i = 0; i < parts_.size(); ++i) column_dots(ctx, vectors_.gradients(i), columns(d_y, i), columns(saved, i), vectors_.ones());
    if (d_x.data) {
      const Tensor d_base = scratch.take(d_y.dtype, {d_y.rows(), out_});
      convert_rows(ctx, d_base, d_y);
      for (size_t i = 0; i < parts_.size(); ++i) scale_columns(ctx, columns(d_base, i), columns(d_y, i), vectors_.values(i));
      multiply_weight_backward(ctx, d_x, base, d_base, false);
    }
    scratch.release(mark);
  }
  std::vector<Parameter> parameters() const override { return vectors_.parameters(); }
  bool adapts(int part) const override { return number(part) < parts_.size(); }
  void merge_into(Context&, const Tensor& w, int part) const override {
    const float* l = vectors_.values(number(part));
    for (int64_t o = 0; o < w.rows(); ++o)
      for (int64_t j = 0; j < w.cols(); ++j) w.f32()[o * w.row_stride + j] *= l[o];
  }
  MergeRow exact_merge(int part) const override {
    return [l = vectors_.values(number(part))](std::span<double> w, int64_t row) {
      double largest = 0;
      for (double& v : w) largest = std::max(largest, std::abs(v *= static_cast<double>(l[row])));
      return 2 * kHalfStep * largest;
    };
  }
  const float* bias_factors(int part) const override { return vectors_.values(number(part)); }
  void initialise(Context&, uint64_t) override { vectors_.start(); }

 private:
  Tensor columns(const Tensor& t, size_t i) const { return t.col_range(parts_[i].offset, parts_[i].out); }
  size_t number(int part) const { return part_number(parts_, part); }

  int64_t out_;
  std::vector<LoraPart> parts_;
  Ia3Vectors vectors_;
};

class Ia3Input : public InputAdapter {
 public:
  Ia3Input(int64_t in, std::vector<LoraPart> parts, bool trained)
      : InputAdapter(in, std::move(parts)), vectors_(this->parts(), in, true, trained) {}
  std::vector<Parameter> parameters() const override { return vectors_.parameters(); }
  void merge_into(Context&, const Tensor& w, int part) const override {
    const float* l = values_of(part);
    for (int64_t o = 0; o < w.rows(); ++o)
      for (int64_t j = 0; j < w.cols(); ++j) w.f32()[o * w.row_stride + j] *= l[j];
  }
  MergeRow exact_merge(int part) const override {
    return [l = values_of(part)](std::span<double> w, int64_t) {
      double largest = 0;
      for (size_t j = 0; j < w.size(); ++j) largest = std::max(largest, std::abs(w[j] *= static_cast<double>(l[j])));
      return 2 * kHalfStep * largest;
    };
  }
  void initialise(Context&, uint64_t) override { vectors_.start(); }

 protected:
  void change(Context& ctx, const Tensor& out, const Tensor& x, size_t i, Arena&) const override {
    scale_columns(ctx, out, x, vectors_.values(i));
  }
  void change_backward(Context& ctx, const Tensor& d_x, const Tensor& d_out, const Tensor& x, size_t i, bool accumulate, Arena&) override {
    column_dots(ctx, vectors_.gradients(i), d_out, x, vectors_.ones());
    if (d_x.data) scale_columns(ctx, d_x, d_out, vectors_.values(i), nullptr, accumulate);
  }

 private:
  const float* values_of(int part) const { return vectors_.values(part_number(parts(), part)); }
  Ia3Vectors vectors_;
};

bool names_one(const std::vector<std::string>& names, const std::string& path) {
  return std::ranges::any_of(names, [&](const std::string& name) { return path == name || path.ends_with("." + name); });
}

class Ia3 : public PeftMethod {
 public:
  explicit Ia3(std::vector<std::string> feedforward) : feedforward_(std::move(feedforward)) {}
  std::unique_ptr<Adapter> make(SiteRequest request, const LoraConfig&) const override {
    const auto of_input = [&](const LoraPart& part) { return names_one(feedforward_, part.name); };
    const bool input = of_input(request.parts.front());
    for (const LoraPart& part : request.parts)
      if (of_input(part) != input)
        throw Error(ErrorKind::unsupported,
                    fmt::format("feedforward_modules names one of {} and {}, which are one weight, and not the other: that is not built",
                                request.parts.front().name, part.name),
                    "name both or neither");
    if (input) return std::make_unique<Ia3Input>(request.base.in(), std::move(request.parts), request.trained);
    return std::make_unique<Ia3Output>(request.base.out(), request.base.in(), std::move(request.parts), request.trained);
  }
  void write_keys(nlohmann::json& json, const LoraConfig& config) const override {
    std::vector<std::string> names = feedforward_;  // PEFT takes only such as are targets by the same words
    if (config.target_regex.empty()) std::erase_if(names, [&](const std::string& name) { return !names_one(config.target_modules, name); });
    json["feedforward_modules"] = names;
    json["fan_in_fan_out"] = false;
    json["init_ia3_weights"] = true;
  }
  std::string words() const override { return "(IA)³"; }

 private:
  std::vector<std::string> feedforward_;
};

}  // namespace

std::shared_ptr<PeftMethod> read_ia3(MethodKeys& keys, LoraConfig&) {
  keys.without_effect({"init_ia3_weights"});
  return std::make_shared<Ia3>(keys.names("feedforward_modules", {"down_proj"}));
}

}  // namespace loraine
