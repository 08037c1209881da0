#include "loraine/core/gpu_costs.h"

#include "loraine/core/gpu.h"

namespace loraine {

bool GpuStream::begins(std::string_view name) {
  if (costs_) {
    if (!said_) next_ = {1, 0, 0, 0}, ++costs_->silent;
    costs_->ops[std::string(name)].add(next_);
  }
  said_ = false;
  return !dry_;
}

bool GpuStream::copies(size_t bytes) {
  if (costs_) ++costs_->copies, costs_->copied += static_cast<double>(bytes);
  return !dry_;
}

bool GpuStream::fills(size_t bytes) {
  if (costs_) ++costs_->fills, costs_->filled += static_cast<double>(bytes);
  return !dry_;
}

bool GpuStream::waits() {
  if (costs_) ++costs_->waits;
  return !dry_;
}

}  // namespace loraine
