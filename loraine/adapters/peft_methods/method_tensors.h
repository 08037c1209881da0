// Tensors of an adapter under PEFT's names, each with its gradient where it is trained. Used by the methods of this room.
#pragma once
#include <algorithm>
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"
#include "loraine/core/parallel.h"

namespace loraine {

class MethodTensors {
 public:
  virtual ~MethodTensors() = default;
  // As Adapter::refresh, where the tensors are those that all sites of a set share.
  virtual void refresh(Context&) {}
  // Whether PEFT's files have one of the tensors once more under this name.
  virtual bool repeats(const std::string&) const { return false; }
  // Zero-filled; F32, or I32 for what is not trained. name: as PEFT's file has it, with "base_model.model.". Gives its number. trained: it
  // gets a gradient.
  size_t add(std::string name, std::initializer_list<int64_t> shape, bool trained, Dtype type = Dtype::F32) {
    const auto memory = [&](std::vector<Buffer>& buffers) {
      Tensor t(nullptr, type, shape);
      t.data = buffers.emplace_back(t.bytes(), true).data();
      return t;
    };
    const Tensor value = memory(memory_);
    parameters_.push_back({std::move(name), value, trained ? memory(memory_) : Tensor()});
    return parameters_.size() - 1;
  }
  const Tensor& value(size_t i) const { return parameters_[i].value; }
  const Tensor& gradient(size_t i) const { return parameters_[i].gradient; }
  const std::vector<Parameter>& parameters() const { return parameters_; }

 private:
  std::vector<Buffer> memory_;
  std::vector<Parameter> parameters_;
};

// to [cols, rows] = fromᵀ, both F32 and contiguous.
inline void copy_turned(const Tensor& to, const Tensor& from) {
  const int64_t rows = from.rows(), cols = from.cols();
  const auto copy = [&](int64_t c) {
    for (int64_t row = 0; row < rows; ++row) to.f32()[c * rows + row] = from.f32()[row * cols + c];
  };
  parallel_for(cols, copy, 16384 / (rows + 1) + 1);
}

// The number among `parts` of the one that is the site's part `part`; how many they are where none is.
inline size_t part_number(const std::vector<LoraPart>& parts, int part) {
  return static_cast<size_t>(std::ranges::find(parts, part, &LoraPart::part) - parts.begin());
}

// "base_model.model.model.layers.0.self_attn.q_proj" + kind
inline std::string peft_name(const LoraPart& part, const char* kind) { return "base_model.model." + part.name + kind; }

}  // namespace loraine
