// Moments in one buffer, parameters in the order of their names.
#include "loraine/train/optimizer.h"

#include <cmath>
#include <cstring>

#include "loraine/core/error.h"

namespace loraine {

bool decays(const std::string& name) {
  for (size_t first = 0; first <= name.size();) {
    const size_t end = std::min(name.find('.', first), name.size());
    const std::string part = name.substr(first, end - first);
    for (const char* word : {"bias", "layernorm", "rmsnorm"})
      if (part.find(word) != std::string::npos) return false;
    if (part == "norm" || part.ends_with("_norm")) return false;
    first = end + 1;
  }
  return true;
}

Optimizer::Optimizer(std::vector<Parameter> parameters) : parameters_(std::move(parameters)) {
  std::erase_if(parameters_, [](const Parameter& p) { return !p.gradient.data; });
  size_t elements = 0;
  for (const Parameter& p : parameters_) elements += static_cast<size_t>(p.value.numel());
  memory_ = Buffer(2 * elements * sizeof(float), true);
  float* next = static_cast<float*>(memory_.data());
  for (const Parameter& p : parameters_) {
    int64_t n = p.value.numel();
    moments_.push_back({p.name, Tensor(next, Dtype::F32, {p.value.rows(), p.value.cols()}),
                        Tensor(next + n, Dtype::F32, {p.value.rows(), p.value.cols()})});
    next += 2 * n;
  }
}

void Optimizer::zero_gradients() {
  for (const Parameter& p : parameters_) std::memset(p.gradient.data, 0, p.gradient.bytes());
}

double Optimizer::gradient_norm(Context& ctx) const {
  double sum = 0;
  for (const Parameter& p : parameters_) sum += sum_of_squares(ctx, p.gradient);
  return std::sqrt(sum);
}

void Optimizer::set_rate_factors(std::vector<double> factors) {
  if (factors.size() != parameters_.size()) throw Error(ErrorKind::internal, "one rate factor per parameter is needed");
  rate_factors_ = std::move(factors);
}

float Optimizer::clip_scale(double norm, double max_norm) {
  return max_norm > 0 ? static_cast<float>(std::min(1.0, max_norm / (norm + 1e-6))) : 1.0f;
}

void Optimizer::step(Context& ctx, const AdamW& options, double norm, double max_norm) {
  const float scale = clip_scale(norm, max_norm);
  for (size_t i = 0; i < parameters_.size(); ++i) {
    AdamW own = options;
    if (!rate_factors_.empty()) own.learning_rate = static_cast<float>(options.learning_rate * rate_factors_[i]);
    if (!decays(parameters_[i].name)) own.weight_decay = 0;
    adamw(ctx, parameters_[i].value, moments_[i].m, moments_[i].v, parameters_[i].gradient, scale, own);
  }
}

}  // namespace loraine
