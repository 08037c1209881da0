// What an objective is tested in: the memory of passes over a model with an adapter that trains, planned as a run plans it.
#pragma once
#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "loraine/model/decoder.h"
#include "loraine/train/objectives/objective.h"

namespace loraine {

struct ObjectiveMemory {
  // For batches of up to `rows` rows.
  ObjectiveMemory(const Model& model, const AdapterSet& set, const Objective& objective, int64_t rows, bool training = true)
      : sets{&set},
        memory(bytes(model, sets, rows)),
        scratch(std::max(scratch_bytes(model, rows, true, sets), objective.scratch_bytes(model, rows, &set))),
        activations(plan_activations(model, rows, true, sets, memory)),
        d_hidden(memory.take(Dtype::F32, {rows, model.config.hidden_size})),
        pass{&activations, nullptr, sets, &scratch, training} {}
  ObjectiveMemory(const ObjectiveMemory&) = delete;
  Tensor hidden(int64_t rows) const { return activations.hidden.row_range(0, rows); }

  std::vector<const AdapterSet*> sets;
  Arena memory, scratch;
  Activations activations;
  Tensor d_hidden;  // [rows, C] F32
  Pass pass;

 private:
  static size_t bytes(const Model& model, const std::vector<const AdapterSet*>& sets, int64_t rows) {
    Arena dry;
    plan_activations(model, rows, true, sets, dry);
    dry.take(Dtype::F32, {rows, model.config.hidden_size});
    return dry.peak();
  }
};

inline void zero_gradients(const std::vector<Parameter>& parameters) {
  for (const Parameter& p : parameters) std::fill_n(p.gradient.f32(), p.gradient.numel(), 0.0f);
}

inline std::map<std::string, std::vector<float>> gradients_of(const std::vector<Parameter>& parameters) {
  std::map<std::string, std::vector<float>> gradients;
  for (const Parameter& p : parameters) gradients[p.name] = {p.gradient.f32(), p.gradient.f32() + p.gradient.numel()};
  return gradients;
}

}  // namespace loraine
