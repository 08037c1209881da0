// Tensors of an adapter under PEFT's names, each with its gradient where it is trained. Used by the methods of this room.
#pragma once
#include <string>
#include <vector>

#include "loraine/adapters/adapter.h"

namespace loraine {

class MethodTensors {
 public:
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

// "base_model.model.model.layers.0.self_attn.q_proj" + kind
inline std::string peft_name(const LoraPart& part, const char* kind) { return "base_model.model." + part.name + kind; }

}  // namespace loraine
